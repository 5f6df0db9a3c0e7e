#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "index/cumulative.h"

namespace penstock {

/// Where each of many rows begins in a column of values, and how long it is.
///
/// 8 bytes a row. Immutable; thread-safe.
class Offsets {
 public:
  /// \param offsets  first values of the rows, and behind them the number of all values
  /// \throws Error kSchema, with the row, unless they begin with 0, never decrease and end with `num_values`
  Offsets(std::vector<std::int64_t> offsets, std::int64_t num_values);

  /// \throws Error kSchema, with the row, when a length is negative or they do not sum to `num_values`
  [[nodiscard]] static Offsets from_lengths(std::span<const std::int64_t> lengths, std::int64_t num_values);

  [[nodiscard]] std::int64_t num_rows() const noexcept {
    return static_cast<std::int64_t>(offsets_.size()) - 1;
  }
  [[nodiscard]] std::int64_t first(std::int64_t row) const noexcept {
    return offsets_[static_cast<std::size_t>(row)];
  }
  [[nodiscard]] std::int64_t length(std::int64_t row) const noexcept { return first(row + 1) - first(row); }
  [[nodiscard]] std::span<const std::int64_t> all() const noexcept { return offsets_; }

  /// Rows that begin in each shard of the values; of those without values, which lie between two shards, in
  /// the first.
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard(const CumulativeIndex& values) const;

  /// Whether no row has values in two shards.
  [[nodiscard]] bool are_within_shards(const CumulativeIndex& values) const;

 private:
  std::vector<std::int64_t> offsets_;
};

}  // namespace penstock
