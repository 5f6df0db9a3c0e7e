#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace penstock {

/// The orientation that EXIF data (a TIFF header and what follows) tells, 1 to 8; 1 where it tells none.
[[nodiscard]] std::int32_t exif_orientation(Bytes tiff) noexcept;

}  // namespace penstock
