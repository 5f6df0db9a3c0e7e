#include "formats/npy_descr.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/text.h"
#include "formats/layout.h"

namespace penstock {
namespace {

using Kind = PyLiteral::Kind;
using Shape = std::vector<std::int64_t>;

constexpr std::size_t kMostDimensions = 64;

// --- shapes -------------------------------------------------------------------------------------------

std::int64_t parse_length(const PyLiteral& literal) {
  if (!literal.is(Kind::kInt))
    throw format_error("the shape holds something else than whole numbers").at_offset(literal.offset);
  if (literal.integer >= 0) return literal.integer;
  throw format_error("the shape has a negative dimension")
      .at_offset(literal.offset)
      .found(std::to_string(literal.integer));
}

/// What stands in a descr: one length without brackets is a shape too.
Shape parse_subarray_shape(const PyLiteral& literal) {
  if (literal.is(Kind::kInt)) return {parse_length(literal)};
  if (literal.is(Kind::kTuple) || literal.is(Kind::kList)) return parse_npy_shape(literal);
  throw format_error("the shape of a field is no tuple").at_offset(literal.offset);
}

std::optional<Shape> strides_of(Shape shape, NpyOrder order, std::uint64_t item_bytes) {
  if (order == NpyOrder::kFortran) std::reverse(shape.begin(), shape.end());
  auto strides = contiguous_strides(shape, static_cast<std::int64_t>(item_bytes));
  if (strides && order == NpyOrder::kFortran) std::reverse(strides->begin(), strides->end());
  return strides;
}

// --- structured dtypes ------------------------------------------------------------------------------

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

NpyElement scalar(const PyLiteral& descr) {
  if (auto element = npy_scalar(descr.text)) return *std::move(element);
  throw format_error("an unknown dtype in the header")
      .at_offset(descr.offset)
      .needed("a dtype string such as '<f4'")
      .found(quoted_text(descr.text));
}

/// Reads a descr. single-owner
class DescrReader {
 public:
  explicit DescrReader(bool latin1) : latin1_(latin1) {}

  [[nodiscard]] NpyElement element(const PyLiteral& descr) const {
    if (descr.is(Kind::kString)) return scalar(descr);
    if (descr.is(Kind::kList)) return structure(descr);
    if (descr.is(Kind::kTuple) && descr.items.size() == 2) return subarray(descr.items[0], descr.items[1]);
    throw format_error("the header's descr is no dtype").at_offset(descr.offset);
  }

 private:
  struct FieldName {
    std::string name;
    std::optional<std::string> title;
  };

  [[nodiscard]] NpyElement subarray(const PyLiteral& descr, const PyLiteral& shape) const {
    NpyElement inner = element(descr);
    const Shape lengths = parse_subarray_shape(shape);
    if (lengths.empty()) return inner;
    inner = repeated(std::move(inner), lengths, NpyOrder::kC);
    inner.opaque = true;
    return inner;
  }

  [[nodiscard]] NpyElement structure(const PyLiteral& descr) const {
    NpyElement whole;
    whole.structured = true;
    std::set<std::string> seen;
    for (const PyLiteral& field : descr.items) add_field(whole, field, seen);
    return whole;
  }

  void add_field(NpyElement& whole, const PyLiteral& field, std::set<std::string>& seen) const {
    const bool is_field = (field.is(Kind::kTuple) || field.is(Kind::kList)) &&
                          (field.items.size() == 2 || field.items.size() == 3);
    if (!is_field)
      throw format_error("a field is no (name, dtype) or (name, dtype, shape)").at_offset(field.offset);
    const FieldName name = field_name(field.items[0]);
    NpyElement inner =
        field.items.size() == 3 ? subarray(field.items[1], field.items[2]) : element(field.items[1]);
    const std::uint64_t offset = whole.bytes;
    whole.bytes += inner.bytes;
    if (whole.bytes > kMaxNpyElementBytes || inner.bytes > kMaxNpyElementBytes) {
      throw format_error("the header wants elements of over 2 GiB").at_offset(field.offset);
    }
    whole.has_objects = whole.has_objects || inner.has_objects;
    if (name.name.empty() && inner.opaque) return;
    for (const auto* each : {&name.name, name.title ? &*name.title : nullptr}) {
      if (each != nullptr && !seen.insert(*each).second) fail_twice(*each, field.offset);
    }
    add_parts(whole, std::move(inner), name.name, offset);
  }

  static void add_parts(NpyElement& whole, NpyElement inner, const std::string& name, std::uint64_t offset) {
    for (NpyPart& part : inner.parts) {
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

void require_unique_names(const std::vector<NpyPart>& parts) {
  std::set<std::string_view> seen;
  for (const NpyPart& part : parts) {
    if (seen.insert(part.name).second) continue;
    throw format_error("two fields have the same name once the names of nested fields are joined")
        .in_field(part.name);
  }
}

}  // namespace

Shape parse_npy_shape(const PyLiteral& literal) {
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

bool has_no_elements(const Shape& shape) { return std::find(shape.begin(), shape.end(), 0) != shape.end(); }

Error npy_too_large(const Shape& shape, std::uint64_t item_bytes) {
  return format_error("the header wants an impossibly large array")
      .needed("an array of fewer than 2**63 bytes")
      .found("shape " + shape_text(shape) + " of items of " + bytes_text(item_bytes));
}

std::uint64_t npy_array_bytes(const Shape& shape, std::uint64_t item_bytes) {
  std::uint64_t total = item_bytes;
  for (const std::int64_t length : shape) {
    const auto product = checked_multiply(total, static_cast<std::uint64_t>(length));
    if (!product) throw npy_too_large(shape, item_bytes);
    total = *product;
  }
  return total;
}

NpyElement repeated(NpyElement element, const Shape& shape, NpyOrder order) {
  const auto strides = strides_of(shape, order, element.bytes);
  if (!strides) throw npy_too_large(shape, element.bytes);
  element.bytes = has_no_elements(shape) ? 0 : npy_array_bytes(shape, element.bytes);
  for (NpyPart& part : element.parts) {
    part.shape.insert(part.shape.begin(), shape.begin(), shape.end());
    part.strides.insert(part.strides.begin(), strides->begin(), strides->end());
    if (part.shape.size() > kMostDimensions) {
      throw format_error("too many dimensions").in_field(part.name).found(shape_text(part.shape));
    }
  }
  return element;
}

NpyElement parse_npy_descr(const PyLiteral& descr, bool latin1) {
  NpyElement element = DescrReader(latin1).element(descr);
  require_unique_names(element.parts);
  return element;
}

}  // namespace penstock
