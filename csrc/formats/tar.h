#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/byte_source.h"

namespace penstock {

/// A file in a tar archive: where its contents lie. In bounds.
struct TarMember {
  std::string name;          ///< as it stands there, of any bytes
  std::uint64_t offset = 0;  ///< of the contents
  std::uint64_t size = 0;
  bool is_link = false;  ///< to another member, hard or symbolic: without contents
};

/// Walks through a tar archive (ustar, GNU and pax) from header to header; contents are not read.
///
/// What is neither file nor link (folders, devices, volume labels) is passed over. The archive ends at a
/// block of zeros, or with the file.
///
/// single-owner; borrows the file
class TarReader {
 public:
  explicit TarReader(const ByteSource& file) : file_(file) {}

  /// The next file or link; nothing at the end.
  ///
  /// \throws Error kFormat, with the offset and the member where that is known, when the file is no tar
  /// archive, compressed, cut short, damaged or has a member with holes; kShard when it cannot be read
  [[nodiscard]] std::optional<TarMember> next();

 private:
  /// What is said of the next member before its own header.
  struct Attributes {
    std::optional<std::string> name;
    std::optional<std::uint64_t> size;
    bool has_holes = false;
  };

  /// One header, and the contents behind it.
  struct Entry {
    char type = 0;
    std::uint64_t header = 0;  ///< its offset
    std::string name;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };

  [[nodiscard]] bool read_entry();
  [[nodiscard]] bool take_attributes();
  [[nodiscard]] std::optional<TarMember> take_member();
  [[nodiscard]] std::string contents() const;
  void apply(std::string_view records, Attributes& attributes) const;
  void require_inside() const;

  const ByteSource& file_;
  std::uint64_t at_ = 0;  ///< of the next header
  Entry entry_;
  Attributes all_;         ///< of every member that follows
  Attributes next_;        ///< of the next one
  bool is_begun_ = false;  ///< something has been said of a member that must follow
};

}  // namespace penstock
