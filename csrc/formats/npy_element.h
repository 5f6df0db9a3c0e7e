#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace penstock {

/// A scalar or subarray inside an element of a `.npy`: the whole of it, or a field.
struct NpyPart {
  std::string name;            ///< empty unless it is a field; nested names are joined with '.'
  std::optional<DType> dtype;  ///< nothing: torch cannot hold it
  std::string refusal;         ///< why, where there is no dtype
  bool byte_swapped = false;   ///< big-endian
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  ///< in bytes
  std::uint64_t offset = 0;           ///< inside the element
};

/// What one element of a `.npy` holds.
struct NpyElement {
  std::uint64_t bytes = 0;
  bool structured = false;   ///< has fields, or none at all: `parts` have names
  bool opaque = false;       ///< numpy's void without fields, which pads when it has no name
  bool has_objects = false;  ///< then the data is a pickle, fields of numbers included
  std::vector<NpyPart> parts;
};

/// The largest element numpy has.
inline constexpr std::uint64_t kMaxNpyElementBytes = 2'147'483'647;

/// The element of a dtype string of numpy's: '<f4', '|b1', 'float32', '<U12', ...
///
/// \returns one part without a name, refused for what numpy knows and torch does not; nothing when
///          numpy does not know the string either
[[nodiscard]] std::optional<NpyElement> npy_scalar(std::string_view code);

}  // namespace penstock
