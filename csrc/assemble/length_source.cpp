#include "assemble/length_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace penstock {

LengthSource::LengthSource(std::shared_ptr<const Source> source, std::size_t field, std::int64_t max_length)
    : BatchNumbers(*source, field, {}), source_(std::move(source)), number_(field), max_length_(max_length) {}

void LengthSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  std::byte* to = outs.front();
  for (const std::int64_t row : rows) {
    const std::int64_t length = std::min(source_->length_of(number_, row), max_length_);
    std::memcpy(to, &length, sizeof(length));
    to += sizeof(length);
  }
}

std::shared_ptr<Source> LengthSource::followed_by(const Source& /*other*/) const {
  throw Error(ErrorKind::kSchema, "lengths belong to their rows").in_field(fields().front().name);
}

}  // namespace penstock
