#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace penstock {

/// A shuffle of [0, size) that is computed, not stored: the number at any position in constant time and
/// memory, from a key alone. The same on every machine.
///
/// The size is rounded up to a * 2**k with a and 2**k near its square root, and a number is taken apart
/// into two such digits. Each round changes one digit by a keyed hash of the other (xor below 2**k, addition
/// modulo a): a Feistel network (Luby and Rackoff 1988) over mixed radices, as in Black and Rogaway, "Ciphers
/// with arbitrary finite domains" (2002). A result outside [0, size) goes through again ("cycle walking"): at
/// most one in a few for tiny sizes, one in sqrt(size) for large ones.
///
/// Statistically a shuffle (the tests say in what sense); not cryptographic, and beyond a few dozen
/// elements not every permutation can come out, as with any generator of 64 bits.
///
/// Immutable; thread-safe.
class Permutation {
 public:
  static constexpr std::int64_t kMostElements = std::int64_t{1} << 62U;

  /// \throws Error kArgument when size is not in [0, 2**62]
  Permutation(std::int64_t size, std::uint64_t key);

  [[nodiscard]] std::int64_t size() const noexcept { return static_cast<std::int64_t>(size_); }

  /// The element at a position. \pre 0 <= position < size()
  [[nodiscard]] std::int64_t at(std::int64_t position) const noexcept;

  /// The elements at first, first + step, first + 2 * step, ...: several times faster than one by one.
  ///
  /// \pre all positions are in [0, size())
  void fill(std::int64_t first, std::int64_t step, std::span<std::int64_t> out) const noexcept;

 private:
  static constexpr int kMostRounds = 40;

  [[nodiscard]] bool is_narrow() const noexcept { return low_bits_ <= 16; }
  template <typename Word>
  [[nodiscard]] std::uint64_t once(std::uint64_t x) const noexcept;
  [[nodiscard]] std::uint64_t walk(std::uint64_t x) const noexcept;
  void fill_narrow(std::uint64_t first, std::uint64_t step, std::span<std::int64_t> out) const noexcept;

  std::uint64_t size_;
  int low_bits_ = 0;        ///< k
  std::uint64_t high_ = 1;  ///< a
  int rounds_ = 0;          ///< even
  std::uint64_t swap_ = 0;  ///< 1 where elements 0 and 1 change places
  std::array<std::uint64_t, kMostRounds> keys_{};
};

/// The key of one epoch's order.
[[nodiscard]] std::uint64_t epoch_key(std::uint64_t seed, std::uint64_t epoch) noexcept;

}  // namespace penstock
