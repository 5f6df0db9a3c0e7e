#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"
#include "format_checks.h"
#include "index/cumulative.h"
#include "index/offsets.h"

namespace penstock {
namespace {

using testing::error_from;
using Numbers = std::vector<std::int64_t>;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();

Numbers sums_of(const Numbers& lengths) {
  Numbers sums = {0};
  for (const std::int64_t length : lengths) sums.push_back(sums.back() + length);
  return sums;
}

Numbers random_numbers(std::mt19937_64& random, std::size_t count, std::uint64_t below) {
  Numbers numbers(count);
  for (auto& number : numbers) number = static_cast<std::int64_t>(random() % below);
  return numbers;
}

TEST_CASE("rows begin where those before them end") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    const Numbers lengths = random_numbers(random, random() % 30, 4);
    const Numbers sums = sums_of(lengths);
    for (const Offsets& offsets : {Offsets(sums, sums.back()), Offsets::from_lengths(lengths, sums.back())}) {
      REQUIRE(offsets.num_rows() == static_cast<std::int64_t>(lengths.size()));
      for (std::size_t i = 0; i < lengths.size(); ++i) {
        REQUIRE(offsets.first(static_cast<std::int64_t>(i)) == sums[i]);
        REQUIRE(offsets.length(static_cast<std::int64_t>(i)) == lengths[i]);
      }
      REQUIRE(Numbers(offsets.all().begin(), offsets.all().end()) == sums);
    }
  }
}

TEST_CASE("lengths that cannot be are refused, with their row") {
  struct Case {
    Numbers lengths;
    std::int64_t values;
    std::int64_t row;  // -1: of no row
  };
  for (const Case& bad : std::vector<Case>{
           {{-1}, 0, 0},
           {{3, -1, 1}, 3, 1},
           {{0, 0, kLeast}, 0, 2},
           {{kMost}, 5, 0},
           {{1, kMost}, 5, 1},
           {{1, kMost, 2}, kMost, 1},
           {{kMost, kMost, 2}, 0, 0},
           {{kMost, 1}, kMost, 1},
           {{4, 2}, 5, 1},
           {{4}, 5, -1},
           {{}, 1, -1},
           {{0, 0}, 1, -1},
       }) {
    const Error error = error_from([&] { return Offsets::from_lengths(bad.lengths, bad.values); });
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.row().value_or(-1) == bad.row);
  }
  CHECK(Offsets::from_lengths(Numbers{}, 0).num_rows() == 0);
  CHECK(Offsets::from_lengths(Numbers{kMost}, kMost).length(0) == kMost);
  CHECK(Offsets::from_lengths(Numbers{0, kMost, 0}, kMost).length(2) == 0);
}

TEST_CASE("offsets that cannot be are refused, with their row") {
  struct Case {
    Numbers offsets;
    std::int64_t values;
    std::int64_t row;
  };
  for (const Case& bad : std::vector<Case>{
           {{}, 0, 0},
           {{1}, 1, 0},
           {{-1, 3}, 3, 0},
           {{kLeast, 0}, 0, 0},
           {{0, 5, 3, 10}, 10, 1},
           {{0, -1, 10}, 10, 0},
           {{0, kMost, 10}, 10, 1},
           {{0, 3, kLeast}, 3, 1},
           {{0, 5}, 6, 1},
           {{0, 5, 7}, 6, 2},
           {{0}, 1, 0},
       }) {
    const Error error = error_from([&] { return Offsets(bad.offsets, bad.values); });
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.row().value_or(-1) == bad.row);
  }
  CHECK(Offsets({0}, 0).num_rows() == 0);
  CHECK(Offsets({0, 0, 0}, 0).num_rows() == 2);
  CHECK(Offsets({0, kMost}, kMost).length(0) == kMost);
}

/// Value by value: which rows have values in two shards, and where each begins.
struct Walk {
  bool within = true;
  Numbers rows;
};

Walk walk(const Numbers& lengths, const CumulativeIndex& values) {
  Walk result;
  result.rows.assign(static_cast<std::size_t>(values.num_shards()), 0);
  std::int64_t value = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      result.within = result.within && values.locate(value + i).shard == values.locate(value).shard;
    }
    if (length > 0) ++result.rows[static_cast<std::size_t>(values.locate(value).shard)];
    value += length;
  }
  return result;
}

TEST_CASE("whether rows lie within shards, and how many begin in each") {
  std::mt19937_64 random(3);
  int within = 0;
  for (int round = 0; round < 3000; ++round) {
    const Numbers lengths = random_numbers(random, random() % 12, 4);
    const std::int64_t total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    Numbers shards;
    std::int64_t left = total;
    while (left > 0) {
      shards.push_back(static_cast<std::int64_t>(random() % 6));
      shards.back() = std::min(shards.back(), left);
      left -= shards.back();
    }
    while (shards.empty() || random() % 3 == 0) shards.push_back(0);
    const CumulativeIndex values(shards);
    const Offsets offsets = Offsets::from_lengths(lengths, total);
    const Walk expected = walk(lengths, values);
    REQUIRE(offsets.are_within_shards(values) == expected.within);
    within += expected.within ? 1 : 0;
    const Numbers counts = offsets.rows_per_shard(values);
    REQUIRE(counts.size() == shards.size());
    REQUIRE(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) == offsets.num_rows());
    std::int64_t row = 0;
    for (std::size_t shard = 0; shard < counts.size(); ++shard) {
      REQUIRE(counts[shard] >= expected.rows[shard]);  // and those without values, at the edges
      const std::int64_t end = row + counts[shard];
      std::int64_t with_values = 0;
      for (; row < end; ++row) with_values += offsets.length(row) > 0 ? 1 : 0;
      REQUIRE(with_values == expected.rows[shard]);
    }
  }
  CHECK(within > 100);
  CHECK(within < 2900);
}

TEST_CASE("rows without values between two shards are of the first") {
  const CumulativeIndex values(Numbers{3, 0, 2, 0});
  const Offsets offsets = Offsets::from_lengths(Numbers{0, 3, 0, 0, 2, 0}, 5);
  CHECK(offsets.rows_per_shard(values) == Numbers{4, 0, 2, 0});
  CHECK(offsets.are_within_shards(values));
  CHECK(Offsets({0}, 0).rows_per_shard(CumulativeIndex(Numbers{0, 0})) == Numbers{0, 0});
  CHECK(Offsets({0, 0, 0}, 0).rows_per_shard(CumulativeIndex(Numbers{0, 0})) == Numbers{2, 0});
}

}  // namespace
}  // namespace penstock
