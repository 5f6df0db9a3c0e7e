#include "assemble/file_source.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "assemble/copy_rows.h"
#include "assemble/file_batch.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "formats/inflate.h"
#include "index/file_indexer.h"
#include "index/header.h"
#include "index/strided.h"
#include "storage/buffered_file.h"
#include "storage/file.h"

namespace penstock {
namespace {

bool is_as_indexed(const OpenFile& file, const FileStamp& stamp) {
  return file.identity().size == stamp.size && file.identity().mtime_ns == stamp.mtime_ns;
}

std::span<std::byte> bytes_at(std::byte* out, std::int64_t bytes) {
  return {out, static_cast<std::size_t>(bytes)};
}

/// An array that lies scattered, or is of the other byte order, through a copy of its part of the file.
void read_scattered(const OpenFile& file, const ArrayLayout& array, std::byte* out) {
  const auto bytes = spanned_bytes(array.shape, array.strides, item_bytes(array.dtype));
  const std::vector<std::byte> copy = file.read(array.offset, bytes.value_or(0));
  const RowLayout layout{0, array.strides, is_swapped(array)};
  StridedRow(layout, array.shape, array.dtype).copy(out, copy.data());
}

void inflate(const OpenFile& file, const ArrayLayout& array, std::byte* out) {
  const std::vector<std::byte> bytes = inflated(
      *array.deflated, [&file](std::uint64_t offset, std::span<std::byte> to) { file.read(offset, to); });
  const RowLayout layout{0, array.strides, is_swapped(array)};
  StridedRow(layout, array.shape, array.dtype).copy(out, bytes.data() + array.offset);
}

/// An array whose place in the file an index does not know.
void read_array(const OpenFile& file, const ArrayLayout& array, const FileField& field, std::byte* out) {
  if (field.bytes == 0) return;
  if (array.deflated) return inflate(file, array, out);
  if (is_plain(array)) return file.read(array.offset, bytes_at(out, field.bytes));
  read_scattered(file, array, out);
}

/// Where rows far ahead lie, and the beginning of one nearer.
void prefetch_cached(const RowCache& cache, std::span<const std::int64_t> coming, std::int64_t row_bytes) {
  constexpr std::size_t kFar = 8;
  constexpr std::size_t kNear = 4;
  if (coming.size() > kFar) cache.prefetch_place(coming[kFar]);
  if (coming.size() <= kNear) return;
  const std::byte* const row = cache.find(coming[kNear]);
  if (row != nullptr) prefetch_row(row, row_bytes);
}

FileSource::Part with_fields(FileSource::Part part) {
  if (!part.chosen.empty()) return part;
  part.chosen.resize(part.index->fields().size());
  std::iota(part.chosen.begin(), part.chosen.end(), std::size_t{0});
  return part;
}

}  // namespace

FileSource::FileSource(const Part& part) : FileSource(std::vector{with_fields(part)}) {}

FileSource::FileSource(std::vector<Part> parts) : parts_(std::move(parts)) {
  first_rows_.push_back(0);
  for (const Part& part : parts_) first_rows_.push_back(first_rows_.back() + part.index->num_files());
  for (const std::size_t i : parts_.front().chosen) {
    const FileField& field = parts_.front().index->fields()[i];
    fields_.push_back({field.name, field.dtype, field.shape, field.bytes, field.is_ragged});
    row_bytes_ += most_bytes(fields_.size() - 1);
  }
}

std::vector<std::int64_t> FileSource::rows_per_shard() const {
  return std::vector<std::int64_t>(static_cast<std::size_t>(num_rows()), 1);
}

/// To open, look and close takes as long as to copy so much; but not for rows that are all in memory.
std::int64_t FileSource::row_work() const noexcept {
  constexpr std::int64_t kToOpen = std::int64_t{32} << 10U;
  const bool in_memory = std::all_of(parts_.begin(), parts_.end(), [](const Part& part) {
    return part.cache && part.cache->rows_kept() == part.index->num_files();
  });
  return row_bytes_ + (in_memory ? 0 : kToOpen);
}

void FileSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> places) {
  Outs outs(places.begin(), places.end());
  const RowCache* const cache = parts_.size() == 1 ? parts_.front().cache.get() : nullptr;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    if (cache != nullptr) prefetch_cached(*cache, rows.subspan(k), row_bytes_);
    take_row(rows[k], outs);
    for (std::size_t i = 0; i < outs.size(); ++i) outs[i] += fields_[i].row_bytes;
  }
}

std::size_t FileSource::part_of(std::int64_t row) const noexcept {
  const auto next = std::upper_bound(first_rows_.begin(), first_rows_.end(), row);
  return static_cast<std::size_t>(next - first_rows_.begin()) - 1;
}

std::int64_t FileSource::length_of(std::size_t field, std::int64_t row) const noexcept {
  const std::size_t number = part_of(row);
  const Part& part = parts_[number];
  return part.index->length(row - first_rows_[number], part.chosen[field]);
}

std::int64_t FileSource::bytes_of(std::size_t field, std::int64_t row) const noexcept {
  const std::size_t number = part_of(row);
  const Part& part = parts_[number];
  return part.index->bytes(row - first_rows_[number], part.chosen[field]);
}

/// In any row.
std::int64_t FileSource::most_bytes(std::size_t field) const noexcept {
  std::int64_t most = 0;
  for (const Part& part : parts_) most = std::max(most, part.index->most_bytes(part.chosen[field]));
  return most;
}

