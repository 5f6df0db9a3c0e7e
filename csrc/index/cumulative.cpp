#include "index/cumulative.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/error.h"

namespace penstock {
namespace {

constexpr std::int64_t kMostRows = std::int64_t{1} << 62U;
constexpr std::int64_t kMostRowsToDivide = std::int64_t{1} << 52U;

std::int64_t checked_sum(std::span<const std::int64_t> counts) {
  std::int64_t sum = 0;
  for (const std::int64_t count : counts) {
    if (count < 0 || count > kMostRows - sum) {
      throw Error(ErrorKind::kSchema, "the shards' row counts cannot be summed")
          .needed("counts from 0, 2**62 in all")
          .found(std::to_string(count));
    }
    sum += count;
  }
  return sum;
}

/// The length of all shards but the last, if that is one length and the last is no longer; else 0.
std::int64_t equal_length(std::span<const std::int64_t> counts) {
  if (counts.empty()) return 0;
  const std::int64_t length = counts.front();
  const auto all_but_last = counts.first(counts.size() - 1);
  const bool equal = std::all_of(all_but_last.begin(), all_but_last.end(),
                                 [length](std::int64_t count) { return count == length; });
  return equal && counts.back() <= length ? length : 0;
}

}  // namespace

CumulativeIndex::CumulativeIndex(std::span<const std::int64_t> rows_per_shard)
    : num_rows_(checked_sum(rows_per_shard)), num_shards_(static_cast<std::int64_t>(rows_per_shard.size())) {
  if (rows_per_shard.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(ErrorKind::kSchema, "too many shards").needed("fewer than 2**32");
  }
  if (num_rows_ < kMostRowsToDivide) locator_.equal_rows_ = equal_length(rows_per_shard);
  if (locator_.equal_rows_ > 0) {
    locator_.inverse_ = 1.0 / static_cast<double>(locator_.equal_rows_);
    return;
  }
  cumulative_.reserve(rows_per_shard.size() + 1);
  cumulative_.push_back(0);
  for (const std::int64_t count : rows_per_shard) cumulative_.push_back(cumulative_.back() + count);
  build_buckets();
  locator_.cumulative_ = cumulative_.data();
  locator_.buckets_ = buckets_.data();
}

void CumulativeIndex::build_buckets() {
  if (num_rows_ == 0) return;
  const auto rows_a_bucket = static_cast<std::uint64_t>(std::max<std::int64_t>(1, num_rows_ / num_shards_));
  const int shift = static_cast<int>(std::bit_width(rows_a_bucket)) - 1;
  locator_.bucket_shift_ = shift;
  const auto num_buckets = static_cast<std::size_t>(((num_rows_ - 1) >> shift) + 1);
  buckets_.reserve(num_buckets + 1);
  std::size_t shard = 0;
  for (std::size_t bucket = 0; bucket < num_buckets; ++bucket) {
    const auto row = static_cast<std::int64_t>(bucket) << shift;
    while (cumulative_[shard + 1] <= row) ++shard;
    buckets_.push_back(static_cast<std::uint32_t>(shard));
  }
  while (cumulative_[shard + 1] < num_rows_) ++shard;
  buckets_.push_back(static_cast<std::uint32_t>(shard));
}

void CumulativeIndex::locate(std::span<const std::int64_t> rows, std::span<std::int64_t> shards,
                             std::span<std::int64_t> rows_inside) const noexcept {
  const Locator locator = locator_;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Location at = locator.locate(rows[i]);
    shards[i] = at.shard;
    rows_inside[i] = at.row;
  }
}

std::int64_t CumulativeIndex::first_row(std::int64_t shard) const noexcept {
  const std::int64_t equal = locator_.equal_rows_;
  if (equal > 0) return std::min(shard * equal, num_rows_);
  return cumulative_[static_cast<std::size_t>(shard)];
}

std::vector<std::int64_t> CumulativeIndex::rows_per_shard() const {
  std::vector<std::int64_t> rows;
  rows.reserve(static_cast<std::size_t>(num_shards_));
  for (std::int64_t shard = 0; shard < num_shards_; ++shard) rows.push_back(rows_of(shard));
  return rows;
}

std::size_t CumulativeIndex::memory_bytes() const noexcept {
  return cumulative_.capacity() * sizeof(std::int64_t) + buckets_.capacity() * sizeof(std::uint32_t);
}

}  // namespace penstock
