#pragma once

#include <cstddef>
#include <cstdint>

#include "assemble/arrangement.h"
#include "index/column.h"
#include "index/cumulative.h"

namespace penstock {

/// One slice of a gather of ragged rows: which runs of values of which shards go where.
struct RunCopy {
  Locator locator;              ///< of values
  const ShardView* views;       ///< one per shard, all mapped, values end to end
  const std::int64_t* offsets;  ///< of all rows
  const std::int64_t* rows;     ///< row numbers
  std::int64_t num_rows;
  const Arrangement* arrangement;
  std::byte* place;  ///< of the first row
};

/// Copies runs of values to their places in a batch, and fills what is left of padded rows.
///
/// Advances `place` behind the last row. Rows are looked up and prefetched ahead of the copy as in copy_rows.
/// Owns nothing and allocates nothing: safe under the fault guard. Thread-safe.
///
/// \pre every row number is in range, and no run passes the end of its shard
void copy_runs(RunCopy& work_and_place) noexcept;

}  // namespace penstock
