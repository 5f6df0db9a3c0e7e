#include "storage/limits.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <fstream>

namespace penstock {
namespace {

/// A count that never passes its limit.
class Budget {
 public:
  bool take(std::int64_t limit) noexcept {
    if (used_.fetch_add(1, std::memory_order_relaxed) < limit) return true;
    give_back();
    return false;
  }
  void give_back() noexcept { used_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> used_{0};
};

std::int64_t mapping_limit() {
  constexpr std::int64_t kMost = 16384;
  constexpr std::int64_t kLinuxDefault = 65530;
  std::int64_t allowed = kLinuxDefault;
  if (std::ifstream file("/proc/sys/vm/max_map_count"); file) file >> allowed;
  return std::min(kMost, allowed / 4);
}

std::int64_t descriptor_limit() noexcept {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  constexpr rlim_t kMost = 65536;
  return static_cast<std::int64_t>(std::min(limit.rlim_cur, kMost) / 2);
}

const std::int64_t kMostMappings = mapping_limit();

Budget mappings;     // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
Budget descriptors;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

}  // namespace

bool take_mapping() noexcept { return mappings.take(kMostMappings); }

void give_mapping_back() noexcept { mappings.give_back(); }

bool take_descriptor() noexcept { return descriptors.take(descriptor_limit()); }

void give_descriptor_back() noexcept { descriptors.give_back(); }

}  // namespace penstock
