#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "index/column.h"

namespace penstock {

/// Columns with one row per sample: what a dataset is to the core.
///
/// Immutable; thread-safe.
class Table {
 public:
  /// \throws Error kSchema when there is no column or two disagree in their number of rows
  explicit Table(std::vector<std::shared_ptr<Column>> columns);

  [[nodiscard]] std::int64_t num_rows() const noexcept { return columns_.front()->num_rows(); }
  [[nodiscard]] std::span<const std::shared_ptr<Column>> columns() const noexcept { return columns_; }

  /// Assembles a batch: the given rows of every column, each into its own buffer.
  ///
  /// \param outs  one per column, rows.size() * row_bytes() bytes each
  /// \pre every row is in [0, num_rows())
  /// \throws Error kShard
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) const;

  /// Asks the system to read these rows soon. \pre in range
  ///
  /// \throws Error kShard
  void will_need(std::int64_t first, std::int64_t count) const;
  void will_need(std::span<const std::int64_t> rows) const;

  /// Says that these rows will not be needed soon.
  void will_not_need(std::span<const std::int64_t> rows) const noexcept;

  /// Whether a column is in use that is more than memory can hold.
  [[nodiscard]] bool exceeds_memory() const noexcept;

 private:
  std::vector<std::shared_ptr<Column>> columns_;
};

/// The rows of `a` and then those of `b`.
///
/// \throws Error kSchema when their columns disagree
[[nodiscard]] std::shared_ptr<Table> concatenate(const Table& a, const Table& b);

/// Makes negative row numbers count from the end, in place.
///
/// \throws Error kIndex naming the first number outside [-num_rows, num_rows)
void normalize_rows(std::span<std::int64_t> rows, std::int64_t num_rows);

}  // namespace penstock
