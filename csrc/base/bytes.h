#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

namespace penstock {

/// Borrowed bytes, for the length of the call.
using Bytes = std::span<const std::byte>;

/// Whether [offset, offset + size) lies in `total` bytes. Cannot overflow.
[[nodiscard]] constexpr bool in_bounds(std::uint64_t total, std::uint64_t offset,
                                       std::uint64_t size) noexcept {
  return offset <= total && size <= total - offset;
}

/// a * b, or nothing when it does not fit in 63 bits. Numbers that come from a file go through here.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_multiply(std::uint64_t a,
                                                                      std::uint64_t b) noexcept {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (a != 0 && b > kMost / a) return std::nullopt;
  return a * b;
}

/// a + b, or nothing when it does not fit in 63 bits.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_add(std::uint64_t a, std::uint64_t b) noexcept {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (a > kMost || b > kMost - a) return std::nullopt;
  return a + b;
}

/// The little-endian unsigned number at `at`, which need not be aligned.
///
/// \pre in_bounds(bytes.size(), at, sizeof(T))
template <typename T>
[[nodiscard]] T load_le(Bytes bytes, std::size_t at) noexcept {
  static_assert(std::is_unsigned_v<T>);
  T value = 0;
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(&value, bytes.data() + at, sizeof(T));
  } else {
    for (std::size_t i = sizeof(T); i-- > 0;) {
      value = static_cast<T>((value << 8U) | static_cast<T>(bytes[at + i]));
    }
  }
  return value;
}

/// The same bytes as text. Lives as long as the bytes.
[[nodiscard]] inline std::string_view as_text(Bytes bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The same text as bytes. Lives as long as the text.
[[nodiscard]] inline Bytes as_bytes(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace penstock
