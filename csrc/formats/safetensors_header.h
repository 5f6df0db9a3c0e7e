#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// One tensor as the header of a `.safetensors` file describes it. Nothing is checked against the file yet.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;  ///< at most 64 lengths >= 0
  std::uint64_t begin = 0;          ///< data_offsets, from the end of the header; < 2**63
  std::uint64_t end = 0;            ///< may be less than `begin`
};

/// Reads the header's JSON: an object of tensors, and of strings under `__metadata__` (which are passed
/// over, as are other keys of a tensor).
///
/// Strict: it begins with '{', no key stands twice in an object, nesting ends at 128 levels, numbers
/// are whole and fit in 63 bits.
///
/// \param offset  where the text begins in the file, for messages
/// \throws Error kFormat for anything else, with the offset or the tensor's name
[[nodiscard]] std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view text,
                                                                     std::uint64_t offset);

}  // namespace penstock
