#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// A value written as a Python literal, as far as `.npy` headers need them.
struct PyLiteral {
  enum class Kind : std::uint8_t { kNone, kBool, kInt, kString, kTuple, kList, kDict };

  Kind kind = Kind::kNone;
  std::uint64_t offset = 0;       ///< where it begins in the file
  std::int64_t integer = 0;       ///< kInt, and kBool as 0 or 1
  std::string text;               ///< kString, in the encoding of the input
  std::vector<PyLiteral> items;   ///< kTuple, kList, and the values of a kDict
  std::vector<std::string> keys;  ///< kDict: items[i] is the value of keys[i]; a key may stand twice

  [[nodiscard]] bool is(Kind other) const noexcept { return kind == other; }

  /// \returns the value of the last entry of a kDict with that key, or nullptr
  [[nodiscard]] const PyLiteral* find(std::string_view key) const noexcept;
};

/// Whether an int may end in L.
enum class PyDialect : std::uint8_t { kPython2, kPython3 };

/// Parses one literal: dicts with string keys, tuples, lists, strings, ints, True, False and None.
///
/// Takes what `ast.literal_eval` takes of these: blanks, line breaks and comments anywhere, either
/// quote, u'' strings, implicit concatenation, hexadecimal, octal and binary ints, signs, redundant
/// parentheses and trailing commas; and the `2L` of Python 2 in that dialect. Not taken: bytes, raw and
/// triple-quoted strings, escapes other than of quotes, backslash and \n \r \t, ints over 63 bits.
///
/// \param offset  where the text begins in its file, for messages
/// \throws Error kFormat, with the offset, for anything else, and for nesting deeper than 100
[[nodiscard]] PyLiteral parse_py_literal(std::string_view text, std::uint64_t offset = 0,
                                         PyDialect dialect = PyDialect::kPython3);

}  // namespace penstock
