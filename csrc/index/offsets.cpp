#include "index/offsets.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"

namespace penstock {

Offsets::Offsets(std::vector<std::int64_t> offsets, std::int64_t num_values) : offsets_(std::move(offsets)) {
  if (offsets_.empty() || offsets_.front() != 0) {
    throw Error(ErrorKind::kSchema, "offsets begin with 0, and there is one more than rows")
        .at_row(0)
        .found(offsets_.empty() ? "none" : std::to_string(offsets_.front()));
  }
  const auto lower = std::adjacent_find(offsets_.begin(), offsets_.end(), std::greater<>());
  if (lower != offsets_.end()) {
    throw Error(ErrorKind::kSchema, "offsets never decrease")
        .at_row(lower - offsets_.begin())
        .found(std::to_string(*(lower + 1)) + " after " + std::to_string(*lower));
  }
  if (offsets_.back() != num_values) {
    throw Error(ErrorKind::kSchema, "offsets end with the number of values")
        .at_row(num_rows())
        .needed(std::to_string(num_values))
        .found(std::to_string(offsets_.back()));
  }
}

Offsets Offsets::from_lengths(std::span<const std::int64_t> lengths, std::int64_t num_values) {
  std::vector<std::int64_t> offsets;
  offsets.reserve(lengths.size() + 1);
  offsets.push_back(0);
  for (std::size_t row = 0; row < lengths.size(); ++row) {
    if (lengths[row] < 0) {
      throw Error(ErrorKind::kSchema, "a length cannot be negative")
          .at_row(static_cast<std::int64_t>(row))
          .found(std::to_string(lengths[row]));
    }
    const auto next =
        checked_add(static_cast<std::uint64_t>(offsets.back()), static_cast<std::uint64_t>(lengths[row]));
    if (!next || *next > static_cast<std::uint64_t>(num_values)) {
      throw Error(ErrorKind::kSchema, "the lengths sum to more than there are values")
          .at_row(static_cast<std::int64_t>(row))
          .needed(std::to_string(lengths[row]) + " values from value " + std::to_string(offsets.back()))
          .found(std::to_string(num_values) + " values");
    }
    offsets.push_back(static_cast<std::int64_t>(*next));
  }
  if (offsets.back() != num_values) {
    throw Error(ErrorKind::kSchema, "the lengths do not sum to the number of values")
        .needed(std::to_string(num_values))
        .found(std::to_string(offsets.back()));
  }
  return {std::move(offsets), num_values};
}

std::vector<std::int64_t> Offsets::rows_per_shard(const CumulativeIndex& values) const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(values.num_shards()));
  std::int64_t row = 0;
  for (std::int64_t shard = 0; shard < values.num_shards(); ++shard) {
    const std::int64_t begin = row;
    const bool is_last = shard + 1 == values.num_shards();
    const std::int64_t end = values.first_row(shard + 1);
    while (row < num_rows() && (is_last || first(row) < end || first(row + 1) <= end)) ++row;
    counts[static_cast<std::size_t>(shard)] = row - begin;
  }
  return counts;
}

bool Offsets::are_within_shards(const CumulativeIndex& values) const {
  for (std::int64_t shard = 1; shard < values.num_shards(); ++shard) {
    if (!std::binary_search(offsets_.begin(), offsets_.end(), values.first_row(shard))) return false;
  }
  return true;
}

}  // namespace penstock
