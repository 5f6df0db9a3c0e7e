#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/byte_source.h"
#include "storage/file.h"

namespace penstock {

/// An open file for a parser. A small one is read whole, at once, so that its header takes one read.
///
/// The file is borrowed. single-owner; large: for the stack
class BufferedFile final : public ByteSource {
 public:
  /// \throws Error kShard
  explicit BufferedFile(const OpenFile& file);

  [[nodiscard]] std::uint64_t size() const noexcept override { return file_.size(); }

 private:
  static constexpr std::size_t kSmall = std::size_t{32} << 10U;

  void copy(std::uint64_t offset, std::span<std::byte> out) const override;

  const OpenFile& file_;
  std::size_t buffered_ = 0;
  std::array<std::byte, kSmall> bytes_;
};

}  // namespace penstock
