#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace penstock {

/// Element types: exactly those torch can hold in a plain tensor. Named as torch names them.
enum class DType : std::uint8_t {
  kBool,
  kUInt8,
  kInt8,
  kUInt16,
  kInt16,
  kUInt32,
  kInt32,
  kUInt64,
  kInt64,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
  kComplex32,
  kComplex64,
  kComplex128,
  kFloat8E4M3FN,
  kFloat8E5M2,
  kFloat8E4M3FNUZ,
  kFloat8E5M2FNUZ,
  kFloat8E8M0FNU,
  kFloat4E2M1FNx2,  ///< two elements a byte; a shape counts bytes
};

/// Bytes of one element.
[[nodiscard]] std::int64_t item_bytes(DType dtype) noexcept;

/// Bytes that swap together when the byte order differs: an element, or one part of a complex.
[[nodiscard]] std::int64_t swap_bytes(DType dtype) noexcept;

/// The attribute of `torch` that names it: "float32".
[[nodiscard]] std::string_view dtype_name(DType dtype) noexcept;

/// The inverse of dtype_name; nothing for any other name.
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name) noexcept;

}  // namespace penstock
