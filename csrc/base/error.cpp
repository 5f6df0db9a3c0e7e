#include "base/error.h"

#include <system_error>
#include <utility>

namespace penstock {

Error::Error(ErrorKind kind, std::string problem) : kind_(kind), problem_(std::move(problem)) {}

Error& Error::in_file(std::string_view path) {
  if (path_.empty()) path_ = path;
  return *this;
}

Error& Error::of(const std::string& part) {
  problem_ = part + ": " + problem_;
  return *this;
}

Error& Error::in_field(std::string_view name) {
  if (field_.empty()) field_ = name;
  return *this;
}

Error& Error::at_row(std::int64_t row) {
  row_ = row;
  return *this;
}

Error& Error::at_offset(std::uint64_t byte) {
  offset_ = byte;
  return *this;
}

Error& Error::needed(std::string what) {
  needed_ = std::move(what);
  return *this;
}

Error& Error::found(std::string what) {
  found_ = std::move(what);
  return *this;
}

Error& Error::hint(std::string what_to_do) {
  hint_ = std::move(what_to_do);
  return *this;
}

Error& Error::system_code(int code) {
  system_code_ = code;
  return *this;
}

Error format_error(std::string problem) { return {ErrorKind::kFormat, std::move(problem)}; }

Error system_error(const std::string& what_failed, int code) {
  Error error(ErrorKind::kShard, what_failed + ": " + std::generic_category().message(code));
  error.system_code(code);
  return error;
}

}  // namespace penstock
