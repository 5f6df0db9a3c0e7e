#pragma once

#include <sys/stat.h>

#include <cstdint>

namespace penstock {

/// When a file or folder was last changed, in ns since 1970.
[[nodiscard]] inline std::int64_t modified_ns(const struct stat& status) noexcept {
#ifdef __APPLE__
  const timespec& time = status.st_mtimespec;
#else
  const timespec& time = status.st_mtim;
#endif
  constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
  return static_cast<std::int64_t>(time.tv_sec) * kNanosecondsPerSecond + time.tv_nsec;
}

}  // namespace penstock
