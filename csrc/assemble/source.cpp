#include "assemble/source.h"

#include "assemble/length_source.h"
#include "base/checksum.h"

namespace penstock {

std::int64_t Source::length_of(std::size_t /*field*/, std::int64_t /*row*/) const noexcept { return 1; }

std::shared_ptr<Source> Source::in_batch(std::span<const std::int64_t> /*rows*/,
                                         const RaggedLayout& /*layout*/,
                                         std::span<const Padding> /*paddings*/) {
  return shared_from_this();
}

std::shared_ptr<Source> Source::lengths(std::size_t field, std::int64_t max_length) {
  return std::make_shared<LengthSource>(shared_from_this(), field, max_length);
}

std::vector<std::int64_t> Source::batch_shape(std::size_t field, std::int64_t rows) const {
  std::vector<std::int64_t> shape = fields()[field].row_shape;
  shape.insert(shape.begin(), rows);
  return shape;
}

std::int64_t Source::place(std::size_t field, std::int64_t position) const noexcept {
  return position * fields()[field].row_bytes;
}

Error different_kinds(const Field& field) {
  Error error(ErrorKind::kSchema, "datasets of different kinds cannot be one");
  error.in_field(field.name).hint("torch.utils.data.ConcatDataset takes any datasets, sample by sample.");
  return error;
}

std::uint64_t fingerprint_of(std::span<const Field> fields) {
  std::string text;
  for (const Field& field : fields) {
    text += field.name + " " + std::string(dtype_name(field.dtype));
    if (field.is_ragged) text += " ragged";
    for (const std::int64_t length : field.row_shape) text += " " + std::to_string(length);
    text += '\n';
  }
  return checksum(as_bytes(text));
}

}  // namespace penstock
