#include "assemble/ragged_batch.h"

#include <utility>

#include "base/error.h"

namespace penstock {

RaggedBatch::RaggedBatch(std::shared_ptr<RaggedSource> source, Arrangement arrangement)
    : source_(std::move(source)), arrangement_(std::move(arrangement)), field_(source_->fields().front()) {}

std::shared_ptr<Source> RaggedBatch::followed_by(const Source& /*other*/) const {
  throw Error(ErrorKind::kSchema, "a batch is complete").in_field(field_.name);
}

}  // namespace penstock
