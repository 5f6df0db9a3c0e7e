#include "formats/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "formats/py_literal.h"
#include "formats/zip.h"

namespace penstock {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::uint64_t kMostHeaderBytes = 10'000;
constexpr std::uint64_t kMostItemBytes = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t kMostDimensions = 64;
constexpr std::size_t kLongestPreamble = 12;

using Kind = PyLiteral::Kind;
using Shape = std::vector<std::int64_t>;

std::string bytes_text(std::uint64_t count) {
  return std::to_string(count) + (count == 1 ? " byte" : " bytes");
}

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

// --- text -------------------------------------------------------------------------------------------

std::string utf8_from_latin1(std::string_view text) {
  std::string utf8;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      utf8 += c;
    } else {
      utf8 += static_cast<char>(0xC0U | (byte >> 6U));
      utf8 += static_cast<char>(0x80U | (byte & 0x3FU));
    }
  }
  return utf8;
}

// --- dtypes: what one element holds -----------------------------------------------------------------

/// A scalar or subarray inside an element: the whole of it, or a field.
struct Part {
  std::string name;
  std::optional<DType> dtype;  ///< nothing: refused
  std::string refusal;
  bool byte_swapped = false;
  Shape shape;
  Shape strides;
  std::uint64_t offset = 0;
};

struct Element {
  std::uint64_t bytes = 0;
  bool structured = false;
  bool opaque = false;       ///< numpy's void without fields, which pads when it has no name
  bool has_objects = false;  ///< then the data is a pickle, fields of numbers included
  std::vector<Part> parts;
};

struct ScalarName {
  std::string_view name;
  DType dtype;
};

constexpr std::array kCodes = {
    ScalarName{"b1", DType::kBool},        ScalarName{"?", DType::kBool},
    ScalarName{"i1", DType::kInt8},        ScalarName{"b", DType::kInt8},
    ScalarName{"u1", DType::kUInt8},       ScalarName{"B", DType::kUInt8},
    ScalarName{"i2", DType::kInt16},       ScalarName{"h", DType::kInt16},
    ScalarName{"u2", DType::kUInt16},      ScalarName{"H", DType::kUInt16},
    ScalarName{"i4", DType::kInt32},       ScalarName{"i", DType::kInt32},
    ScalarName{"u4", DType::kUInt32},      ScalarName{"I", DType::kUInt32},
    ScalarName{"i8", DType::kInt64},       ScalarName{"q", DType::kInt64},
    ScalarName{"u8", DType::kUInt64},      ScalarName{"Q", DType::kUInt64},
    ScalarName{"f2", DType::kFloat16},     ScalarName{"e", DType::kFloat16},
    ScalarName{"f4", DType::kFloat32},     ScalarName{"f", DType::kFloat32},
    ScalarName{"f8", DType::kFloat64},     ScalarName{"d", DType::kFloat64},
    ScalarName{"c8", DType::kComplex64},   ScalarName{"F", DType::kComplex64},
    ScalarName{"c16", DType::kComplex128}, ScalarName{"D", DType::kComplex128},
};

constexpr std::array kWords = {
    ScalarName{"bool", DType::kBool},           ScalarName{"int8", DType::kInt8},
    ScalarName{"uint8", DType::kUInt8},         ScalarName{"int16", DType::kInt16},
    ScalarName{"uint16", DType::kUInt16},       ScalarName{"int32", DType::kInt32},
    ScalarName{"uint32", DType::kUInt32},       ScalarName{"int64", DType::kInt64},
    ScalarName{"uint64", DType::kUInt64},       ScalarName{"int", DType::kInt64},
    ScalarName{"uint", DType::kUInt64},         ScalarName{"float16", DType::kFloat16},
    ScalarName{"half", DType::kFloat16},        ScalarName{"float32", DType::kFloat32},
    ScalarName{"single", DType::kFloat32},      ScalarName{"float64", DType::kFloat64},
    ScalarName{"double", DType::kFloat64},      ScalarName{"float", DType::kFloat64},
    ScalarName{"complex64", DType::kComplex64}, ScalarName{"complex128", DType::kComplex128},
    ScalarName{"complex", DType::kComplex128},
};

template <std::size_t N>
std::optional<DType> look_up(const std::array<ScalarName, N>& names, std::string_view wanted) {
  const auto found =
      std::find_if(names.begin(), names.end(), [&](const auto& each) { return each.name == wanted; });
  if (found == names.end()) return std::nullopt;
  return found->dtype;
}

