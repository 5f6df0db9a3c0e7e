#include "index/header.h"

#include <bit>
#include <vector>

#include "base/error.h"
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

void refuse_other(const FileLayout& layout, const std::string& name) {
  for (const OtherValue& other : layout.others) {
    if (other.name != name) continue;
    throw Error(ErrorKind::kSchema, "this value is no tensor")
        .in_field(name)
        .needed("one")
        .found(other.kind == "int" ? "an int" : "a " + std::string(other.kind))
        .hint("Save it as one, such as torch.tensor(value).");
  }
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
