#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace penstock {

/// Whether `text` is UTF-8 as Python's strict decoder takes it, so that it can become a `str`.
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// 'text' in quotes for a message: plain ASCII whatever the file held, and cut after 60 characters.
///
/// (Not called `quoted`: with a std::string that would be std::quoted wherever <iomanip> is included.)
[[nodiscard]] std::string quoted_text(std::string_view text);

/// "1 byte", "12 bytes".
[[nodiscard]] std::string bytes_text(std::uint64_t count);

}  // namespace penstock
