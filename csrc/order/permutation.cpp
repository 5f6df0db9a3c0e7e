#include "order/permutation.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <string>
#include <type_traits>

#include "base/error.h"
#include "base/random.h"
#include "base/vector_clones.h"

namespace penstock {
namespace {

/// Enough that no statistic in the tests tells the result from a true shuffle, and half as many again: a
/// round over few elements mixes little.
int rounds_for(std::uint64_t size) noexcept {
  if (size <= 64) return 40;
  return size <= 4096 ? 12 : 8;
}

/// 32 well-mixed bits at the top of a word.
template <typename Word>
constexpr Word hashed(Word x, std::uint64_t key) noexcept {
  if constexpr (std::is_same_v<Word, std::uint32_t>) {
    Word h = (x ^ static_cast<Word>(key)) * Word{0x85ebca6bU};  // multipliers of MurmurHash3's finalisers
    h ^= h >> 16U;
    return h * Word{0xc2b2ae35U};
  } else {
    Word h = (x ^ key) * Word{0xff51afd7ed558ccdU};
    h ^= h >> 32U;
    return h * Word{0xc4ceb9fe1a85ec53U};
  }
}

template <typename Word>
constexpr Word upper_product(Word hash, Word bound) noexcept {
  if constexpr (std::is_same_v<Word, std::uint32_t>) {
    return static_cast<Word>((std::uint64_t{hash} * bound) >> 32U);
  } else {
    return scale_to(hash, bound);
  }
}

/// What a narrow round needs, by value: see `Locator` for why.
struct NarrowRounds {
  std::uint32_t high;
  int low_bits;
  int count;
  const std::uint64_t* keys;
};

constexpr std::size_t kBlock = 256;  ///< digits of so many elements stay in the L1 cache

/// One block: first, first + step, ... through all rounds once, the rounds outside so that the inner loops
/// vectorise. \pre out.size() <= kBlock
PENSTOCK_VECTOR_CLONES void run_rounds(NarrowRounds rounds, std::uint64_t first, std::uint64_t step,
                                       std::span<std::int64_t> out) noexcept {
  alignas(64) std::array<std::uint32_t, kBlock> high;
  alignas(64) std::array<std::uint32_t, kBlock> low;
  const auto low_mask = static_cast<std::uint32_t>((std::uint64_t{1} << rounds.low_bits) - 1);
  for (std::size_t i = 0; i < kBlock; ++i) {  // past the end of a short block: computed, not used
    const std::uint64_t x = first + i * step;
    high[i] = static_cast<std::uint32_t>(x >> rounds.low_bits);
    low[i] = static_cast<std::uint32_t>(x) & low_mask;
  }
  const int shift = 32 - rounds.low_bits;
  for (int r = 0; r < rounds.count; r += 2) {
    const std::uint64_t low_key = rounds.keys[r];
    const std::uint64_t high_key = rounds.keys[r + 1];
    for (std::size_t i = 0; i < kBlock; ++i) {
      low[i] ^= hashed(high[i], low_key) >> shift;
      const std::uint32_t sum = high[i] + upper_product(hashed(low[i], high_key), rounds.high);
      high[i] = sum >= rounds.high ? sum - rounds.high : sum;
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<std::int64_t>((std::uint64_t{high[i]} << rounds.low_bits) | low[i]);
  }
}

}  // namespace

std::uint64_t epoch_key(std::uint64_t seed, std::uint64_t epoch) noexcept { return derive_key(seed, epoch); }

Permutation::Permutation(std::int64_t size, std::uint64_t key) : size_(static_cast<std::uint64_t>(size)) {
  if (size < 0 || size > kMostElements) {
    throw Error(ErrorKind::kArgument, "a permutation of that size is not possible")
        .needed("0 to 2**62 elements")
        .found(std::to_string(size));
  }
  if (size < 2) return;
  low_bits_ = static_cast<int>(std::bit_width(size_) / 2);
  high_ = ((size_ - 1) >> low_bits_) + 1;
  rounds_ = rounds_for(size_);
  const RandomSequence random(key);
  for (int r = 0; r < rounds_; ++r)
    keys_[static_cast<std::size_t>(r)] = random.at(static_cast<std::uint64_t>(r));
  swap_ = random.at(static_cast<std::uint64_t>(rounds_)) >> 63U;
}

template <typename Word>
std::uint64_t Permutation::once(std::uint64_t x) const noexcept {
  constexpr int kWordBits = 8 * sizeof(Word);
  const auto bound = static_cast<Word>(high_);
  auto high = static_cast<Word>(x >> low_bits_);
  auto low = static_cast<Word>(x - (x >> low_bits_ << low_bits_));
  for (std::size_t r = 0; r < static_cast<std::size_t>(rounds_); r += 2) {
    low ^= hashed(high, keys_[r]) >> (kWordBits - low_bits_);
    high += upper_product(hashed(low, keys_[r + 1]), bound);
    high -= high >= bound ? bound : 0;
  }
  return (std::uint64_t{high} << low_bits_) | low;
}

std::uint64_t Permutation::walk(std::uint64_t x) const noexcept {
  if (rounds_ == 0) return x;
  do {
    x = is_narrow() ? once<std::uint32_t>(x) : once<std::uint64_t>(x);
  } while (x >= size_);
  return x < 2 ? x ^ swap_ : x;
}

std::int64_t Permutation::at(std::int64_t position) const noexcept {
  return static_cast<std::int64_t>(walk(static_cast<std::uint64_t>(position)));
}

void Permutation::fill(std::int64_t first, std::int64_t step, std::span<std::int64_t> out) const noexcept {
  if (rounds_ > 0 && is_narrow() && out.size() >= kBlock / 8) {
    fill_narrow(static_cast<std::uint64_t>(first), static_cast<std::uint64_t>(step), out);
    return;
  }
  auto position = static_cast<std::uint64_t>(first);
  for (std::int64_t& element : out) {
    element = static_cast<std::int64_t>(walk(position));
    position += static_cast<std::uint64_t>(step);
  }
}

void Permutation::fill_narrow(std::uint64_t first, std::uint64_t step,
                              std::span<std::int64_t> out) const noexcept {
  const NarrowRounds rounds{static_cast<std::uint32_t>(high_), low_bits_, rounds_, keys_.data()};
  while (!out.empty()) {
    const std::span<std::int64_t> block = out.first(std::min(kBlock, out.size()));
    run_rounds(rounds, first, step, block);
    for (std::int64_t& element : block) {
      const auto x = static_cast<std::uint64_t>(element);
      if (x >= size_) {
        element = static_cast<std::int64_t>(walk(x));
      } else if (x < 2) {
        element = static_cast<std::int64_t>(x ^ swap_);
      }
    }
    first += kBlock * step;
    out = out.subspan(block.size());
  }
}

}  // namespace penstock
