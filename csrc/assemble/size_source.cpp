#include "assemble/size_source.h"

#include <array>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace penstock {

SizeSource::SizeSource(std::shared_ptr<const ImageBatch> batch)
    : BatchNumbers(*batch, 0, {2}), batch_(std::move(batch)) {}

void SizeSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  std::byte* to = outs.front();
  for (const std::int64_t row : rows) {
    const ImagePlan::Size size = batch_->size_of(row);
    const std::array<std::int64_t, 2> sides{size.height, size.width};
    std::memcpy(to, sides.data(), sizeof(sides));
    to += sizeof(sides);
  }
}

std::shared_ptr<Source> SizeSource::followed_by(const Source& /*other*/) const {
  throw Error(ErrorKind::kSchema, "sizes belong to their images").in_field(fields().front().name);
}

}  // namespace penstock
