#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "index/cumulative.h"
#include "order/permutation.h"

namespace penstock {

/// A shuffle that a disk can follow: blocks of neighbouring rows in a random order, rows mixed inside a
/// window of several blocks. Every row once; any position in O(log blocks).
///
/// Shards are cut into blocks of block_rows (the last of a shard is shorter), the blocks are laid end to end
/// in a random order, and the sequence is cut into windows of window_rows, each shuffled by itself. 24 bytes
/// a block.
///
/// Immutable; thread-safe.
class BlockOrder {
 public:
  /// \throws Error kArgument when block_rows or window_rows is not positive; kSchema as CumulativeIndex
  BlockOrder(std::span<const std::int64_t> rows_per_shard, std::int64_t block_rows, std::int64_t window_rows,
             std::uint64_t key);

  [[nodiscard]] std::int64_t num_rows() const noexcept { return index_.num_rows(); }

  /// Neighbouring rows.
  struct Block {
    std::int64_t first;
    std::int64_t count;
  };

  /// The blocks that the positions [begin, end) lie in before rows are mixed: what a disk has to read for
  /// them, in the order it is needed. \pre 0 <= begin <= end <= num_rows()
  [[nodiscard]] std::vector<Block> blocks(std::int64_t begin, std::int64_t end) const;

  /// The position after the block that this one lies in. \pre 0 <= position < num_rows()
  [[nodiscard]] std::int64_t end_of_block(std::int64_t position) const noexcept {
    return index_.first_row(index_.locate(position).shard + 1);
  }

  /// The rows at first, first + step, ... \pre all positions are in [0, num_rows())
  void fill(std::int64_t first, std::int64_t step, std::span<std::int64_t> out) const;

 private:
  std::int64_t window_rows_;
  std::uint64_t key_;
  std::vector<std::int64_t> starts_;  ///< first row of each block, in the random order
  CumulativeIndex index_;             ///< over the blocks in that order
};

}  // namespace penstock
