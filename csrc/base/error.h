#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

namespace penstock {

/// What went wrong, as the user must tell it apart. One Python class each.
enum class ErrorKind : std::uint8_t {
  kFormat,    ///< this file is not what it should be
  kShard,     ///< this file cannot be read (any more)
  kSchema,    ///< files, fields or arguments disagree
  kIndex,     ///< a row number is outside the dataset
  kArgument,  ///< an argument has a value that cannot be
};

/// The core's only exception: a problem in one sentence and the facts around it.
///
/// The thrower says what it knows and whoever catches it on the way up may add the rest (a parser
/// knows the offset, its caller the path):
///
///     throw Error(ErrorKind::kFormat, "the header is cut short").needed("128 bytes").found("12 bytes");
///
/// single-owner
class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string problem);

  Error& in_file(std::string_view path);  ///< keeps a path that is already there
  Error& of(const std::string& part);     ///< says first which part of the file the problem is of
  Error& in_field(std::string_view name);
  Error& at_row(std::int64_t row);
  Error& at_offset(std::uint64_t byte);
  Error& needed(std::string what);
  Error& found(std::string what);
  Error& hint(std::string what_to_do);
  Error& system_code(int code);  ///< errno, where a system call failed

  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const std::string& field() const noexcept { return field_; }
  [[nodiscard]] const std::optional<std::int64_t>& row() const noexcept { return row_; }
  [[nodiscard]] const std::optional<std::uint64_t>& offset() const noexcept { return offset_; }
  [[nodiscard]] const std::string& needed() const noexcept { return needed_; }
  [[nodiscard]] const std::string& found() const noexcept { return found_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }

  [[nodiscard]] int system_code() const noexcept { return system_code_; }

  /// The problem alone; the whole message is composed by the Python class, in one place.
  [[nodiscard]] const char* what() const noexcept override { return problem_.c_str(); }

 private:
  ErrorKind kind_;
  std::string problem_;
  std::string path_;
  std::string field_;
  std::optional<std::int64_t> row_;
  std::optional<std::uint64_t> offset_;
  std::string needed_;
  std::string found_;
  std::string hint_;
  int system_code_ = 0;
};

/// `Error(ErrorKind::kFormat, problem)`, the one that parsers throw.
[[nodiscard]] Error format_error(std::string problem);

/// A system call failed: kShard, with the system's words for `code`, an errno.
[[nodiscard]] Error system_error(const std::string& what_failed, int code);

}  // namespace penstock
