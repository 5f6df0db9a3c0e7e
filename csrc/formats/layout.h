#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace penstock {

/// Where the compressed bytes of an array lie, and what they must become.
struct Deflated {
  std::uint64_t offset = 0;            ///< of the raw deflate stream in the file
  std::uint64_t compressed_bytes = 0;  ///< in the file
  std::uint64_t inflated_bytes = 0;    ///< declared, and the hard cap when inflating
  std::uint32_t crc32 = 0;             ///< of the inflated bytes

  friend bool operator==(const Deflated&, const Deflated&) = default;
};

/// One array inside a file: what it is and where its elements lie.
///
/// A parser returns only layouts whose every element lies inside the file (or inside the inflated
/// bytes): offset + sum((shape[i] - 1) * strides[i]) + item size <= size, with no overflow.
struct ArrayLayout {
  std::string name;  ///< empty for the one array of a format without names
  DType dtype = DType::kUInt8;
  bool byte_swapped = false;  ///< big-endian elements
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in bytes, >= 0, one per dimension
  std::uint64_t offset = 0;           ///< of element [0, ..., 0] in the file, or in the inflated bytes
  std::optional<Deflated> deflated;
};

/// An array that is in the file but cannot become a tensor, and why. Refused only when asked for.
struct RefusedArray {
  std::string name;
  std::string reason;
};

/// A value beside the arrays that is none, such as the int of a saved (tensor, 1). No sample has it.
struct OtherValue {
  std::string name;       ///< as an array's
  std::string_view kind;  ///< what Python calls it: "int", "list", ...
};

/// How the file holds its arrays, which decides what a sample is.
enum class Container : std::uint8_t {
  kArray,     ///< one array, no name
  kSequence,  ///< a list or tuple; names are "0", "1", ...
  kMapping,   ///< names
};

/// What a parser makes of a file.
struct FileLayout {
  std::string_view format;  ///< "npy", "npz", "torch", "safetensors", "raw"
  Container container = Container::kArray;
  std::vector<ArrayLayout> arrays;
  std::vector<RefusedArray> refused;
  std::vector<OtherValue> others;  ///< the first few of them
};

/// Row-major strides in bytes for `shape`.
///
/// \returns nothing when the array's size in bytes does not fit in 63 bits
/// \pre no negative dimension
[[nodiscard]] std::optional<std::vector<std::int64_t>> contiguous_strides(
    const std::vector<std::int64_t>& shape, std::int64_t item_bytes);

/// Bytes from the first element's start to the last element's end; 0 when a dimension is 0.
///
/// \returns nothing on overflow, or when a dimension or stride is negative
[[nodiscard]] std::optional<std::uint64_t> spanned_bytes(const std::vector<std::int64_t>& shape,
                                                         const std::vector<std::int64_t>& strides,
                                                         std::int64_t item_bytes);

/// Whether elements of these strides lie end to end in row-major order.
[[nodiscard]] bool lie_end_to_end(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                                  std::int64_t item_bytes) noexcept;

/// "(2, 3)", as Python writes a shape.
[[nodiscard]] std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace penstock
