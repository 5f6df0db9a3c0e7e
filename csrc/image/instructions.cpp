#include "image/instructions.h"

namespace penstock {
namespace {

#if defined(__x86_64__) && defined(__GNUC__)
bool has_avx512() noexcept {
  return __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}
#endif

}  // namespace

Instructions best_instructions() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  if (has_avx512()) return Instructions::kAvx512;
  if (__builtin_cpu_supports("avx2") != 0) return Instructions::kAvx2;
  if (__builtin_cpu_supports("sse4.1") != 0) return Instructions::kSse4;
#endif
  return Instructions::kPortable;
}

}  // namespace penstock
