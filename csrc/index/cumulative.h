#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace penstock {

/// A row as (shard, row inside it).
struct Location {
  std::int64_t shard;
  std::int64_t row;
};

/// Turns row numbers into locations: the numbers that a search needs, and nothing more. Passed by
/// value, so that a loop that stores bytes keeps them in registers.
///
/// Borrows from the index it came from. thread-safe
class Locator {
 public:
  /// Finds the shard that holds a global row. No allocation.
  ///
  /// \pre 0 <= row < num_rows of the index
  [[nodiscard]] Location locate(std::int64_t row) const noexcept {
    return equal_rows_ > 0 ? divide(row) : search(row);
  }

 private:
  friend class CumulativeIndex;

  /// Exact: the product is off by at most one below 2**52 rows, and corrected.
  [[nodiscard]] Location divide(std::int64_t row) const noexcept {
    auto shard = static_cast<std::int64_t>(static_cast<double>(row) * inverse_);
    std::int64_t rest = row - shard * equal_rows_;
    const std::int64_t under = rest < 0 ? 1 : 0;
    const std::int64_t over = rest >= equal_rows_ ? 1 : 0;
    shard += over - under;
    rest += (under - over) * equal_rows_;
    return {shard, rest};
  }

  /// The last shard, between the first ones of this bucket and of the next, that does not begin past `row`.
  [[nodiscard]] Location search(std::int64_t row) const noexcept {
    const std::uint32_t* bucket = buckets_ + (row >> bucket_shift_);
    std::size_t first = bucket[0];
    std::size_t count = bucket[1] - first + 1;
    while (count > 1) {
      const std::size_t half = count / 2;
      first += cumulative_[first + half] <= row ? half : 0;
      count -= half;
    }
    return {static_cast<std::int64_t>(first), row - cumulative_[first]};
  }

  std::int64_t equal_rows_ = 0;  ///< rows of every shard but the last, or 0 when they differ
  double inverse_ = 0;           ///< 1 / equal_rows_
  int bucket_shift_ = 0;
  const std::int64_t* cumulative_ = nullptr;
  const std::uint32_t* buckets_ = nullptr;
};

/// The cumulative row counts of a column's shards, searched to turn a global row into a Location.
///
/// Where all shards but the last have one length (and the last no more) a row is found by a division
/// and nothing is stored. Otherwise by binary search, narrowed first by a table that cuts the rows
/// into about as many equal buckets as there are shards: O(1) for shards of like length, O(log
/// shards) at worst. Memory: 8 bytes a shard, plus 4 a bucket (at most 2 buckets a shard): at most 16
/// bytes a shard.
///
/// Immutable; thread-safe.
class CumulativeIndex {
 public:
  CumulativeIndex() : CumulativeIndex(std::span<const std::int64_t>{}) {}

  /// \param rows_per_shard  0 is legal: such a shard is never found
  /// \throws Error kSchema when a count is negative, the sum passes 2**62, or there are 2**32 shards
  explicit CumulativeIndex(std::span<const std::int64_t> rows_per_shard);
  CumulativeIndex(const CumulativeIndex&) = delete;
  CumulativeIndex& operator=(const CumulativeIndex&) = delete;
  CumulativeIndex(CumulativeIndex&&) = default;
  CumulativeIndex& operator=(CumulativeIndex&&) = default;
  ~CumulativeIndex() = default;

  [[nodiscard]] std::int64_t num_rows() const noexcept { return num_rows_; }
  [[nodiscard]] std::int64_t num_shards() const noexcept { return num_shards_; }

  /// Row count of the shards before `shard`. \pre 0 <= shard <= num_shards()
  [[nodiscard]] std::int64_t first_row(std::int64_t shard) const noexcept;

  /// Row count of a shard. \pre 0 <= shard < num_shards()
  [[nodiscard]] std::int64_t rows_of(std::int64_t shard) const noexcept {
    return first_row(shard + 1) - first_row(shard);
  }

  /// Of all shards.
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const;

  /// Bytes that this index occupies beyond itself.
  [[nodiscard]] std::size_t memory_bytes() const noexcept;

  /// For loops. Valid as long as this index.
  [[nodiscard]] Locator locator() const noexcept { return locator_; }

  /// One row. \pre 0 <= row < num_rows()
  [[nodiscard]] Location locate(std::int64_t row) const noexcept { return locator_.locate(row); }

  /// Many rows at once.
  ///
  /// \pre the three are of one length
  void locate(std::span<const std::int64_t> rows, std::span<std::int64_t> shards,
              std::span<std::int64_t> rows_inside) const noexcept;

 private:
  void build_buckets();

  std::int64_t num_rows_ = 0;
  std::int64_t num_shards_ = 0;
  std::vector<std::int64_t> cumulative_;  ///< first row of each shard, then num_rows
  std::vector<std::uint32_t> buckets_;    ///< shard of each bucket's first row, then the last shard
  Locator locator_;                       ///< into the vectors, which a move does not relocate
};

}  // namespace penstock
