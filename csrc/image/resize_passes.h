#pragma once

#include <cstdint>

#include "image/instructions.h"
#include "image/pixels.h"
#include "image/resize_weights.h"

namespace penstock {

/// Both passes are Pillow's: fixed point with 22 fractional bits, rounded, clipped to a sample after each
/// pass; 16-bit samples in double precision.
///
/// `origin` is the input pixel that the view's first one is: the view may be a part, as long as it holds
/// weights.needed(). `in` and `out` are of one type and lie in different PixelBuffers; `out` is all of its
/// buffer. Up to PixelBuffer::kSlack bytes behind a row are read, and written.

/// \pre out.width == weights.size(), out.height == in.height
void resize_rows(const PixelView& in, std::int32_t origin, const AxisWeights& weights, const PixelView& out,
                 Instructions instructions) noexcept;

/// \pre out.height == weights.size(), out.width == in.width
void resize_columns(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                    const PixelView& out, Instructions instructions) noexcept;

}  // namespace penstock
