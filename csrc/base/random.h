#pragma once

#include <cstdint>

namespace penstock {

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
/// OOPSLA 2014, with Stafford's "Mix13" constants): a bijection that scatters every input bit.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

/// What SplitMix64 adds at every step: 2**64 divided by the golden ratio.
inline constexpr std::uint64_t kGoldenGamma = 0x9e3779b97f4a7c15U;

/// A key of its own for every number below a key: `derive_key(derive_key(seed, epoch), class)`.
[[nodiscard]] constexpr std::uint64_t derive_key(std::uint64_t key, std::uint64_t number) noexcept {
  return mix64(mix64(key + kGoldenGamma) ^ number);
}

/// Random numbers by position: number i is SplitMix64's i-th, computed directly. No state, so that any
/// position can be drawn by any thread. Not cryptographic.
///
/// thread-safe
class RandomSequence {
 public:
  explicit constexpr RandomSequence(std::uint64_t key) noexcept : key_(key) {}

  /// 64 uniform bits.
  [[nodiscard]] constexpr std::uint64_t at(std::uint64_t i) const noexcept {
    return mix64(key_ + (i + 1) * kGoldenGamma);
  }

 private:
  std::uint64_t key_;
};

/// The upper half of a 128-bit product: `random` scaled to [0, bound), with a bias below bound / 2**64.
[[nodiscard]] constexpr std::uint64_t scale_to(std::uint64_t random, std::uint64_t bound) noexcept {
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>((static_cast<Wide>(random) * bound) >> 64U);
}

/// Uniform in [0, 1), a multiple of 2**-53.
[[nodiscard]] constexpr double unit_interval(std::uint64_t random) noexcept {
  return static_cast<double>(random >> 11U) * 0x1p-53;
}

}  // namespace penstock
