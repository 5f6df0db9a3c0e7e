#pragma once

#include <cstdint>

#include "image/pixels.h"

namespace penstock {

/// Whether an EXIF orientation exchanges rows and columns.
[[nodiscard]] constexpr bool swaps_sides(std::int32_t orientation) noexcept { return orientation >= 5; }

/// Where a part of the upright image lies in the stored one.
///
/// \param width, height  of the stored image
[[nodiscard]] Rect stored_part(const Rect& upright, std::int32_t orientation, std::int32_t width,
                               std::int32_t height) noexcept;

/// Turns stored pixels upright, as `PIL.ImageOps.exif_transpose` does.
///
/// \returns the pixels in `out`; those of `in` where orientation is 1
[[nodiscard]] PixelView upright(const PixelView& in, std::int32_t orientation, PixelBuffer& out);

}  // namespace penstock
