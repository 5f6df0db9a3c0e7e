#include "index/header.h"

#include <bit>
#include <vector>

#include "formats/detect.h"

namespace penstock {
namespace {

/// What a lone array without a name is called.
constexpr const char* kLoneArray = "data";

}  // namespace

FileLayout read_header(const ByteSource& file, const std::optional<RawFormat>& raw) {
  FileLayout layout = raw ? raw_layout(*raw, file.size()) : parse_file(file);
  if (layout.container != Container::kArray) return layout;
  for (ArrayLayout& array : layout.arrays) array.name = kLoneArray;
  for (RefusedArray& refused : layout.refused) refused.name = kLoneArray;
  return layout;
}

std::string rows_text(const ArrayLayout& array, std::size_t first_dim) {
  const std::vector<std::int64_t> shape(array.shape.begin() + static_cast<std::ptrdiff_t>(first_dim),
                                        array.shape.end());
  return std::string(dtype_name(array.dtype)) + (first_dim > 0 ? " rows" : "") + " of " + shape_text(shape);
}

bool is_swapped(const ArrayLayout& array) noexcept {
  return array.byte_swapped != (std::endian::native == std::endian::big);
}

}  // namespace penstock
