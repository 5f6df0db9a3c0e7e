#include "assemble/file_batch.h"

#include <cstring>
#include <numeric>
#include <utility>

namespace penstock {

FileBatch::FileBatch(std::shared_ptr<FileSource> source, std::vector<std::optional<Arrangement>> arrangements)
    : BatchSource(source), source_(std::move(source)), arrangements_(std::move(arrangements)) {}

std::vector<std::int64_t> FileBatch::batch_shape(std::size_t field, std::int64_t rows) const {
  return arrangements_[field] ? arrangements_[field]->shape() : Source::batch_shape(field, rows);
}

std::int64_t FileBatch::place(std::size_t field, std::int64_t position) const noexcept {
  return arrangements_[field] ? arrangements_[field]->place(position) : Source::place(field, position);
}

/// Each file is read whole, and its arrays copied from there to their places.
void FileBatch::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  std::vector<std::size_t> sizes(outs.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) sizes[i] = static_cast<std::size_t>(source_->most_bytes(i));
  std::vector<std::byte> file(std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}));
  std::vector<std::byte*> arrays;
  arrays.reserve(sizes.size());
  std::byte* next = file.data();
  for (const std::size_t size : sizes) arrays.push_back(std::exchange(next, next + size));
  std::vector<std::byte*> places(outs.begin(), outs.end());
  for (const std::int64_t row : rows) {
    source_->take_row(row, arrays);
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = put(i, places[i], arrays[i], row);
  }
}

/// \returns the place of the next row
std::byte* FileBatch::put(std::size_t field, std::byte* to, const std::byte* values,
                          std::int64_t row) const noexcept {
  if (!arrangements_[field]) {
    const std::int64_t bytes = fields()[field].row_bytes;
    std::memcpy(to, values, static_cast<std::size_t>(bytes));
    return to + bytes;
  }
  const Arrangement& arrangement = *arrangements_[field];
  const std::int64_t length = source_->length_of(field, row);
  const std::byte* const first = values + arrangement.first_kept(length) * arrangement.value_bytes();
  return arrangement.put(to, first, arrangement.kept(length));
}

}  // namespace penstock
