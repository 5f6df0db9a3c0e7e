#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "formats/tokens.h"
#include "index/column.h"
#include "storage/file.h"

namespace penstock {

/// Files of tokens whose headers have been parsed, and that agree in the tokens' dtype.
class TokenFiles {
 public:
  /// Opens each file once, reads its header (of Megatron-LM's the index beside it, whole) and closes it.
  ///
  /// \param dtype  of the tokens: needed where a file does not say it, and checked where it does
  /// \throws Error kShard, kFormat with the path; kSchema when a dtype is missing, is no whole number, or two
  ///         disagree, or the number of tokens is impossibly large
  TokenFiles(std::span<const std::string> paths, TokenFormat format, std::optional<DType> dtype,
             FileAccess access);

  [[nodiscard]] DType dtype() const noexcept { return dtype_; }

  /// In all files.
  [[nodiscard]] std::int64_t num_tokens() const noexcept { return num_tokens_; }

  /// Windows of block_size + 1 tokens, `stride` tokens apart, each inside one file. A file shorter than that
  /// has none.
  ///
  /// \pre block_size >= 1, stride >= 1
  /// \throws Error kSchema when no file holds one, or a number is impossibly large
  [[nodiscard]] std::shared_ptr<Column> windows(std::int64_t block_size, std::int64_t stride) const;

  /// Tokens after the last of these windows, in all files. \pre as windows()
  [[nodiscard]] std::int64_t num_left_out(std::int64_t block_size, std::int64_t stride) const noexcept;

 private:
  struct File {
    std::shared_ptr<Storage> storage;
    std::uint64_t offset;
  };

  void add(const std::string& path, TokenFormat format, std::optional<DType> dtype, FileAccess access);
  void require_same_dtype(DType found, std::optional<DType> asked) const;

  DType dtype_ = DType::kUInt16;
  std::vector<File> files_;
  std::vector<std::int64_t> lengths_;  ///< tokens of each file
  std::int64_t num_tokens_ = 0;
};

}  // namespace penstock
