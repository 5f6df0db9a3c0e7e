#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "image/pipeline.h"

namespace penstock {

/// Sizes of images, as they come to be known: 8 bytes each.
///
/// thread-safe; a forked child has its own copy
class ImageSizes {
 public:
  explicit ImageSizes(std::int64_t count) : sizes_(static_cast<std::size_t>(count)) {}

  /// Nothing where it is not known. \pre in range
  [[nodiscard]] std::optional<ImagePlan::Size> find(std::int64_t image) const noexcept {
    const std::uint64_t both = sizes_[static_cast<std::size_t>(image)].load(std::memory_order_relaxed);
    if (both == kUnknown) return std::nullopt;
    return ImagePlan::Size{static_cast<std::int32_t>(both >> 32U), static_cast<std::int32_t>(both)};
  }

  /// \pre neither side is negative
  void remember(std::int64_t image, ImagePlan::Size size) noexcept {
    const auto both = static_cast<std::uint64_t>(size.width) << 32U | static_cast<std::uint64_t>(size.height);
    sizes_[static_cast<std::size_t>(image)].store(both, std::memory_order_relaxed);
  }

  void forget(std::int64_t image) noexcept { remember(image, {0, 0}); }

 private:
  static constexpr std::uint64_t kUnknown = 0;  ///< no image is so small

  std::vector<std::atomic<std::uint64_t>> sizes_;
};

}  // namespace penstock
