#pragma once

#include <cstddef>
#include <cstdint>

#include "index/column.h"
#include "index/cumulative.h"

namespace penstock {

/// One slice of a gather: which rows of which shards go where.
struct RowCopy {
  Locator locator;
  const ShardView* views;    ///< one per shard, all mapped
  const std::int64_t* rows;  ///< global row numbers
  std::int64_t num_rows;
  std::int64_t row_bytes;
  std::byte* out;  ///< num_rows * row_bytes
};

/// Copies contiguous rows end to end into `out`.
///
/// Rows are looked up and prefetched ahead of the copy, in two steps: far ahead their first line, which
/// also walks to the page; nearer the rest. So the latencies of page walks and of DRAM overlap. The
/// kernel follows the row size:
///   - up to 256 bytes: 16-byte moves, their number known at compile time; 32 and 16 rows ahead
///   - up to 16 KiB: memcpy; every line prefetched into L2 (up to 1 KiB their number is fixed at compile
///     time), 16 and 8 rows ahead
///   - above, in batches of 1 MiB or more: a streaming copy that bypasses the cache and prefetches
///     4 KiB ahead in the row
///
/// Owns nothing and allocates nothing: safe under the fault guard. Thread-safe.
///
/// \pre every row number is in range and every view is mapped
void copy_rows(const RowCopy& work) noexcept;

/// Has the processor bring the lines of a row that will be copied a few rows later: the first 2 KiB, whose
/// end the processor continues by itself.
void prefetch_row(const std::byte* row, std::int64_t bytes) noexcept;

}  // namespace penstock
