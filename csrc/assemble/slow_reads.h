#pragma once

#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace penstock {

/// Remembers whether reads have lately waited for a disk: then what comes next is better asked for before it
/// is needed.
///
/// thread-safe
class SlowReads {
 public:
  /// A read took so long.
  void note(std::int64_t nanoseconds) noexcept {
    if (nanoseconds > kFromADisk) until_ns_.store(now_ns() + kAWhile, std::memory_order_relaxed);
  }

  [[nodiscard]] bool lately() const noexcept { return until_ns_.load(std::memory_order_relaxed) > now_ns(); }

 private:
  static constexpr std::int64_t kFromADisk = 200'000;  ///< longer than any out of memory
  static constexpr std::int64_t kAWhile = 1'000'000'000;

  std::atomic<std::int64_t> until_ns_{0};
};

}  // namespace penstock
