#include "assemble/widen.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/vector_clones.h"

namespace penstock {
namespace {

template <typename T>
[[gnu::always_inline]] inline T load(const std::byte* from, std::int64_t i) noexcept {
  T token;
  std::memcpy(&token, from + i * static_cast<std::int64_t>(sizeof(T)), sizeof(T));
  return token;
}

template <typename T>
[[gnu::always_inline]] inline void widen_all(const std::byte* __restrict from, std::int64_t count,
                                             std::byte* __restrict out) noexcept {
  for (std::int64_t i = 0; i < count; ++i) {
    // NOLINTNEXTLINE(bugprone-signed-char-misuse,cert-str34-c): int8 tokens are numbers, not characters
    const auto token = static_cast<std::int64_t>(load<T>(from, i));
    std::memcpy(out + i * static_cast<std::int64_t>(sizeof(token)), &token, sizeof(token));
  }
}

template <typename T>
[[gnu::always_inline]] inline std::uint64_t largest_of(const std::byte* from, std::int64_t count) noexcept {
  T largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, load<T>(from, i));
  return largest;
}

// A loader cannot pick among clones of a template: one plain function each.

PENSTOCK_VECTOR_CLONES void widen_u8(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  widen_all<std::uint8_t>(from, count, out);
}
PENSTOCK_VECTOR_CLONES void widen_i8(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  widen_all<std::int8_t>(from, count, out);
}
PENSTOCK_VECTOR_CLONES void widen_u16(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  widen_all<std::uint16_t>(from, count, out);
}
PENSTOCK_VECTOR_CLONES void widen_i16(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  widen_all<std::int16_t>(from, count, out);
}
PENSTOCK_VECTOR_CLONES void widen_u32(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  widen_all<std::uint32_t>(from, count, out);
}
PENSTOCK_VECTOR_CLONES void widen_i32(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  widen_all<std::int32_t>(from, count, out);
}
void widen_i64(const std::byte* from, std::int64_t count, std::byte* out) noexcept {
  std::memcpy(out, from, static_cast<std::size_t>(count) * sizeof(std::int64_t));
}

PENSTOCK_VECTOR_CLONES std::uint64_t largest_8(const std::byte* from, std::int64_t count) noexcept {
  return largest_of<std::uint8_t>(from, count);
}
PENSTOCK_VECTOR_CLONES std::uint64_t largest_16(const std::byte* from, std::int64_t count) noexcept {
  return largest_of<std::uint16_t>(from, count);
}
PENSTOCK_VECTOR_CLONES std::uint64_t largest_32(const std::byte* from, std::int64_t count) noexcept {
  return largest_of<std::uint32_t>(from, count);
}
PENSTOCK_VECTOR_CLONES std::uint64_t largest_64(const std::byte* from, std::int64_t count) noexcept {
  return largest_of<std::uint64_t>(from, count);
}

template <typename T>
constexpr std::uint64_t not_negative() noexcept {
  return static_cast<std::uint64_t>(std::numeric_limits<T>::max()) + 1;
}

}  // namespace

std::uint64_t TokenKernels::limit(std::int64_t bound) const noexcept {
  return std::min(static_cast<std::uint64_t>(bound), num_not_negative);
}

TokenKernels token_kernels(DType dtype) noexcept {
  switch (dtype) {
    case DType::kUInt8: return {&widen_u8, &largest_8, not_negative<std::uint8_t>()};
    case DType::kInt8: return {&widen_i8, &largest_8, not_negative<std::int8_t>()};
    case DType::kUInt16: return {&widen_u16, &largest_16, not_negative<std::uint16_t>()};
    case DType::kInt16: return {&widen_i16, &largest_16, not_negative<std::int16_t>()};
    case DType::kUInt32: return {&widen_u32, &largest_32, not_negative<std::uint32_t>()};
    case DType::kInt32: return {&widen_i32, &largest_32, not_negative<std::int32_t>()};
    default: return {&widen_i64, &largest_64, not_negative<std::int64_t>()};
  }
}

}  // namespace penstock
