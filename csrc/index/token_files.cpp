#include "index/token_files.h"

#include <algorithm>
#include <bit>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"

namespace penstock {
namespace {

constexpr std::string_view kTokensSuffix = ".bin";

/// Where the index of such a file is, if it has one.
std::string index_path(const std::string& path) {
  if (!path.ends_with(kTokensSuffix)) return path + ".idx";
  return path.substr(0, path.size() - kTokensSuffix.size()) + ".idx";
}

void require_whole(DType dtype) {
  if (is_token_dtype(dtype)) return;
  throw Error(ErrorKind::kSchema, "tokens of this dtype cannot be read")
      .needed("uint8, int8, uint16, int16, uint32, int32 or int64")
      .found(std::string(dtype_name(dtype)));
}

TokenLayout raw_layout_of(const OpenFile& file, std::optional<DType> dtype) {
  if (dtype) return raw_tokens(*dtype, file.size());
  throw Error(ErrorKind::kSchema, "the file has no header that says what a token is")
      .needed("dtype=")
      .hint("nanoGPT's files are dtype=\"uint16\".");
}

TokenLayout megatron_layout_of(const std::string& path, const OpenFile& file) {
  const std::string beside = index_path(path);
  TokenLayout layout;
  try {
    layout = megatron_tokens(OpenFile(beside));
  } catch (Error& error) {
    error.in_file(beside);
    throw;
  }
  require_size(layout, file.size());
  return layout;
}

TokenLayout layout_of(const std::string& path, const OpenFile& file, TokenFormat format,
                      std::optional<DType> dtype) {
  if (format == TokenFormat::kAuto) {
    format = detect_tokens(file, identity_of_file(index_path(path)).has_value());
  }
  switch (format) {
    case TokenFormat::kLlmC: return llm_c_tokens(file);
    case TokenFormat::kMegatron: return megatron_layout_of(path, file);
    default: return raw_layout_of(file, dtype);
  }
}

/// \pre length >= 0, block_size >= 1, stride >= 1
std::int64_t num_windows(std::int64_t length, std::int64_t block_size, std::int64_t stride) noexcept {
  return length <= block_size ? 0 : (length - 1 - block_size) / stride + 1;
}

/// Bytes of so many tokens, and one more.
std::int64_t checked_bytes(std::int64_t tokens, std::int64_t item) {
  const auto with_one = checked_add(static_cast<std::uint64_t>(tokens), 1);
  const auto bytes = with_one ? checked_multiply(*with_one, static_cast<std::uint64_t>(item)) : std::nullopt;
  if (bytes) return static_cast<std::int64_t>(*bytes);
  throw Error(ErrorKind::kSchema, "a window is impossibly large").found(std::to_string(tokens) + " tokens");
}

}  // namespace

TokenFiles::TokenFiles(std::span<const std::string> paths, TokenFormat format, std::optional<DType> dtype,
                       FileAccess access) {
  if (dtype) require_whole(*dtype);
  for (const std::string& path : paths) {
    try {
      add(path, format, dtype, access);
    } catch (Error& error) {
      error.in_file(path);
      throw;
    }
  }
}

void TokenFiles::add(const std::string& path, TokenFormat format, std::optional<DType> dtype,
                     FileAccess access) {
  const OpenFile file(path);
  const TokenLayout layout = layout_of(path, file, format, dtype);
  require_same_dtype(layout.dtype, dtype);
  dtype_ = layout.dtype;
  files_.push_back({std::make_shared<FileStorage>(path, file.identity(), access), layout.offset});
  lengths_.push_back(static_cast<std::int64_t>(layout.num_tokens));
  const auto sum = checked_add(static_cast<std::uint64_t>(num_tokens_), layout.num_tokens);
  if (!sum) throw Error(ErrorKind::kSchema, "the files are impossibly large");
  num_tokens_ = static_cast<std::int64_t>(*sum);
}

void TokenFiles::require_same_dtype(DType found, std::optional<DType> asked) const {
  const DType needed = asked ? *asked : files_.empty() ? found : dtype_;
  if (found == needed) return;
  throw Error(ErrorKind::kSchema, "the tokens are of another dtype")
      .needed(std::string(dtype_name(needed)) +
              (asked ? ", as dtype= says" : " as in " + files_.front().storage->path()))
      .found(std::string(dtype_name(found)));
}

std::shared_ptr<Column> TokenFiles::windows(std::int64_t block_size, std::int64_t stride) const {
  const std::int64_t item = item_bytes(dtype_);
  const std::int64_t longest = lengths_.empty() ? 0 : *std::max_element(lengths_.begin(), lengths_.end());
  if (longest <= block_size) {
    throw Error(ErrorKind::kSchema, "no file is as long as one window")
        .needed("block_size + 1 tokens: more than " + std::to_string(block_size))
        .found("at most " + std::to_string(longest) + " in a file");
  }
  (void)checked_bytes(block_size, sizeof(std::int64_t));
  const std::int64_t apart = checked_bytes(std::min(stride, longest) - 1, item);
  Column::Parts parts;
  parts.name = "tokens";
  parts.dtype = dtype_;
  parts.row_shape = {block_size + 1};
  parts.layouts.push_back({apart, {item}, std::endian::native == std::endian::big});
  for (std::size_t i = 0; i < files_.size(); ++i) {
    parts.storages.push_back(files_[i].storage);
    parts.shards.push_back({files_[i].offset, static_cast<std::uint32_t>(i), 0});
    parts.rows.push_back(num_windows(lengths_[i], block_size, stride));
  }
  return std::make_shared<Column>(std::move(parts));
}

std::int64_t TokenFiles::num_left_out(std::int64_t block_size, std::int64_t stride) const noexcept {
  std::int64_t left_out = 0;
  for (const std::int64_t length : lengths_) {
    const std::int64_t windows = num_windows(length, block_size, stride);
    left_out += length - (windows == 0 ? 0 : (windows - 1) * stride + block_size + 1);
  }
  return left_out;
}

}  // namespace penstock
