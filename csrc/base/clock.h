#pragma once

#include <chrono>
#include <cstdint>

namespace penstock {

/// The monotonic clock, in ns: what Python's `time.perf_counter_ns` reads.
[[nodiscard]] inline std::int64_t now_ns() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace penstock
