#include "assemble/ragged_source.h"

#include <algorithm>
#include <utility>

#include "assemble/column_source.h"
#include "assemble/copy_runs.h"
#include "assemble/gather.h"
#include "assemble/ragged_batch.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/error.h"
#include "base/random.h"
#include "storage/fault_guard.h"

namespace penstock {
namespace {

bool have_rows_end_to_end(const Column& values) {
  const auto layouts = values.layouts();
  return std::all_of(layouts.begin(), layouts.end(),
                     [&](const RowLayout& layout) { return layout.row_stride == values.row_bytes(); });
}

}  // namespace

RaggedSource::RaggedSource(std::shared_ptr<Column> values, Offsets offsets)
    : values_(std::move(values)),
      offsets_(std::move(offsets)),
      field_{values_->name(), values_->dtype(), values_->row_shape(), values_->row_bytes(), true},
      have_values_end_to_end_(have_rows_end_to_end(*values_)),
      are_within_shards_(offsets_.are_within_shards(values_->index())) {
  if (offsets_.all().back() != values_->num_rows()) {
    throw Error(ErrorKind::kSchema, "the offsets are of other values").in_field(field_.name);
  }
}

std::vector<std::int64_t> RaggedSource::rows_per_shard() const {
  return offsets_.rows_per_shard(values_->index());
}

std::int64_t RaggedSource::row_work() const noexcept {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62U;
  const std::int64_t values_a_row = values_->num_rows() / std::max<std::int64_t>(num_rows(), 1) + 1;
  const auto bytes = checked_multiply(static_cast<std::uint64_t>(values_a_row),
                                      static_cast<std::uint64_t>(field_.row_bytes));
  return static_cast<std::int64_t>(std::min(bytes.value_or(kMost), kMost));
}

std::int64_t RaggedSource::length_of(std::size_t /*field*/, std::int64_t row) const noexcept {
  return offsets_.length(row);
}

std::shared_ptr<Source> RaggedSource::in_batch(std::span<const std::int64_t> rows, const RaggedLayout& layout,
                                               std::span<const Padding> paddings) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(rows.size());
  for (const std::int64_t row : rows) lengths.push_back(offsets_.length(row));
  return std::make_shared<RaggedBatch>(std::static_pointer_cast<RaggedSource>(shared_from_this()),
                                       Arrangement(field_, lengths, layout, paddings.front()));
}

void RaggedSource::gather(std::span<const std::int64_t> /*rows*/, std::span<std::byte* const> /*outs*/) {
  throw Error(ErrorKind::kSchema, "rows of different lengths must be laid out first").in_field(field_.name);
}

void RaggedSource::gather(std::span<const std::int64_t> rows, const Arrangement& arrangement,
                          std::byte* place) {
  if (rows.empty()) return;
  (void)values_->views();
  values_->advise_for(rows);  // rows of ours, in whose order values are touched
  if (have_values_end_to_end_ && are_within_shards_ && values_->is_plain()) {
    (void)gather_runs(rows, arrangement, place);
  } else {
    gather_piecewise(rows, arrangement, place);
  }
  values_->check_now_and_then();
}

/// Whether the values can be copied from where they lie to their place in the batch.
bool RaggedSource::is_one_run(std::int64_t row) const noexcept {
  const std::int64_t length = offsets_.length(row);
  if (length == 0) return true;
  const std::int64_t shard = values_->index().locate(offsets_.first(row)).shard;
  return have_values_end_to_end_ && values_->is_plain(shard) &&
         offsets_.first(row) + length <= values_->index().first_row(shard + 1);
}

void RaggedSource::gather_piecewise(std::span<const std::int64_t> rows, const Arrangement& arrangement,
                                    std::byte* place) {
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    const bool are_runs = is_one_run(rows[begin]);
    do ++end;
    while (end < rows.size() && is_one_run(rows[end]) == are_runs);
    const auto alike = rows.subspan(begin, end - begin);
    place =
        are_runs ? gather_runs(alike, arrangement, place) : gather_through_copies(alike, arrangement, place);
  }
}

