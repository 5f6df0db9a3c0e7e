#pragma once

// Tar archives for tests: headers byte by byte.

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace penstock::testing {

inline std::string octal(std::uint64_t number, int digits) {
  std::string text(static_cast<std::size_t>(digits), '0');
  for (int i = digits - 1; i >= 0; --i, number >>= 3U) {
    text[static_cast<std::size_t>(i)] = static_cast<char>('0' + (number & 7U));
  }
  return text + '\0';
}

/// Writes the checksum into a header.
inline std::string summed(std::string header) {
  header.replace(148, 8, "        ");
  std::uint64_t sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  return header.replace(148, 8, octal(sum, 6) + ' ');
}

inline std::string tar_header(std::string_view name, std::string_view size, char type = '0') {
  std::string header(512, '\0');
  header.replace(0, name.size(), name);
  header.replace(124, size.size(), size);
  header[156] = type;
  header.replace(257, 8,
                 std::string("ustar\0"
                             "00",
                             8));
  return summed(header);
}

inline std::string tar_member(std::string_view name, std::string_view content, char type = '0') {
  std::string member = tar_header(name, octal(content.size(), 11), type);
  member += content;
  return member + std::string((512 - content.size() % 512) % 512, '\0');
}

/// A record of pax.
inline std::string pax_record(std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) ++length;
  return std::to_string(length) + " " + std::string(key) + "=" + std::string(value) + "\n";
}

}  // namespace penstock::testing
