#pragma once

#include <cstdint>
#include <string_view>

#include "base/byte_source.h"
#include "base/dtype.h"

namespace penstock {

/// How a file holds tokens.
enum class TokenFormat : std::uint8_t {
  kAuto,      ///< see detect_tokens
  kRaw,       ///< tokens end to end, no header: nanoGPT's
  kLlmC,      ///< 256 numbers, then tokens: llm.c's
  kMegatron,  ///< tokens end to end, and an index in a file of its own: Megatron-LM's
};

/// Where the tokens of one file lie: end to end, little-endian. They end where the file ends.
struct TokenLayout {
  DType dtype = DType::kUInt16;
  std::uint64_t offset = 0;
  std::uint64_t num_tokens = 0;
};

/// Whether tokens of this dtype can be read: whole numbers that fit in 64 bits with a sign.
[[nodiscard]] bool is_token_dtype(DType dtype) noexcept;

/// Which format a file is of: Megatron's where there is an index beside it, llm.c's by its first number, else
/// raw.
///
/// \throws Error kFormat for a file that is of none: an index, llm.c's evaluation data, an array, an archive
[[nodiscard]] TokenFormat detect_tokens(const ByteSource& file, bool has_index);

/// As many tokens as the file holds.
///
/// \pre is_token_dtype(dtype)
/// \throws Error kFormat when it holds none, or ends inside one
[[nodiscard]] TokenLayout raw_tokens(DType dtype, std::uint64_t file_bytes);

/// By the header: magic 20240520 and version 1 for uint16, 20240801 and 7 for uint32; the number of tokens.
///
/// \throws Error kFormat when it is another header, or the file's size is not what it says
[[nodiscard]] TokenLayout llm_c_tokens(const ByteSource& file);

/// By the index that belongs to a file of tokens, all of which is read: every sequence must begin where the
/// one before it ends, as Megatron-LM writes them, and documents must be sequences in order.
///
/// \throws Error kFormat when one of that is not so, or tokens are of a dtype that is no whole number
[[nodiscard]] TokenLayout megatron_tokens(const ByteSource& index);

/// \throws Error kFormat when a file of this size does not end with the last token
void require_size(const TokenLayout& layout, std::uint64_t file_bytes);

}  // namespace penstock
