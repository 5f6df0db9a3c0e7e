#include "formats/npy.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/npy_descr.h"
#include "formats/py_literal.h"

namespace penstock {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kMostHeaderBytes = 10'000;
constexpr std::size_t kLongestPreamble = 12;

using Kind = PyLiteral::Kind;
using Shape = std::vector<std::int64_t>;

// --- the preamble: magic, version, length of the header's text --------------------------------------

struct Preamble {
  unsigned major_version = 0;
  std::uint64_t text_begin = 0;
  std::uint64_t text_end = 0;  ///< where the data begins
};

void require_prefix(Bytes prefix, std::uint64_t size, std::uint64_t total_bytes) {
  if (in_bounds(prefix.size(), 0, size)) return;
  throw format_error("the header is cut short")
      .needed(bytes_text(size))
      .found(bytes_text(std::min<std::uint64_t>(prefix.size(), total_bytes)));
}

unsigned version_of(Bytes prefix) {
  const auto major_version = std::to_integer<unsigned>(prefix[kMagic.size()]);
  const auto minor_version = std::to_integer<unsigned>(prefix[kMagic.size() + 1]);
  if (major_version >= 1 && major_version <= 3 && minor_version == 0) return major_version;
  throw format_error("an unknown version of the .npy format")
      .at_offset(kMagic.size())
      .needed("version 1.0, 2.0 or 3.0")
      .found(std::to_string(major_version) + "." + std::to_string(minor_version));
}

Preamble parse_preamble(Bytes prefix, std::uint64_t total_bytes) {
  require_prefix(prefix, kMagic.size() + 4, total_bytes);
  if (!as_text(prefix).starts_with(kMagic)) throw format_error("it does not begin with the magic of .npy");
  Preamble preamble;
  preamble.major_version = version_of(prefix);
  const bool short_length = preamble.major_version == 1;
  preamble.text_begin = kMagic.size() + (short_length ? 4 : 6);
  require_prefix(prefix, preamble.text_begin, total_bytes);
  const std::uint64_t length = short_length ? load_le<std::uint16_t>(prefix, kMagic.size() + 2)
                                            : load_le<std::uint32_t>(prefix, kMagic.size() + 2);
  preamble.text_end = preamble.text_begin + length;
  if (length > kMostHeaderBytes) {
    throw format_error("the header is too long")
        .needed("at most " + bytes_text(kMostHeaderBytes))
        .found(bytes_text(length))
        .hint("numpy.load has the same limit: store fewer fields.");
  }
  if (!in_bounds(total_bytes, 0, preamble.text_end)) {
    throw format_error("the header is cut short")
        .needed(bytes_text(preamble.text_end))
        .found(bytes_text(total_bytes));
  }
  return preamble;
}

// --- the header -------------------------------------------------------------------------------------

struct Header {
  NpyElement element;
  NpyOrder order = NpyOrder::kC;
  Shape shape;
};

void require_exact_keys(const PyLiteral& dict) {
  const std::set<std::string_view> keys(dict.keys.begin(), dict.keys.end());
  if (keys == std::set<std::string_view>{"descr", "fortran_order", "shape"}) return;
  std::string found;
  for (const std::string_view key : keys) found += (found.empty() ? "" : ", ") + quoted_text(key);
  throw format_error("the header has the wrong keys")
      .at_offset(dict.offset)
      .needed("exactly 'descr', 'fortran_order' and 'shape'")
      .found(found.empty() ? "none" : found);
}

Header parse_header(std::string_view text, const Preamble& preamble) {
  const bool latin1 = preamble.major_version < 3;
  if (!latin1 && !is_utf8(text)) throw format_error("the header is not UTF-8").at_offset(preamble.text_begin);
  const PyLiteral dict =
      parse_py_literal(text, preamble.text_begin, latin1 ? PyDialect::kPython2 : PyDialect::kPython3);
  if (!dict.is(Kind::kDict)) throw format_error("the header is no dict").at_offset(dict.offset);
  require_exact_keys(dict);
  const PyLiteral& order = *dict.find("fortran_order");
  const PyLiteral& shape = *dict.find("shape");
  const PyLiteral& descr = *dict.find("descr");
  if (!order.is(Kind::kBool))
    throw format_error("the header's fortran_order is no bool").at_offset(order.offset);
  if (!shape.is(Kind::kTuple)) throw format_error("the header's shape is no tuple").at_offset(shape.offset);
  if (descr.is(Kind::kTuple)) throw format_error("the header's descr is a subarray").at_offset(descr.offset);
  Header header;
  header.element = parse_npy_descr(descr, latin1);
  header.order = order.integer != 0 ? NpyOrder::kFortran : NpyOrder::kC;
  header.shape = parse_npy_shape(shape);
  return header;
}

std::string wanted_text(const Shape& shape, std::uint64_t item_bytes, std::uint64_t file_bytes) {
  const std::string whole = " (" + bytes_text(file_bytes) + " with the header)";
  if (shape.empty()) return "one item of " + bytes_text(item_bytes) + whole;
  const std::uint64_t row_bytes = npy_array_bytes({shape.begin() + 1, shape.end()}, item_bytes);
  return std::to_string(shape[0]) + (shape[0] == 1 ? " row of " : " rows of ") + bytes_text(row_bytes) +
         whole;
}

void require_data(const Header& header, std::uint64_t data_bytes, std::uint64_t data_begin,
                  std::uint64_t total_bytes) {
  const auto end = checked_add(data_begin, data_bytes);
  if (!end) throw npy_too_large(header.shape, header.element.bytes);
  if (in_bounds(total_bytes, 0, *end)) return;
  throw format_error("the data is cut short")
      .needed(wanted_text(header.shape, header.element.bytes, *end))
      .found(bytes_text(total_bytes));
}

void refuse(FileLayout& layout, const NpyPart& part, bool in_pickle) {
  const std::string reason =
      in_pickle ? "lies beside a field of Python objects, which makes all of the data a pickle, "
                  "and Penstock never executes one; save the fields as arrays of their own"
                : part.refusal;
  layout.refused.push_back({part.name, reason});
}

ArrayLayout array_layout(NpyPart part, std::uint64_t data_begin) {
  ArrayLayout array;
  array.name = std::move(part.name);
  array.dtype = *part.dtype;
  array.byte_swapped = part.byte_swapped;
  array.offset = has_no_elements(part.shape) ? data_begin : data_begin + part.offset;
  array.shape = std::move(part.shape);
  array.strides = std::move(part.strides);
  return array;
}

FileLayout lay_out(const Header& header, std::uint64_t data_begin, std::uint64_t total_bytes) {
  NpyElement whole = repeated(header.element, header.shape, header.order);
  if (!whole.has_objects) require_data(header, whole.bytes, data_begin, total_bytes);
  FileLayout layout;
  layout.format = "npy";
  layout.container = whole.structured ? Container::kMapping : Container::kArray;
  for (NpyPart& part : whole.parts) {
    if (whole.has_objects || !part.dtype) {
      refuse(layout, part, part.dtype.has_value());
    } else {
      layout.arrays.push_back(array_layout(std::move(part), data_begin));
    }
  }
  return layout;
}

}  // namespace

FileLayout parse_npy(const ByteSource& file) {
  const auto first = file.read(0, std::min<std::uint64_t>(file.size(), kLongestPreamble));
  const Preamble preamble = parse_preamble(first, file.size());
  return parse_npy_header(file.read(0, preamble.text_end), file.size());
}

FileLayout parse_npy_header(Bytes prefix, std::uint64_t total_bytes) {
  const Preamble preamble = parse_preamble(prefix, total_bytes);
  require_prefix(prefix, preamble.text_end, total_bytes);
  const auto text = as_text(prefix).substr(preamble.text_begin, preamble.text_end - preamble.text_begin);
  const Header header = parse_header(text, preamble);
  return lay_out(header, preamble.text_end, total_bytes);
}

}  // namespace penstock
