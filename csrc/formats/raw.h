#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "formats/layout.h"

namespace penstock {

/// What the user says of a file without a header: little-endian rows of one shape, end to end.
struct RawFormat {
  DType dtype = DType::kUInt8;
  std::vector<std::int64_t> row_shape;
  std::uint64_t offset = 0;  ///< bytes to skip at the start of every file
};

/// As many rows as the file holds.
///
/// \throws Error kFormat when the offset lies outside the file or the rest is no whole number of rows;
///         kSchema when the row shape is negative, empty of bytes, or too large
[[nodiscard]] FileLayout raw_layout(const RawFormat& raw, std::uint64_t file_bytes);

}  // namespace penstock
