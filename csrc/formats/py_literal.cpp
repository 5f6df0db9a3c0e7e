#include "formats/py_literal.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace penstock {
namespace {

constexpr int kMostNesting = 100;

using Kind = PyLiteral::Kind;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'; }
bool is_quote(char c) { return c == '\'' || c == '"'; }

std::optional<std::uint64_t> digit_value(char c, std::uint64_t base) {
  std::uint64_t value = base;
  if (is_digit(c)) value = static_cast<std::uint64_t>(c - '0');
  if (c >= 'a' && c <= 'f') value = static_cast<std::uint64_t>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') value = static_cast<std::uint64_t>(c - 'A') + 10;
  if (value >= base) return std::nullopt;
  return value;
}

/// single-owner
class Parser {
 public:
  Parser(std::string_view text, std::uint64_t offset, PyDialect dialect)
      : text_(text), offset_(offset), dialect_(dialect) {}

  PyLiteral parse() {
    if (const auto nul = text_.find('\0'); nul != text_.npos)
      fail_at(nul, "there is a zero byte in the text");
    PyLiteral result = value(0);
    if (const auto line = text_.find('\r', at_); line != text_.npos)
      fail_at(line, "a carriage return follows the Python literal");
    skip_blanks();
    if (at_ != text_.size()) fail_at(at_, "something follows the Python literal");
    return result;
  }

 private:
  [[noreturn]] void fail_at(std::size_t at, std::string problem) const {
    throw format_error(std::move(problem)).at_offset(offset_ + at);
  }

  [[noreturn]] void fail_unexpected(const std::string& wanted) const {
    if (at_ >= text_.size()) fail_at(at_, "the text ends where " + wanted + " should be");
    fail_at(at_, quoted_text(text_.substr(at_, 1)) + " stands where " + wanted + " should be");
  }

  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  void skip_comment() {
    while (at_ < text_.size() && peek() != '\n' && peek() != '\r') ++at_;
  }

  [[nodiscard]] bool at_joined_line() const {
    return peek() == '\\' && (peek(1) == '\n' || peek(1) == '\r') && at_ + 2 < text_.size();
  }

  void skip_blanks() {
    while (true) {
      if (is_blank(peek())) {
        ++at_;
      } else if (peek() == '#') {
        skip_comment();
      } else if (at_joined_line()) {
        at_ += 2;
      } else {
        return;
      }
    }
  }