/// The count after a code such as S12; nothing when there is anything else than digits.
std::optional<std::uint64_t> item_count(std::string_view digits) {
  std::uint64_t count = 0;
  if (digits.empty()) return count;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), count);
  if (error != std::errc() || end != digits.data() + digits.size() || count > kMostItemBytes)
    return std::nullopt;
  return count;
}

Element refused_element(std::uint64_t bytes, std::string reason) {
  Element element;
  element.bytes = bytes;
  element.parts.emplace_back();
  element.parts.back().refusal = std::move(reason);
  return element;
}

Element object_element() {
  Element element =
      refused_element(8,
                      "is a pickle, which Penstock never executes; load it with numpy and save it as "
                      "an array of numbers");
  element.has_objects = true;
  return element;
}

std::optional<Element> text_element(std::string_view code) {
  const auto count = item_count(code.substr(1));
  if (!count) return std::nullopt;
  if (code[0] == 'U') {
    return refused_element(4 * *count,
                           "holds text, which torch cannot hold; save numbers (token ids, labels) instead");
  }
  return refused_element(*count,
                         "holds byte strings, which torch cannot hold; save numbers instead, or the bytes by "
                         ".view(numpy.uint8)");
}

std::optional<Element> void_element(std::string_view code) {
  const auto count = item_count(code.substr(1));
  if (!count) return std::nullopt;
  Element element =
      refused_element(*count,
                      "holds raw bytes (void), which torch cannot hold; save it by .view of an integer "
                      "dtype (bfloat16 of ml_dtypes is saved like this)");
  element.opaque = true;
  return element;
}

std::optional<Element> time_element(std::string_view code) {
  const std::string_view unit = code.substr(2);
  if (!unit.empty() && !(unit.front() == '[' && unit.back() == ']')) return std::nullopt;
  return refused_element(8, "holds times, which torch cannot hold; save it by .view(numpy.int64)");
}

std::optional<Element> long_double_element(std::string_view code) {
  if (code != "f16" && code != "g" && code != "c32" && code != "G") return std::nullopt;
  const bool complex = code == "c32" || code == "G";
  return refused_element(complex ? 32 : 16,
                         "holds long doubles, which torch cannot hold; save it by .astype(numpy." +
                             std::string(complex ? "complex128)" : "float64)"));
}

/// An element of a dtype that numpy knows and torch does not; nothing for any other.
std::optional<Element> foreign_element(std::string_view code) {
  if (code.empty()) return std::nullopt;
  if (code.starts_with("M8") || code.starts_with("m8")) return time_element(code);
  switch (code.front()) {
    case 'O':
      return item_count(code.substr(1)) ? std::optional(object_element()) : std::nullopt;
    case 'S':
    case 'a':
    case 'U':
      return text_element(code);
    case 'V':
      return void_element(code);
    default:
      return long_double_element(code);
  }
}

Element torch_element(DType dtype, bool big_endian) {
  Element element;
  element.bytes = static_cast<std::uint64_t>(item_bytes(dtype));
  element.parts.emplace_back();
  element.parts.back().dtype = dtype;
  element.parts.back().byte_swapped = big_endian && swap_bytes(dtype) > 1;
  return element;
}

Element scalar_element(const PyLiteral& descr) {
  std::string_view code = descr.text;
  if (const auto dtype = look_up(kWords, code)) return torch_element(*dtype, false);
  if (code == "object") return object_element();
  const bool big_endian = code.starts_with('>');
  if (!code.empty() && std::string_view("<>=|").find(code.front()) != code.npos) code.remove_prefix(1);
  if (const auto dtype = look_up(kCodes, code)) return torch_element(*dtype, big_endian);
  if (auto element = foreign_element(code)) return *std::move(element);
  throw format_error("an unknown dtype in the header")
      .at_offset(descr.offset)
      .needed("a dtype string such as '<f4'")
      .found(py_quoted(descr.text));
}

// --- shapes -----------------------------------------------------------------------------------------

std::int64_t parse_length(const PyLiteral& literal) {
  if (!literal.is(Kind::kInt))
    throw format_error("the shape holds something else than whole numbers").at_offset(literal.offset);
  if (literal.integer >= 0) return literal.integer;
  throw format_error("the shape has a negative dimension")
      .at_offset(literal.offset)
      .found(std::to_string(literal.integer));
}

Shape parse_shape(const PyLiteral& literal) {
  if (literal.items.size() > kMostDimensions) {
    throw format_error("too many dimensions")
        .at_offset(literal.offset)
        .needed("at most " + std::to_string(kMostDimensions))
        .found(std::to_string(literal.items.size()));
  }
  Shape shape;
  for (const PyLiteral& length : literal.items) shape.push_back(parse_length(length));
  return shape;
}

