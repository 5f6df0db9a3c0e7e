#include "order/block_order.h"

#include <algorithm>
#include <cstddef>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace penstock {
namespace {

using Block = BlockOrder::Block;

void require_positive(std::int64_t rows, const char* what) {
  if (rows > 0) return;
  throw Error(ErrorKind::kArgument, std::string("a ") + what + " of the shuffle must hold a row")
      .needed("1 row or more")
      .found(std::to_string(rows));
}

std::vector<Block> cut(std::span<const std::int64_t> rows_per_shard, std::int64_t block_rows) {
  std::vector<Block> blocks;
  std::int64_t start = 0;
  for (const std::int64_t rows : rows_per_shard) {
    for (std::int64_t done = 0; done < rows; done += blocks.back().count) {
      blocks.push_back({start + done, std::min(block_rows, rows - done)});
    }
    start += rows;
  }
  return blocks;
}

}  // namespace

BlockOrder::BlockOrder(std::span<const std::int64_t> rows_per_shard, std::int64_t block_rows,
                       std::int64_t window_rows, std::uint64_t key)
    : window_rows_(window_rows), key_(key) {
  require_positive(block_rows, "block");
  require_positive(window_rows, "window");
  const CumulativeIndex checked(rows_per_shard);
  const std::vector<Block> blocks = cut(rows_per_shard, block_rows);
  const Permutation order(static_cast<std::int64_t>(blocks.size()), derive_key(key, 0));
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < order.size(); ++i) {
    const Block& block = blocks[static_cast<std::size_t>(order.at(i))];
    starts_.push_back(block.first);
    lengths.push_back(block.count);
  }
  index_ = CumulativeIndex(lengths);
}

std::vector<Block> BlockOrder::blocks(std::int64_t begin, std::int64_t end) const {
  std::vector<Block> found;
  while (begin < end) {
    const std::int64_t block = index_.locate(begin).shard;
    const std::int64_t next = end_of_block(begin);
    found.push_back({starts_[static_cast<std::size_t>(block)], next - index_.first_row(block)});
    begin = next;
  }
  return found;
}

void BlockOrder::fill(std::int64_t first, std::int64_t step, std::span<std::int64_t> out) const {
  const Locator locator = index_.locator();
  while (!out.empty()) {
    const std::int64_t window = first / window_rows_;
    const std::int64_t begin = window * window_rows_;
    const std::int64_t size = std::min(window_rows_, num_rows() - begin);
    const std::int64_t inside = (begin + size - 1 - first) / step + 1;
    const auto rows = out.first(std::min(out.size(), static_cast<std::size_t>(inside)));
    Permutation(size, derive_key(key_, 1 + static_cast<std::uint64_t>(window)))
        .fill(first - begin, step, rows);
    for (std::int64_t& row : rows) {
      const Location found = locator.locate(begin + row);
      row = starts_[static_cast<std::size_t>(found.shard)] + found.row;
    }
    out = out.subspan(rows.size());
    if (!out.empty()) first += static_cast<std::int64_t>(rows.size()) * step;
  }
}

}  // namespace penstock
