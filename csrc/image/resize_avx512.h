#pragma once

#include <cstdint>

#include "image/pixels.h"
#include "image/resize_weights.h"

namespace penstock {

// The passes of resize_passes.h, for samples of 8 bits. \pre the processor has Instructions::kAvx512

/// \pre in.type.lanes() == 4; weights.quads().are_dense()
void resize_rows_avx512(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                        const PixelView& out) noexcept;

void resize_columns_avx512(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                           const PixelView& out) noexcept;

}  // namespace penstock