/// What stands in a descr: one length without brackets is a shape too.
Shape parse_subarray_shape(const PyLiteral& literal) {
  if (literal.is(Kind::kInt)) return {parse_length(literal)};
  if (literal.is(Kind::kTuple) || literal.is(Kind::kList)) return parse_shape(literal);
  throw format_error("the shape of a field is no tuple").at_offset(literal.offset);
}

bool has_no_elements(const Shape& shape) { return std::find(shape.begin(), shape.end(), 0) != shape.end(); }

enum class Order : std::uint8_t { kC, kFortran };

std::optional<Shape> strides_of(Shape shape, Order order, std::uint64_t item_bytes) {
  if (order == Order::kFortran) std::reverse(shape.begin(), shape.end());
  auto strides = contiguous_strides(shape, static_cast<std::int64_t>(item_bytes));
  if (strides && order == Order::kFortran) std::reverse(strides->begin(), strides->end());
  return strides;
}

[[noreturn]] void fail_too_large(const Shape& shape, std::uint64_t item_bytes) {
  throw format_error("the header wants an impossibly large array")
      .found("shape " + shape_text(shape) + " of items of " + bytes_text(item_bytes));
}

std::uint64_t total_bytes_of(const Shape& shape, std::uint64_t item_bytes) {
  std::uint64_t total = item_bytes;
  for (const std::int64_t length : shape) {
    const auto product = checked_multiply(total, static_cast<std::uint64_t>(length));
    if (!product) fail_too_large(shape, item_bytes);
    total = *product;
  }
  return total;
}

/// Puts the dimensions of an array of elements in front of those of their parts.
///
/// \returns one element that is that whole array
Element repeated(Element element, const Shape& shape, Order order) {
  const auto strides = strides_of(shape, order, element.bytes);
  if (!strides) fail_too_large(shape, element.bytes);
  element.bytes = has_no_elements(shape) ? 0 : total_bytes_of(shape, element.bytes);
  for (Part& part : element.parts) {
    part.shape.insert(part.shape.begin(), shape.begin(), shape.end());
    part.strides.insert(part.strides.begin(), strides->begin(), strides->end());
    if (part.shape.size() > kMostDimensions) {
      throw format_error("too many dimensions").in_field(part.name).found(shape_text(part.shape));
    }
  }
  return element;
}

// --- structured dtypes ------------------------------------------------------------------------------

/// Reads a descr. single-owner
class DescrReader {
 public:
  explicit DescrReader(bool latin1) : latin1_(latin1) {}

  [[nodiscard]] Element element(const PyLiteral& descr) const {
    if (descr.is(Kind::kString)) return scalar_element(descr);
    if (descr.is(Kind::kList)) return structure(descr);
    if (descr.is(Kind::kTuple) && descr.items.size() == 2) return subarray(descr.items[0], descr.items[1]);
    throw format_error("the header's descr is no dtype").at_offset(descr.offset);
  }

 private:
  struct FieldName {
    std::string name;
    std::optional<std::string> title;
  };

  [[nodiscard]] Element subarray(const PyLiteral& descr, const PyLiteral& shape) const {
    Element inner = element(descr);
    const Shape lengths = parse_subarray_shape(shape);
    if (lengths.empty()) return inner;
    inner = repeated(std::move(inner), lengths, Order::kC);
    inner.opaque = true;
    return inner;
  }

  [[nodiscard]] Element structure(const PyLiteral& descr) const {
    Element whole;
    whole.structured = true;
    std::set<std::string> seen;
    for (const PyLiteral& field : descr.items) add_field(whole, field, seen);
    return whole;
  }

  void add_field(Element& whole, const PyLiteral& field, std::set<std::string>& seen) const {
    const bool is_field = (field.is(Kind::kTuple) || field.is(Kind::kList)) &&
                          (field.items.size() == 2 || field.items.size() == 3);
    if (!is_field)
      throw format_error("a field is no (name, dtype) or (name, dtype, shape)").at_offset(field.offset);
    const FieldName name = field_name(field.items[0]);
    Element inner =
        field.items.size() == 3 ? subarray(field.items[1], field.items[2]) : element(field.items[1]);
    const std::uint64_t offset = whole.bytes;
    whole.bytes += inner.bytes;
    if (whole.bytes > kMostItemBytes || inner.bytes > kMostItemBytes) {
      throw format_error("the header wants elements of over 2 GiB").at_offset(field.offset);
    }
    whole.has_objects = whole.has_objects || inner.has_objects;
    if (name.name.empty() && inner.opaque) return;
    for (const auto* each : {&name.name, name.title ? &*name.title : nullptr}) {
      if (each != nullptr && !seen.insert(*each).second) fail_twice(*each, field.offset);
    }
    add_parts(whole, std::move(inner), name.name, offset);
  }

