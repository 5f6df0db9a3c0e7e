#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "base/error.h"
#include "index/cumulative.h"

namespace penstock {
namespace {

/// The slow, obvious way.
Location walk(const std::vector<std::int64_t>& counts, std::int64_t row) {
  std::int64_t shard = 0;
  while (row >= counts[static_cast<std::size_t>(shard)]) row -= counts[static_cast<std::size_t>(shard++)];
  return {shard, row};
}

void require_equals_walk(const std::vector<std::int64_t>& counts) {
  const CumulativeIndex index(counts);
  for (std::int64_t row = 0; row < index.num_rows(); ++row) {
    const Location expected = walk(counts, row);
    const Location found = index.locate(row);
    REQUIRE(found.shard == expected.shard);
    REQUIRE(found.row == expected.row);
  }
}

TEST_CASE("every row of small indexes is found, equal and uneven, with empty shards anywhere") {
  require_equals_walk({});
  require_equals_walk({0});
  require_equals_walk({5});
  require_equals_walk({5, 5, 5});
  require_equals_walk({5, 5, 3});
  require_equals_walk({5, 5, 0});
  require_equals_walk({0, 0, 7});
  require_equals_walk({7, 0, 0});
  require_equals_walk({1, 0, 0, 2, 0, 1, 1000, 0, 3});
  require_equals_walk({1000, 1, 1, 1, 1, 1, 1, 1, 1});
  require_equals_walk({1, 1, 1, 1, 1, 1, 1, 1, 1000});
}

TEST_CASE("random indexes agree with the walk") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::int64_t> counts(random() % 40);
    const std::uint64_t most = 1 + random() % 60;
    for (auto& count : counts) count = static_cast<std::int64_t>(random() % most);
    require_equals_walk(counts);
  }
}

TEST_CASE("division is exact around every boundary of large equal shards") {
  for (const std::int64_t length :
       {std::int64_t{1}, std::int64_t{3}, std::int64_t{999'999'937}, std::int64_t{1} << 40}) {
    const std::vector<std::int64_t> counts(4000, length);
    const CumulativeIndex index(counts);
    CHECK(index.memory_bytes() == 0);
    for (std::int64_t shard = 0; shard < 4000; ++shard) {
      CHECK(index.locate(shard * length).shard == shard);
      CHECK(index.locate(shard * length).row == 0);
      CHECK(index.locate((shard + 1) * length - 1).row == length - 1);
    }
  }
}

TEST_CASE("ten million shards and 10**12 rows: 16 bytes a shard at most") {
  constexpr std::int64_t kShards = 10'000'000;
  std::vector<std::int64_t> counts(kShards);
  for (std::int64_t i = 0; i < kShards; ++i)
    counts[static_cast<std::size_t>(i)] = 100'000 + (i % 2 == 0 ? 1 : -1);
  const CumulativeIndex index(counts);
  CHECK(index.num_rows() == 1'000'000'000'000);
  CHECK(index.memory_bytes() <= 16 * kShards + 64);
  for (std::int64_t shard = 0; shard < kShards; shard += 9973) {
    CHECK(index.locate(index.first_row(shard)).shard == shard);
    CHECK(index.locate(index.first_row(shard + 1) - 1).shard == shard);
  }
}

TEST_CASE("impossible counts are refused") {
  CHECK_THROWS_AS(CumulativeIndex(std::vector<std::int64_t>{-1}), Error);
  CHECK_THROWS_AS(CumulativeIndex(std::vector<std::int64_t>(3, std::int64_t{1} << 61)), Error);
}

}  // namespace
}  // namespace penstock
