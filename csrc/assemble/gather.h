#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "index/column.h"

namespace penstock {

/// Copies the given rows of a column end to end into `out`, in their order.
///
/// Every copy from a mapped file is guarded: a file that shrinks under us is an error, not a crash.
/// Thread-safe.
///
/// \param rows  any order, repeats allowed
/// \param out  rows.size() * column.row_bytes() bytes
/// \pre every row is in [0, column.num_rows())
/// \throws Error kShard, with file, field and row, when a file can no longer be read
void gather(Column& column, std::span<const std::int64_t> rows, std::byte* out);

/// The same for a slice of a batch: by this thread alone, without advice before or a look at the files after.
///
/// \pre column.views() was called
void gather_slice(Column& column, std::span<const std::int64_t> rows, std::byte* out);

/// The same for rows that follow one another: those of a shard that lie end to end by one read or one copy.
///
/// \pre column.views() was called; the rows are in range
void gather_run(Column& column, std::int64_t first, std::int64_t count, std::byte* out);

}  // namespace penstock
