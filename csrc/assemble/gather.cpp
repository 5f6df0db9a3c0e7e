#include "assemble/gather.h"

#include "assemble/copy_rows.h"
#include "base/error.h"
#include "index/strided.h"
#include "storage/fault_guard.h"

namespace penstock {
namespace {

// --- rows that lie end to end in mapped files ------------------------------------------------------

void gather_plain(Column& column, std::span<const std::int64_t> rows, std::byte* out) {
  RowCopy work{column.index().locator(),
               column.views().data(),
               rows.data(),
               static_cast<std::int64_t>(rows.size()),
               column.row_bytes(),
               out};
  const void* fault = run_guarded([](void* context) { copy_rows(*static_cast<RowCopy*>(context)); }, &work);
  if (fault != nullptr) column.raise_fault(fault);
}

// --- everything else, row by row -------------------------------------------------------------------

struct MappedRow {
  const StridedRow* layout;
  const std::byte* from;
  std::byte* out;
};

void copy_mapped(Column& column, MappedRow row) {
  const auto body = [](void* context) {
    const auto& each = *static_cast<MappedRow*>(context);
    each.layout->copy(each.out, each.from);
  };
  const void* fault = run_guarded(body, &row);
  if (fault != nullptr) column.raise_fault(fault);
}

void read_row(const Column& column, const Location& at, const StridedRow& layout, std::byte* out) {
  const Shard& shard = column.shards()[static_cast<std::size_t>(at.shard)];
  const std::uint64_t first =
      shard.offset + static_cast<std::uint64_t>(at.row * column.layout_of(at.shard).row_stride);
  Storage& storage = column.storage_of(at.shard);
  layout.copy_runs(out, [&](std::int64_t offset, std::span<std::byte> to) {
    storage.read(first + static_cast<std::uint64_t>(offset), to);
  });
}

void gather_row_by_row(Column& column, std::span<const std::int64_t> rows, std::byte* out) {
  const std::span<const ShardView> views = column.views();
  const std::span<const StridedRow> layouts = column.strided_rows();
  for (const std::int64_t row : rows) {
    const Location at = column.index().locate(row);
    const ShardView& view = views[static_cast<std::size_t>(at.shard)];
    const StridedRow& layout = layouts[column.shards()[static_cast<std::size_t>(at.shard)].layout];
    if (view.first_row != nullptr) {
      copy_mapped(column, {&layout, view.first_row + at.row * view.row_stride, out});
    } else {
      read_row(column, at, layout, out);
    }
    out += column.row_bytes();
  }
}

}  // namespace

void gather_slice(Column& column, std::span<const std::int64_t> rows, std::byte* out) {
  if (column.is_plain()) return gather_plain(column, rows, out);
  gather_row_by_row(column, rows, out);
}

void gather(Column& column, std::span<const std::int64_t> rows, std::byte* out) {
  if (rows.empty() || column.row_bytes() == 0) return;
  (void)column.views();
  column.advise_for(rows);
  gather_slice(column, rows, out);
  column.check_now_and_then();
}

}  // namespace penstock
