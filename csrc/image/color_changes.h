#pragma once

#include <cstdint>
#include <span>

#include "image/pixels.h"

namespace penstock {

/// One change of colors, as Pillow makes it: `ImageEnhance`, and torchvision's `adjust_hue` of its images.
struct ColorChange {
  enum class Kind : std::uint8_t {
    kBrightness,  ///< `factor` times the pixel
    kContrast,    ///< away from the mean gray of the image
    kSaturation,  ///< away from the pixel's own gray
    kHue,         ///< turned by `factor`, -0.5 to 0.5 of the circle
    kGray,        ///< its own gray
  };

  Kind kind = Kind::kBrightness;
  double factor = 1;

  [[nodiscard]] bool operator==(const ColorChange&) const = default;
};

/// Makes the changes in place, one after the other. Pillow's pixels to the byte.
///
/// \pre finite factors, of a hue from -1 to 1; 1 or 3 channels of 8 bits; one channel is gray, which has no
/// saturation and no hue
void change_colors(const PixelView& pixels, std::span<const ColorChange> changes) noexcept;

}  // namespace penstock
