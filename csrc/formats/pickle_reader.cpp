#include "formats/pickle_reader.h"

namespace penstock {

Error malformed_pickle(const std::string& problem) {
  return format_error("the pickle is broken: " + problem);
}

Bytes PickleReader::take(std::uint64_t count) {
  if (!in_bounds(pickle_.size(), at_, count)) {
    throw malformed_pickle("it is cut short")
        .needed(std::to_string(count) + " bytes from offset " + std::to_string(at_))
        .found("a pickle of " + std::to_string(pickle_.size()) + " bytes");
  }
  const Bytes taken = pickle_.subspan(at_, count);
  at_ += count;
  return taken;
}

std::string_view PickleReader::line() {
  const std::string_view rest = as_text(pickle_).substr(at_);
  const std::size_t length = rest.find('\n');
  if (length == std::string_view::npos) throw malformed_pickle("a name has no end");
  at_ += length + 1;
  return rest.substr(0, length);
}

}  // namespace penstock
