#include "formats/npy_element.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <system_error>
#include <utility>

namespace penstock {
namespace {

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
  if (error != std::errc() || end != digits.data() + digits.size() || count > kMaxNpyElementBytes)
    return std::nullopt;
  return count;
}

NpyElement refused_element(std::uint64_t bytes, std::string reason) {
  NpyElement element;
  element.bytes = bytes;
  element.parts.emplace_back();
  element.parts.back().refusal = std::move(reason);
  return element;
}

NpyElement object_element() {
  NpyElement element =
      refused_element(8,
                      "is a pickle, which Penstock never executes; load it with numpy and save it as "
                      "an array of numbers");
  element.has_objects = true;
  return element;
}

std::optional<NpyElement> text_element(std::string_view code) {
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

std::optional<NpyElement> void_element(std::string_view code) {
  const auto count = item_count(code.substr(1));
  if (!count) return std::nullopt;
  NpyElement element =
      refused_element(*count,
                      "holds raw bytes (void), which torch cannot hold; save it by .view of an integer "
                      "dtype (bfloat16 of ml_dtypes is saved like this)");
  element.opaque = true;
  return element;
}

std::optional<NpyElement> time_element(std::string_view code) {
  const std::string_view unit = code.substr(2);
  if (!unit.empty() && !(unit.front() == '[' && unit.back() == ']')) return std::nullopt;
  return refused_element(8, "holds times, which torch cannot hold; save it by .view(numpy.int64)");
}

std::optional<NpyElement> long_double_element(std::string_view code) {
  if (code != "f16" && code != "g" && code != "c32" && code != "G") return std::nullopt;
  const bool complex = code == "c32" || code == "G";
  return refused_element(complex ? 32 : 16,
                         "holds long doubles, which torch cannot hold; save it by .astype(numpy." +
                             std::string(complex ? "complex128)" : "float64)"));
}

/// An element of a dtype that numpy knows and torch does not; nothing for any other.
std::optional<NpyElement> foreign_element(std::string_view code) {
  if (code.empty()) return std::nullopt;
  if (code.starts_with("M8") || code.starts_with("m8")) return time_element(code);
  switch (code.front()) {
    case 'O': return item_count(code.substr(1)) ? std::optional(object_element()) : std::nullopt;
    case 'S':
    case 'a':
    case 'U': return text_element(code);
    case 'V': return void_element(code);
    default: return long_double_element(code);
  }
}

NpyElement torch_element(DType dtype, bool big_endian) {
  NpyElement element;
  element.bytes = static_cast<std::uint64_t>(item_bytes(dtype));
  element.parts.emplace_back();
  element.parts.back().dtype = dtype;
  element.parts.back().byte_swapped = big_endian && swap_bytes(dtype) > 1;
  return element;
}

}  // namespace

std::optional<NpyElement> npy_scalar(std::string_view code) {
  if (const auto dtype = look_up(kWords, code)) return torch_element(*dtype, false);
  if (code == "object") return object_element();
  const bool big_endian = code.starts_with('>');
  if (!code.empty() && std::string_view("<>=|").find(code.front()) != code.npos) code.remove_prefix(1);
  if (const auto dtype = look_up(kCodes, code)) return torch_element(*dtype, big_endian);
  return foreign_element(code);
}

}  // namespace penstock
