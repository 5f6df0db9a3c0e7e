#include "assemble/size_source.h"

#include <array>
#include <cstring>

#include "base/error.h"

namespace penstock {

SizeSource::SizeSource(std::shared_ptr<const ImageBatch> batch) : batch_(std::move(batch)) {
  field_ = {batch_->fields().front().name + "_lengths", DType::kInt64, {2}, 2 * sizeof(std::int64_t)};
}

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
  throw Error(ErrorKind::kSchema, "sizes belong to their images").in_field(field_.name);
}

}  // namespace penstock
