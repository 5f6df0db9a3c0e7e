#include "image/instructions.h"

namespace penstock {

Instructions best_instructions() noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx2") != 0) return Instructions::kAvx2;
  if (__builtin_cpu_supports("sse4.1") != 0) return Instructions::kSse4;
#endif
  return Instructions::kPortable;
}

}  // namespace penstock
