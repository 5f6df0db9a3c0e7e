#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace penstock {

/// 64 bits that tell bytes from damaged ones, at the speed of memory. Whatever happens to one byte, or to
/// eight at a multiple of eight, is found; of other damage all but one in 2**64, if chance did it. Not made
/// against malice.
[[nodiscard]] std::uint64_t checksum(Bytes bytes) noexcept;

}  // namespace penstock