  static void add_parts(Element& whole, Element inner, const std::string& name, std::uint64_t offset) {
    for (Part& part : inner.parts) {
      part.name = inner.structured ? name + "." + part.name : name;
      part.offset += offset;
      whole.parts.push_back(std::move(part));
    }
  }

  [[nodiscard]] FieldName field_name(const PyLiteral& literal) const {
    if (literal.is(Kind::kString)) return {decoded(literal.text), std::nullopt};
    if (literal.is(Kind::kTuple) && literal.items.size() == 2 && literal.items[1].is(Kind::kString)) {
      const PyLiteral& title = literal.items[0];
      const std::string name = decoded(literal.items[1].text);
      if (title.is(Kind::kString)) return {name, decoded(title.text)};
      if (title.is(Kind::kNone)) return {name, std::nullopt};
    }
    throw format_error("the name of a field is neither a string nor a (title, name)")
        .at_offset(literal.offset);
  }

  [[nodiscard]] std::string decoded(const std::string& text) const {
    return latin1_ ? utf8_from_latin1(text) : text;
  }

  [[noreturn]] static void fail_twice(const std::string& name, std::uint64_t offset) {
    throw format_error("two fields have the same name or title").in_field(name).at_offset(offset);
  }

  bool latin1_;
};

void require_unique_names(const std::vector<Part>& parts) {
  std::set<std::string_view> seen;
  for (const Part& part : parts) {
    if (seen.insert(part.name).second) continue;
    throw format_error("two fields have the same name once the names of nested fields are joined")
        .in_field(part.name);
  }
}

// --- the header -------------------------------------------------------------------------------------

struct Header {
  Element element;
  Order order = Order::kC;
  Shape shape;
};

void require_exact_keys(const PyLiteral& dict) {
  const std::set<std::string_view> keys(dict.keys.begin(), dict.keys.end());
  if (keys == std::set<std::string_view>{"descr", "fortran_order", "shape"}) return;
  std::string found;
  for (const std::string_view key : keys) found += (found.empty() ? "" : ", ") + py_quoted(key);
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
  header.element = DescrReader(latin1).element(descr);
  header.order = order.integer != 0 ? Order::kFortran : Order::kC;
  header.shape = parse_shape(shape);
  require_unique_names(header.element.parts);
  return header;
}

std::string wanted_text(const Shape& shape, std::uint64_t item_bytes, std::uint64_t file_bytes) {
  const std::string whole = " (" + bytes_text(file_bytes) + " with the header)";
  if (shape.empty()) return "one item of " + bytes_text(item_bytes) + whole;
  const std::uint64_t row_bytes = total_bytes_of({shape.begin() + 1, shape.end()}, item_bytes);
  return std::to_string(shape[0]) + (shape[0] == 1 ? " row of " : " rows of ") + bytes_text(row_bytes) +
         whole;
}

void require_data(const Header& header, std::uint64_t data_bytes, std::uint64_t data_begin,
                  std::uint64_t total_bytes) {
  const auto end = checked_add(data_begin, data_bytes);
  if (!end) fail_too_large(header.shape, header.element.bytes);
  if (in_bounds(total_bytes, 0, *end)) return;
  throw format_error("the data is cut short")
      .needed(wanted_text(header.shape, header.element.bytes, *end))
      .found(bytes_text(total_bytes));
}

void refuse(FileLayout& layout, const Part& part, bool in_pickle) {
  const std::string reason =
      in_pickle ? "lies beside a field of Python objects, which makes all of the data a pickle, "
                  "and Penstock never executes one; save the fields as arrays of their own"
                : part.refusal;
  layout.refused.push_back({part.name, reason});
}

ArrayLayout array_layout(Part part, std::uint64_t data_begin) {
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
  Element whole = repeated(header.element, header.shape, header.order);
  if (!whole.has_objects) require_data(header, whole.bytes, data_begin, total_bytes);
  FileLayout layout;
  layout.format = "npy";
  layout.container = whole.structured ? Container::kMapping : Container::kArray;
  for (Part& part : whole.parts) {
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