std::byte* RaggedSource::gather_runs(std::span<const std::int64_t> rows, const Arrangement& arrangement,
                                     std::byte* place) {
  RunCopy work{values_->index().locator(),
               values_->views().data(),
               offsets_.all().data(),
               rows.data(),
               static_cast<std::int64_t>(rows.size()),
               &arrangement,
               place};
  const void* fault = run_guarded([](void* context) { copy_runs(*static_cast<RunCopy*>(context)); }, &work);
  if (fault != nullptr) values_->raise_fault(fault, row_at(fault, rows, arrangement));
  return work.place;
}

/// The first of these runs that has a byte at this address.
std::optional<std::int64_t> RaggedSource::row_at(const void* address, std::span<const std::int64_t> rows,
                                                 const Arrangement& arrangement) const noexcept {
  for (const std::int64_t row : rows) {
    const std::int64_t length = offsets_.length(row);
    const std::int64_t bytes = arrangement.kept(length) * field_.row_bytes;
    if (bytes == 0) continue;
    const Location at = values_->index().locate(offsets_.first(row) + arrangement.first_kept(length));
    const ShardView& view = values_->views()[static_cast<std::size_t>(at.shard)];
    const std::byte* const first = view.first_row + at.row * view.row_stride;
    if (address >= first && address < first + bytes) return row;
  }
  return std::nullopt;
}

/// Values that are scattered, of the other byte order, in several files, or must be read.
std::byte* RaggedSource::gather_through_copies(std::span<const std::int64_t> rows,
                                               const Arrangement& arrangement, std::byte* place) {
  std::vector<std::byte> copy;
  for (const std::int64_t row : rows) {
    const std::int64_t length = offsets_.length(row);
    const std::int64_t count = arrangement.kept(length);
    const auto bytes = static_cast<std::size_t>(count * field_.row_bytes);
    if (copy.size() < bytes) copy.resize(bytes);
    try {
      gather_run(*values_, offsets_.first(row) + arrangement.first_kept(length), count, copy.data());
    } catch (Error& error) {
      error.at_row(row);
      throw;
    }
    place = arrangement.put(place, copy.data(), count);
  }
  return place;
}

void RaggedSource::will_need(std::int64_t first, std::int64_t count) {
  const std::int64_t begin = offsets_.first(first);
  values_->will_need(begin, offsets_.first(first + count) - begin);
}

void RaggedSource::will_need(std::span<const std::int64_t> rows) {
  for (const std::int64_t row : rows) will_need(row, 1);
}

/// Rows that follow one another as one run.
void RaggedSource::will_not_need(std::span<const std::int64_t> rows) const noexcept {
  for (std::size_t begin = 0, end = 1; begin < rows.size(); begin = end++) {
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    const std::int64_t first = offsets_.first(rows[begin]);
    values_->will_not_need(first, offsets_.first(rows[end - 1] + 1) - first);
  }
}

std::uint64_t RaggedSource::fingerprint() const {
  const std::uint64_t offsets = checksum(std::as_bytes(offsets_.all()));
  return mix64(ColumnSource(values_).fingerprint() ^ offsets);
}

std::shared_ptr<Source> RaggedSource::select(std::size_t /*field*/) { return shared_from_this(); }

std::shared_ptr<Source> RaggedSource::followed_by(const Source& other) const {
  const auto* ragged = dynamic_cast<const RaggedSource*>(&other);
  if (ragged == nullptr) throw different_kinds(field_);
  std::vector<std::int64_t> offsets(offsets_.all().begin(), offsets_.all().end());
  const std::int64_t first = offsets.back();
  for (const std::int64_t offset : ragged->offsets().all().subspan(1)) offsets.push_back(first + offset);
  std::shared_ptr<Column> values = concatenate(*values_, ragged->values());
  const std::int64_t count = values->num_rows();
  return std::make_shared<RaggedSource>(std::move(values), Offsets(std::move(offsets), count));
}

}  // namespace penstock
