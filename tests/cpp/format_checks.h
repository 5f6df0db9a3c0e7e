#pragma once

// What the tests of all formats share.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "formats/layout.h"

namespace penstock::testing {

using Numbers = std::vector<std::int64_t>;

/// `value` as `bytes` little-endian bytes, zeros from the ninth on.
inline std::string le(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i, value >>= 8U) text += static_cast<char>(value & 0xFFU);
  return text;
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// What `call` throws.
template <typename Call>
Error error_from(const Call& call) {
  try {
    (void)call();
  } catch (const Error& error) {
    return error;
  }
  FAIL("no error");
  return format_error("");
}

/// What `parse` said when it refused; "accepted" when it did not.
template <typename Parse>
std::string refusal_of(const Parse& parse) {
  try {
    (void)parse();
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::kFormat);
    return error.problem();
  }
  return "accepted";
}

/// Checks what ArrayLayout promises of every array.
inline void check_in_bounds(const FileLayout& layout, std::uint64_t file_bytes) {
  for (const ArrayLayout& array : layout.arrays) {
    REQUIRE(array.strides.size() == array.shape.size());
    const auto span = spanned_bytes(array.shape, array.strides, item_bytes(array.dtype));
    REQUIRE(span.has_value());
    const std::uint64_t total = array.deflated ? array.deflated->inflated_bytes : file_bytes;
    REQUIRE(in_bounds(total, array.offset, span.value_or(0)));
    if (array.deflated) {
      REQUIRE(in_bounds(file_bytes, array.deflated->offset, array.deflated->compressed_bytes));
    }
  }
}

/// Whether `parse` accepts a file of any bytes. Checks that it gives a layout in bounds or an error.
template <typename Parse>
bool accepts_soundly(const Parse& parse, std::uint64_t file_bytes) {
  try {
    check_in_bounds(parse(), file_bytes);
    return true;
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::kFormat);
    REQUIRE_FALSE(error.problem().empty());
    return false;
  }
}

}  // namespace penstock::testing
