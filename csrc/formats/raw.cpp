#include "formats/raw.h"

#include <cstddef>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"

namespace penstock {
namespace {

constexpr std::size_t kMostDimensions = 64;

Error schema_error(std::string problem, const RawFormat& raw) {
  return Error(ErrorKind::kSchema, std::move(problem)).found("row shape " + shape_text(raw.row_shape));
}

std::uint64_t row_bytes_of(const RawFormat& raw) {
  auto bytes = static_cast<std::uint64_t>(item_bytes(raw.dtype));
  if (raw.row_shape.size() >= kMostDimensions) throw schema_error("a row has too many dimensions", raw);
  for (const std::int64_t length : raw.row_shape) {
    if (length < 0) throw schema_error("a row has a negative dimension", raw);
    if (length == 0) throw schema_error("a row holds no bytes, so the number of rows cannot be told", raw);
    const auto product = checked_multiply(bytes, static_cast<std::uint64_t>(length));
    if (!product) throw schema_error("a row is impossibly large", raw);
    bytes = *product;
  }
  return bytes;
}

std::uint64_t num_rows_in(const RawFormat& raw, std::uint64_t row_bytes, std::uint64_t file_bytes) {
  if (raw.offset > file_bytes) {
    throw format_error("the file is shorter than the offset of its rows")
        .needed("at least " + std::to_string(raw.offset) + " bytes")
        .found(std::to_string(file_bytes) + " bytes");
  }
  const std::uint64_t data_bytes = file_bytes - raw.offset;
  // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): no dtype takes 0 bytes
  if (data_bytes % row_bytes == 0) return data_bytes / row_bytes;
  throw format_error("the file does not end at the end of a row")
      .needed("rows of " + std::to_string(row_bytes) + " bytes from offset " + std::to_string(raw.offset))
      .found(std::to_string(data_bytes / row_bytes) + " rows and " + std::to_string(data_bytes % row_bytes) +
             " bytes more in a file of " + std::to_string(file_bytes) + " bytes")
      .hint("Check the dtype, the row shape and the offset, or whether the file was cut short.");
}

}  // namespace

FileLayout raw_layout(const RawFormat& raw, std::uint64_t file_bytes) {
  const std::uint64_t num_rows = num_rows_in(raw, row_bytes_of(raw), file_bytes);
  ArrayLayout array;
  array.dtype = raw.dtype;
  array.offset = raw.offset;
  array.shape = raw.row_shape;
  array.shape.insert(array.shape.begin(), static_cast<std::int64_t>(num_rows));
  auto strides = contiguous_strides(array.shape, item_bytes(raw.dtype));
  if (!strides) throw schema_error("the file is impossibly large", raw);
  array.strides = *std::move(strides);
  FileLayout layout;
  layout.format = "raw";
  layout.arrays.push_back(std::move(array));
  return layout;
}

}  // namespace penstock