std::shared_ptr<Source> FileSource::in_batch(std::span<const std::int64_t> rows, const RaggedLayout& layout,
                                             std::span<const Padding> paddings) {
  if (std::ranges::none_of(fields_, &Field::is_ragged)) return shared_from_this();
  std::vector<std::optional<Arrangement>> arrangements(fields_.size());
  std::vector<std::int64_t> lengths(rows.size());
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (!fields_[i].is_ragged) continue;
    std::ranges::transform(rows, lengths.begin(), [&](std::int64_t row) { return length_of(i, row); });
    arrangements[i].emplace(fields_[i], lengths, layout, paddings[i]);
  }
  return std::make_shared<FileBatch>(std::static_pointer_cast<FileSource>(shared_from_this()),
                                     std::move(arrangements));
}

void FileSource::take_row(std::int64_t row, std::span<std::byte* const> outs) {
  const std::size_t number = parts_.size() == 1 ? 0 : part_of(row);
  const Part& part = parts_[number];
  try {
    if (part.cache) {
      take_cached(part, row - first_rows_[number], outs);
    } else {
      read_file(part, row - first_rows_[number], outs);
    }
  } catch (Error& error) {
    error.at_row(row);
    throw;
  }
}

void FileSource::take_cached(const Part& part, std::int64_t file, std::span<std::byte* const> outs) {
  const FileIndex& index = *part.index;
  const std::byte* from = part.cache->find(file);
  std::byte* to = nullptr;
  if (from == nullptr) {
    read_file(part, file, outs);
    to = part.cache->begin(file);
    if (to == nullptr) return;
  }
  std::byte* const kept = to;
  for (std::size_t i = 0; i < outs.size(); ++i) {
    const auto bytes = static_cast<std::size_t>(index.bytes(file, part.chosen[i]));
    if (kept == nullptr) {
      std::memcpy(outs[i], from, bytes);
      from += index.most_bytes(part.chosen[i]);
    } else {
      std::memcpy(to, outs[i], bytes);
      to += index.most_bytes(part.chosen[i]);
    }
  }
  if (kept != nullptr) part.cache->done(file, kept);
}

void FileSource::read_file(const Part& part, std::int64_t number, std::span<std::byte* const> outs) {
  const FileIndex& index = *part.index;
  const std::string path = index.path(number);
  const std::int64_t start = now_ns();
  try {
    const OpenFile file(path);
    const bool as_indexed = is_as_indexed(file, index.stamp(number));
    std::optional<FileLayout> layout;
    for (std::size_t i = 0; i < part.chosen.size(); ++i) {
      const std::uint64_t offset = index.offset(number, part.chosen[i]);
      if (as_indexed && offset != FileIndex::kElsewhere) {
        file.read(offset, bytes_at(outs[i], index.bytes(number, part.chosen[i])));
        continue;
      }
      if (!layout) layout = read_sample_header(BufferedFile(file), part.raw);
      const FileField field = index.array(number, part.chosen[i]);
      const ArrayLayout& array =
          matching_array(*layout, field, index.fields().size() == 1, false, "the index");
      read_array(file, array, field, outs[i]);
    }
  } catch (Error& error) {
    error.in_file(path);
    throw;
  }
  slow_reads_.note(now_ns() - start);
}

void FileSource::will_need(std::int64_t first, std::int64_t count) {
  if (!asks_ahead()) return;
  for (std::int64_t row = first; row < first + count; ++row) {
    const std::size_t part = part_of(row);
    const std::int64_t file = row - first_rows_[part];
    if (parts_[part].cache && parts_[part].cache->find(file) != nullptr) continue;
    ask_for_file(parts_[part].index->path(file));
  }
}

void FileSource::will_need(std::span<const std::int64_t> rows) {
  for (const std::int64_t row : rows) will_need(row, 1);
}

void FileSource::will_not_need(std::span<const std::int64_t> /*rows*/) const noexcept {}

std::uint64_t FileSource::fingerprint() const {
  std::uint64_t sum = fingerprint_of(fields());
  for (const Part& part : parts_) sum = mix64(sum ^ part.index->fingerprint_of_files());
  return sum;
}

std::shared_ptr<Source> FileSource::select(std::size_t field) {
  std::vector<Part> parts = parts_;
  for (Part& part : parts) {
    part.cache.reset();  // its rows hold all fields
    part.chosen = {part.chosen[field]};
  }
  return std::shared_ptr<Source>(new FileSource(std::move(parts)));
}

std::shared_ptr<Source> FileSource::followed_by(const Source& other) const {
  const auto* files = dynamic_cast<const FileSource*>(&other);
  if (files == nullptr) throw different_kinds(fields_.front());
  for (std::size_t i = 0; i < std::max(fields_.size(), files->fields_.size()); ++i) {
    const bool both = i < fields_.size() && i < files->fields_.size();
    if (both && fields_[i].dtype == files->fields_[i].dtype &&
        fields_[i].row_shape == files->fields_[i].row_shape &&
        fields_[i].is_ragged == files->fields_[i].is_ragged) {
      continue;
    }
    throw Error(ErrorKind::kSchema, "the datasets disagree")
        .in_field(fields_[std::min(i, fields_.size() - 1)].name);
  }
  std::vector<Part> parts = parts_;
  parts.insert(parts.end(), files->parts_.begin(), files->parts_.end());
  return std::shared_ptr<Source>(new FileSource(std::move(parts)));
}

}  // namespace penstock
