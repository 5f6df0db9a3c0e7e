#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"

namespace penstock {

/// The bytes of one file as a parser sees them: a size, and reads at any offset.
///
/// Parsers do no I/O of their own: a file on disk, a span in a test and a fuzzer's input are all
/// the same to them. Implementations are thread-compatible.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;

  /// Copies bytes [offset, offset + out.size()) into `out`.
  ///
  /// \throws Error kFormat when that lies outside the file ("cut short"), kShard when it cannot be read
  void read(std::uint64_t offset, std::span<std::byte> out) const;

  /// The same, as a new vector. The bounds are checked before anything is allocated.
  [[nodiscard]] std::vector<std::byte> read(std::uint64_t offset, std::uint64_t count) const;

 protected:
  ByteSource() = default;
  ByteSource(const ByteSource&) = default;
  ByteSource& operator=(const ByteSource&) = default;

 private:
  /// \pre in bounds
  virtual void copy(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

/// Bytes already in memory, borrowed.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(Bytes bytes) : bytes_(bytes) {}
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_.size(); }

 private:
  void copy(std::uint64_t offset, std::span<std::byte> out) const override;
  Bytes bytes_;
};

}  // namespace penstock
