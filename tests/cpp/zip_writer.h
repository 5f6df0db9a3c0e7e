#pragma once

// What the tests of archives share: a writer that can lie, a source that remembers, damage, and the
// promise every layout must keep.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_source.h"
#include "base/bytes.h"
#include "base/error.h"
#include "formats/layout.h"

namespace penstock::testing {

/// `value` as `bytes` little-endian bytes, zeros from the ninth on.
inline std::string le(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i, value >>= 8U) text += static_cast<char>(value & 0xFFU);
  return text;
}

/// Writes zip archives, broken ones too: whatever is set here goes into the directory as it is.
class ZipWriter {
 public:
  struct Lies {
    std::uint16_t method = 0;
    std::uint16_t flags = 0x0800;
    std::uint32_t crc32 = 0;
    std::optional<std::uint64_t> bytes = {};
    std::optional<std::uint64_t> compressed_bytes = {};
    std::optional<std::uint64_t> header_offset = {};
    std::optional<std::string> local_name = {};
    std::string local_extra = {};
    bool zip64 = false;  ///< sizes and offset in an extra field
  };
  struct End {
    std::string comment = {};
    std::string junk = {};
    bool zip64 = false;
    std::optional<std::uint64_t> entries = {};
    std::optional<std::uint64_t> directory_bytes = {};
    std::optional<std::uint64_t> directory_offset = {};
    std::uint16_t disk = 0;
  };

  ZipWriter& add(const std::string& name, const std::string& data) { return add(name, data, Lies()); }

  ZipWriter& add(const std::string& name, const std::string& data, const Lies& lies) {
    const std::uint64_t at = lies.header_offset.value_or(file_.size());
    const std::uint64_t bytes = lies.bytes.value_or(data.size());
    const std::uint64_t compressed = lies.compressed_bytes.value_or(data.size());
    const std::string local = lies.local_name.value_or(name);
    file_ += "PK\3\4" + le(0, 2) + le(lies.flags, 2) + le(lies.method, 2) + le(0, 16) + le(local.size(), 2) +
             le(lies.local_extra.size(), 2) + local + lies.local_extra + data;
    const std::uint64_t far = 0xFFFFFFFF;
    const std::string extra = lies.zip64 ? le(0x7777, 2) + le(3, 2) + "abc" + le(1, 2) + le(24, 2) +
                                               le(bytes, 8) + le(compressed, 8) + le(at, 8)
                                         : "";
    directory_ += "PK\1\2" + le(0, 4) + le(lies.flags, 2) + le(lies.method, 2) + le(0, 4) +
                  le(lies.crc32, 4) + le(lies.zip64 ? far : compressed, 4) + le(lies.zip64 ? far : bytes, 4) +
                  le(name.size(), 2) + le(extra.size(), 2) + le(0, 10) + le(lies.zip64 ? far : at, 4) + name +
                  extra;
    ++entries_;
    return *this;
  }

  [[nodiscard]] std::string finish() const { return finish(End()); }

  [[nodiscard]] std::string finish(const End& end) const {
    const std::uint64_t entries = end.entries.value_or(entries_);
    const std::uint64_t bytes = end.directory_bytes.value_or(directory_.size());
    const std::uint64_t offset = end.directory_offset.value_or(file_.size());
    std::string file = file_ + directory_;
    if (end.zip64) {
      const std::uint64_t at = file.size();
      file +=
          "PK\6\6" + le(44, 8) + le(0, 12) + le(entries, 8) + le(entries, 8) + le(bytes, 8) + le(offset, 8);
      file += "PK\6\7" + le(0, 4) + le(at, 8) + le(1, 4);
    }
    return file + "PK\5\6" + le(end.disk, 2) + le(0, 2) + le(entries, 2) + le(entries, 2) + le(bytes, 4) +
           le(end.zip64 ? 0xFFFFFFFF : offset, 4) + le(end.comment.size(), 2) + end.comment + end.junk;
  }

  /// Where the next record's header will begin.
  [[nodiscard]] std::uint64_t size() const noexcept { return file_.size(); }

 private:
  std::string file_;
  std::string directory_;
  std::uint64_t entries_ = 0;
};

/// A file in memory that remembers which of its bytes were read.
class RecordingSource final : public ByteSource {
 public:
  explicit RecordingSource(std::string file) : file_(std::move(file)), was_read_(file_.size()) {}

  [[nodiscard]] std::uint64_t size() const noexcept override { return file_.size(); }

  [[nodiscard]] bool was_read(std::uint64_t begin, std::uint64_t bytes) const {
    const auto first = was_read_.begin() + static_cast<std::ptrdiff_t>(begin);
    return std::find(first, first + static_cast<std::ptrdiff_t>(bytes), true) !=
           first + static_cast<std::ptrdiff_t>(bytes);
  }

 private:
  void copy(std::uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), file_.data() + offset, out.size());
    std::fill_n(was_read_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), true);
  }

  std::string file_;
  mutable std::vector<bool> was_read_;
};

/// The text with a few bits flipped, bytes overwritten, cut out or put in.
inline std::string damaged(std::string text, std::mt19937& random) {
  const auto below = [&](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  for (std::size_t left = 1 + below(3); left > 0 && !text.empty(); --left) {
    const std::size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1U << below(8)));
        break;
      case 1:
        text[at] = static_cast<char>(below(256));
        break;
      case 2:
        text.erase(at, 1 + below(8));
        break;
      case 3:
        text.insert(at, text.substr(below(text.size()), 1 + below(40)));
        break;
      case 4:
        text.replace(at, 4, le(below(2) == 0 ? 0xFFFFFFFF : 0x7FFFFFFF, 4));
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

/// Checks what ArrayLayout promises of every array.
inline void check_in_bounds(const FileLayout& layout, std::uint64_t file_bytes) {
  for (const ArrayLayout& array : layout.arrays) {
    REQUIRE(array.strides.size() == array.shape.size());
    const auto span = spanned_bytes(array.shape, array.strides, item_bytes(array.dtype));
    REQUIRE(span.has_value());
    const std::uint64_t total = array.deflated ? array.deflated->inflated_bytes : file_bytes;
    REQUIRE(in_bounds(total, array.offset, span.value_or(0)));
    if (array.deflated) {
      REQUIRE(in_bounds(file_bytes, array.deflated->offset, array.deflated->compressed_bytes));
    }
  }
}

inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// What `parse` said when it refused; "accepted" when it did not.
template <typename Parse>
std::string refusal_of(const Parse& parse) {
  try {
    parse();
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::kFormat);
    return error.problem();
  }
  return "accepted";
}

}  // namespace penstock::testing
