#include "assemble/gather.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "assemble/copy_rows.h"
#include "base/error.h"
#include "index/strided.h"
#include "storage/fault_guard.h"

namespace penstock {
namespace {

using Rows = std::span<const std::int64_t>;

// --- rows that lie end to end in mapped files ------------------------------------------------------

void gather_plain(Column& column, Rows rows, std::byte* out) {
  RowCopy work{column.index().locator(),
               column.views().data(),
               rows.data(),
               static_cast<std::int64_t>(rows.size()),
               column.row_bytes(),
               out};
  const void* fault = run_guarded([](void* context) { copy_rows(*static_cast<RowCopy*>(context)); }, &work);
  if (fault != nullptr) column.raise_fault(fault, rows);
}

// --- other rows in mapped files --------------------------------------------------------------------

/// For the fault guard.
struct StridedCopy {
  const Column* column;
  const ShardView* views;
  Rows rows;
  std::byte* out;
};

void copy_strided(const StridedCopy& work) noexcept {
  std::byte* out = work.out;
  for (const std::int64_t row : work.rows) {
    const Location at = work.column->index().locate(row);
    const ShardView& view = work.views[at.shard];
    work.column->strided_row_of(at.shard).copy(out, view.first_row + at.row * view.row_stride);
    out += work.column->row_bytes();
  }
}

void gather_strided(Column& column, Rows rows, std::byte* out) {
  StridedCopy work{&column, column.views().data(), rows, out};
  const auto body = [](void* context) { copy_strided(*static_cast<const StridedCopy*>(context)); };
  const void* fault = run_guarded(body, &work);
  if (fault != nullptr) column.raise_fault(fault, rows);
}

// --- rows that follow one another ------------------------------------------------------------------

/// Rows of one shard.
struct Stretch {
  Location first;
  std::int64_t count;
};

/// As one row of one dimension more, so that what lies end to end is one run.
StridedRow as_one_row(const Column& column, const Stretch& rows) {
  RowLayout layout = column.layout_of(rows.first.shard);
  std::vector<std::int64_t> shape = column.row_shape();
  layout.strides.insert(layout.strides.begin(), layout.row_stride);
  shape.insert(shape.begin(), rows.count);
  return {layout, shape, column.dtype()};
}

std::int64_t number_of(const Column& column, const Location& at) {
  return column.index().first_row(at.shard) + at.row;
}

/// The number of the first that has this byte, counted from the first row's first element.
std::optional<std::int64_t> row_with_byte(const Column& column, const Stretch& rows, std::int64_t offset) {
  const std::int64_t stride = column.layout_of(rows.first.shard).row_stride;
  const StridedRow& row = column.strided_row_of(rows.first.shard);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    if (row.has_byte(offset - i * stride)) return number_of(column, rows.first) + i;
  }
  return std::nullopt;
}

/// The one that a read failed in, where that says how far it came; else the first.
std::int64_t failed_row(const Column& column, const Stretch& rows, std::uint64_t begin, const Error& error) {
  const std::uint64_t offset = error.offset().value_or(begin) - begin;
  return row_with_byte(column, rows, static_cast<std::int64_t>(offset))
      .value_or(number_of(column, rows.first));
}

void read_stretch(const Column& column, const Stretch& rows, const StridedRow& layout, std::byte* out) {
  const auto [shard, row] = rows.first;
  const std::uint64_t begin = column.shards()[static_cast<std::size_t>(shard)].offset +
                              static_cast<std::uint64_t>(row * column.layout_of(shard).row_stride);
  Storage& storage = column.storage_of(shard);
  try {
    layout.copy_runs(out, [&](std::int64_t offset, std::span<std::byte> to) {
      storage.read(begin + static_cast<std::uint64_t>(offset), to);
    });
  } catch (Error& error) {
    error.in_field(column.name()).at_row(failed_row(column, rows, begin, error));
    throw;
  }
}

void copy_stretch(Column& column, const Stretch& rows, const StridedRow& layout, std::byte* out) {
  struct Copy {
    const StridedRow* layout;
    const std::byte* from;
    std::byte* out;
  };
  const ShardView& view = column.views()[static_cast<std::size_t>(rows.first.shard)];
  Copy copy{&layout, view.first_row + rows.first.row * view.row_stride, out};
  const auto body = [](void* context) {
    const auto& [how, from, to] = *static_cast<const Copy*>(context);
    how->copy(to, from);
  };
  const void* fault = run_guarded(body, &copy);
  if (fault == nullptr) return;
  column.raise_fault(fault, row_with_byte(column, rows, static_cast<const std::byte*>(fault) - copy.from));
}

void gather_stretch(Column& column, const Stretch& rows, std::byte* out) {
  const bool is_mapped = column.views()[static_cast<std::size_t>(rows.first.shard)].first_row != nullptr;
  const auto take = [&](const StridedRow& layout) {
    if (is_mapped) return copy_stretch(column, rows, layout, out);
    read_stretch(column, rows, layout, out);
  };
  if (rows.count == 1) return take(column.strided_row_of(rows.first.shard));
  take(as_one_row(column, rows));
}

// --- rows of shards that are not alike -------------------------------------------------------------

enum class Way { kPlain, kStrided, kRead };

Way way_of(const Column& column, std::span<const ShardView> views, std::int64_t row) noexcept {
  const std::int64_t shard = column.index().locate(row).shard;
  if (views[static_cast<std::size_t>(shard)].first_row == nullptr) return Way::kRead;
  return column.is_plain(shard) ? Way::kPlain : Way::kStrided;
}

/// Rows that follow one another in their numbers are read together.
void gather_read(Column& column, Rows rows, std::byte* out) {
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    do ++end;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1);
    gather_run(column, rows[begin], static_cast<std::int64_t>(end - begin), out);
    out += static_cast<std::int64_t>(end - begin) * column.row_bytes();
  }
}

void gather_by_ways(Column& column, Rows rows, std::byte* out) {
  const std::span<const ShardView> views = column.views();
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    const Way way = way_of(column, views, rows[begin]);
    do ++end;
    while (end < rows.size() && way_of(column, views, rows[end]) == way);
    const Rows alike = rows.subspan(begin, end - begin);
    if (way == Way::kPlain) gather_plain(column, alike, out);
    if (way == Way::kStrided) gather_strided(column, alike, out);
    if (way == Way::kRead) gather_read(column, alike, out);
    out += static_cast<std::int64_t>(alike.size()) * column.row_bytes();
  }
}

}  // namespace

void gather_run(Column& column, std::int64_t first, std::int64_t count, std::byte* out) {
  if (column.row_bytes() == 0) return;
  while (count > 0) {
    const Location at = column.index().locate(first);
    const std::int64_t here = std::min(count, column.index().first_row(at.shard + 1) - first);
    gather_stretch(column, {at, here}, out);
    first += here;
    count -= here;
    out += here * column.row_bytes();
  }
}

void gather_slice(Column& column, std::span<const std::int64_t> rows, std::byte* out) {
  if (column.is_plain()) return gather_plain(column, rows, out);
  gather_by_ways(column, rows, out);
}

void gather(Column& column, std::span<const std::int64_t> rows, std::byte* out) {
  if (rows.empty() || column.row_bytes() == 0) return;
  (void)column.views();
  column.advise_for(rows);
  gather_slice(column, rows, out);
  column.check_now_and_then();
}

}  // namespace penstock
