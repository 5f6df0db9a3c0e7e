#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"

namespace penstock {

// All that Penstock asks of zlib. deflate.cpp is the only file that knows whether there is one.

/// The CRC-32 that zip archives carry; nothing when this build has no zlib.
[[nodiscard]] std::optional<std::uint32_t> crc32_of(Bytes bytes) noexcept;

/// A raw deflate stream being inflated. single-owner
class Inflater {
 public:
  enum class State : std::uint8_t {
    kWantsMore,  ///< more input, or the output is full
    kEnded,      ///< the stream is complete
    kBroken,     ///< this is no deflate stream
  };

  /// \throws Error kFormat when this build has no zlib
  Inflater();
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater();

  /// Feeds the next `input`; writes what it gives behind what was written before, never past `out`.
  ///
  /// \pre `input` is at most 4 GiB - 1; `out` is the same in every call
  State feed(Bytes input, std::span<std::byte> out);

  /// How much of `out` is filled.
  [[nodiscard]] std::size_t written() const noexcept { return written_; }

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
  std::size_t written_ = 0;
};

}  // namespace penstock
