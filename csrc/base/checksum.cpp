#include "base/checksum.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/random.h"

namespace penstock {
namespace {

constexpr std::size_t kLanes = 4;  // independent, so that a processor works on all of them at once
constexpr std::size_t kStep = kLanes * sizeof(std::uint64_t);

/// Each step is a bijection of `lane` and of `word`, so one changed word always changes the result.
std::uint64_t absorb(std::uint64_t lane, std::uint64_t word) noexcept {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15U;
  lane = (lane ^ word) * kOdd;
  return lane ^ (lane >> 29U);
}

}  // namespace

std::uint64_t checksum(Bytes bytes) noexcept {
  std::array<std::uint64_t, kLanes> lanes = {1, 2, 3, 4};
  std::size_t at = 0;
  for (; at + kStep <= bytes.size(); at += kStep) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      lanes[i] = absorb(lanes[i], load_le<std::uint64_t>(bytes, at + i * sizeof(std::uint64_t)));
    }
  }
  std::array<std::byte, kStep> last{};  // zeros behind: the size tells how many
  std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(), last.begin());
  for (std::size_t i = 0; i < kLanes; ++i) {
    lanes[i] = absorb(lanes[i], load_le<std::uint64_t>(last, i * sizeof(std::uint64_t)));
  }
  std::uint64_t sum = mix64(bytes.size());
  for (const std::uint64_t lane : lanes) sum = absorb(sum, lane);
  return mix64(sum);
}

}  // namespace penstock