  bool take(char wanted) {
    skip_blanks();
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  [[nodiscard]] PyLiteral make(Kind kind, std::size_t begin) const {
    PyLiteral made;
    made.kind = kind;
    made.offset = offset_ + begin;
    return made;
  }

  PyLiteral value(int depth) {
    if (depth > kMostNesting) fail_at(at_, "the Python literal is nested too deeply");
    skip_blanks();
    const char c = peek();
    if (c == '{') return dict(depth);
    if (c == '(') return tuple_or_parentheses(depth);
    if (c == '[') return list(depth);
    if (at_string()) return string();
    if (is_digit(c) || c == '-' || c == '+') return integer();
    return word();
  }

  /// \returns whether a comma, or nothing at all, stands before `close`
  bool read_items(std::vector<PyLiteral>& items, char close, int depth) {
    bool comma = true;
    while (!take(close)) {
      if (!comma) fail_unexpected("a comma or " + quoted_text({&close, 1}));
      items.push_back(value(depth + 1));
      comma = take(',');
    }
    return comma;
  }

  PyLiteral tuple_or_parentheses(int depth) {
    PyLiteral result = make(Kind::kTuple, at_++);
    const bool comma = read_items(result.items, ')', depth);
    if (comma || result.items.size() != 1) return result;
    PyLiteral inner = std::move(result.items.front());
    return inner;
  }

  PyLiteral list(int depth) {
    PyLiteral result = make(Kind::kList, at_++);
    read_items(result.items, ']', depth);
    return result;
  }

  PyLiteral dict(int depth) {
    PyLiteral result = make(Kind::kDict, at_++);
    bool comma = true;
    while (!take('}')) {
      if (!comma) fail_unexpected("a comma or '}'");
      PyLiteral key = value(depth + 1);
      if (!key.is(Kind::kString)) fail_at(key.offset - offset_, "a key of the dict is no string");
      if (!take(':')) fail_unexpected("a colon");
      result.keys.push_back(std::move(key.text));
      result.items.push_back(value(depth + 1));
      comma = take(',');
    }
    return result;
  }

  [[nodiscard]] bool at_string() const {
    return is_quote(peek()) || ((peek() == 'u' || peek() == 'U') && is_quote(peek(1)));
  }

  PyLiteral string() {
    PyLiteral result = make(Kind::kString, at_);
    while (at_string()) {
      if (!is_quote(peek())) ++at_;
      append_string(result.text);
      skip_blanks();
    }
    return result;
  }

  void append_string(std::string& out) {
    const char quote = peek();
    if (peek(1) == quote && peek(2) == quote) fail_at(at_, "triple-quoted strings are not supported");
    ++at_;
    while (peek() != quote) {
      if (at_ == text_.size() || peek() == '\n' || peek() == '\r') fail_unexpected("the end of a string");
      if (peek() == '\\') {
        append_escape(out);
      } else {
        out += text_[at_++];
      }
    }
    ++at_;
  }

  void append_escape(std::string& out) {
    switch (peek(1)) {
      case '\\':
      case '\'':
      case '"': out += peek(1); break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      case '\n': break;
      default: fail_at(at_, "the string escape " + quoted_text(text_.substr(at_, 2)) + " is not supported");
    }
    at_ += 2;
  }

  PyLiteral integer() {
    PyLiteral result = make(Kind::kInt, at_);
    const bool negative = peek() == '-';
    if (!is_digit(peek())) ++at_;
    skip_blanks();
    const auto magnitude = static_cast<std::int64_t>(digits(take_base()));
    result.integer = negative ? -magnitude : magnitude;
    if (dialect_ == PyDialect::kPython2) take_long_suffix();
    if (is_letter(peek()) || is_digit(peek()) || peek() == '.')
      fail_at(at_, "only whole numbers are supported");
    return result;
  }

  std::uint64_t take_base() {
    if (peek() != '0') return 10;
    const char mark = static_cast<char>(peek(1) | 0x20);
    const std::uint64_t base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    if (base != 10) at_ += peek(2) == '_' ? 3 : 2;
    return base;
  }

  std::uint64_t digits(std::uint64_t base) {
    const std::size_t begin = at_;
    std::uint64_t number = 0;
    while (const auto digit = digit_value(peek(), base)) {
      const auto shifted = checked_multiply(number, base);
      const auto sum = shifted ? checked_add(*shifted, *digit) : std::nullopt;
      if (!sum) fail_at(begin, "a number does not fit in 63 bits");
      number = *sum;
      ++at_;
      if (peek() == '_' && digit_value(peek(1), base)) ++at_;
    }
    if (at_ == begin) fail_unexpected("a digit");
    if (base == 10 && text_[begin] == '0' && number != 0) fail_at(begin, "a decimal number begins with 0");
    return number;
  }

  void take_long_suffix() {
    const std::size_t after_digits = at_;
    skip_blanks();
    if (peek() == 'L' && !is_letter(peek(1)) && !is_digit(peek(1))) {
      ++at_;
    } else {
      at_ = after_digits;
    }
  }

  PyLiteral word() {
    const std::size_t begin = at_;
    while (is_letter(peek()) || is_digit(peek())) ++at_;
    const std::string_view name = text_.substr(begin, at_ - begin);
    PyLiteral result = make(name == "None" ? Kind::kNone : Kind::kBool, begin);
    result.integer = name == "True" ? 1 : 0;
    if (name == "True" || name == "False" || name == "None") return result;
    at_ = begin;
    if (name.empty()) fail_unexpected("a value");
    fail_at(begin, "the name " + quoted_text(name) + " is no literal");
  }

  std::string_view text_;
  std::uint64_t offset_;
  PyDialect dialect_;
  std::size_t at_ = 0;
};

}  // namespace

const PyLiteral* PyLiteral::find(std::string_view key) const noexcept {
  const auto last = std::find(keys.rbegin(), keys.rend(), key);
  return last == keys.rend() ? nullptr : &items[static_cast<std::size_t>(keys.rend() - last) - 1];
}

PyLiteral parse_py_literal(std::string_view text, std::uint64_t offset, PyDialect dialect) {
  return Parser(text, offset, dialect).parse();
}

}  // namespace penstock
