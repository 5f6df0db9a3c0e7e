#include "assemble/file_batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "assemble/batch_buffer.h"

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
  const BatchBuffer file(most_bytes(rows));
  std::vector<std::byte*> arrays(outs.size());
  std::vector<std::byte*> places(outs.begin(), outs.end());
  for (const std::int64_t row : rows) {
    std::byte* next = file.data();
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      arrays[i] = std::exchange(next, next + source_->bytes_of(i, row));
    }
    source_->take_row(row, arrays);
    for (std::size_t i = 0; i < places.size(); ++i) places[i] = put(i, places[i], arrays[i], row);
  }
}

/// Of these files alone: one long file must not make all others expensive.
std::size_t FileBatch::most_bytes(std::span<const std::int64_t> rows) const noexcept {
  std::int64_t most = 0;
  for (const std::int64_t row : rows) {
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < fields().size(); ++i) bytes += source_->bytes_of(i, row);
    most = std::max(most, bytes);
  }
  return static_cast<std::size_t>(most);
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
