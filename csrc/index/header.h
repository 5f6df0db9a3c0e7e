#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "formats/layout.h"
#include "formats/raw.h"

namespace penstock {

/// What a file holds, by its header; or, where `raw` is given, by what the user says. A lone array without a
/// name gets one, so that formats may be mixed.
///
/// \throws Error kFormat, kSchema, kShard; without the path
[[nodiscard]] FileLayout read_header(const ByteSource& file, const std::optional<RawFormat>& raw);

/// A file's values that are no arrays, which no sample has.
struct LeftOut {
  std::string path;
  std::vector<OtherValue> values;
};

/// \throws Error kSchema when the file holds a value of that name that is no array
void refuse_other(const FileLayout& layout, const std::string& name);

/// How a row's elements lie: dtype, dimensions from `first_dim` on, for comparisons and messages.
[[nodiscard]] std::string rows_text(const ArrayLayout& array, std::size_t first_dim);

/// Whether the byte order of the elements is not this machine's.
[[nodiscard]] bool is_swapped(const ArrayLayout& array) noexcept;

}  // namespace penstock
