#pragma once

#include "image/pixels.h"

namespace penstock {

/// Pillow's gray: by ITU-R 601-2, in 16-bit fixed point. Of 16-bit samples: unsigned.
template <typename Number>
[[nodiscard]] constexpr Number luma(Number red, Number green, Number blue) noexcept {
  return (red * Number{19595} + green * Number{38470} + blue * Number{7471} + Number{0x8000}) >> 16U;
}

/// Conversions as Pillow's `Image.convert` makes them, to the byte, in place. 8-bit samples.
///
/// \pre the channels that the name says

/// RGB or RGBA to L. \returns the same memory, one channel
[[nodiscard]] PixelView rgb_to_l(const PixelView& pixels) noexcept;

/// CMYK (0: no ink) to RGB.
[[nodiscard]] PixelView cmyk_to_rgb(const PixelView& pixels) noexcept;

/// Every sample to 255 - sample.
void invert(const PixelView& pixels) noexcept;

/// Colors times alpha: what Pillow resizes in place of RGBA and LA, so that what cannot be seen does not
/// show.
void premultiply(const PixelView& pixels) noexcept;
void unpremultiply(const PixelView& pixels) noexcept;

/// 16-bit samples: 0.2989 R + 0.587 G + 0.114 B in 16-bit fixed point, with the weights of rgb_to_l.
[[nodiscard]] PixelView rgb16_to_l(const PixelView& pixels) noexcept;

}  // namespace penstock
