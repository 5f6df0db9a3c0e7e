#pragma once

// What the tests of archives share: a writer that can lie, and damage.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "format_checks.h"
#include "formats/deflate.h"

namespace penstock::testing {

inline bool has_zlib() { return crc32_of(Bytes()).has_value(); }

/// The CRC-32 of a record, bit by bit.
inline std::uint32_t checksum_of(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ (crc % 2 == 1 ? 0xEDB88320U : 0U);
  }
  return ~crc;
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

/// The text with a few bits flipped, bytes overwritten, cut out or put in.
inline std::string damaged(std::string text, std::mt19937& random) {
  const auto below = [&](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  for (std::size_t left = 1 + below(3); left > 0 && !text.empty(); --left) {
    const std::size_t at = below(text.size());
    switch (below(6)) {
      case 0: text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1U << below(8))); break;
      case 1: text[at] = static_cast<char>(below(256)); break;
      case 2: text.erase(at, 1 + below(8)); break;
      case 3: text.insert(at, text.substr(below(text.size()), 1 + below(40))); break;
      case 4: text.replace(at, 4, le(below(2) == 0 ? 0xFFFFFFFF : 0x7FFFFFFF, 4)); break;
      default: text.resize(at);
    }
  }
  return text;
}

}  // namespace penstock::testing
