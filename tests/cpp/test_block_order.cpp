#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "order/block_order.h"

namespace penstock {
namespace {

using Numbers = std::vector<std::int64_t>;

Numbers fill(const BlockOrder& order, std::int64_t first, std::int64_t step, std::int64_t count) {
  Numbers rows(static_cast<std::size_t>(count), -1);
  order.fill(first, step, rows);
  return rows;
}

Numbers all_rows(const BlockOrder& order) { return fill(order, 0, 1, order.num_rows()); }

Numbers sorted(Numbers numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

struct Shape {
  Numbers shards;
  std::int64_t block;
  std::int64_t window;
};

/// The rows of the blocks laid end to end, in their random order: windows of one row mix nothing.
Numbers laid_out(const Shape& shape, std::uint64_t key) {
  return all_rows(BlockOrder(shape.shards, shape.block, 1, key));
}

/// Every block of every shard, as its rows, by its first row.
std::vector<Numbers> blocks_of(const Shape& shape) {
  std::vector<Numbers> blocks;
  std::int64_t row = 0;
  for (const std::int64_t rows : shape.shards) {
    for (std::int64_t i = 0; i < rows; ++i, ++row) {
      if (i % shape.block == 0) blocks.emplace_back();
      blocks.back().push_back(row);
    }
  }
  return blocks;
}

/// The rows laid out are whole blocks, each once. Returns in which order.
Numbers require_whole_blocks(const Shape& shape, const Numbers& rows) {
  const std::vector<Numbers> blocks = blocks_of(shape);
  Numbers order;
  for (std::size_t done = 0; done < rows.size();
       done += blocks[static_cast<std::size_t>(order.back())].size()) {
    const auto found = std::find_if(blocks.begin(), blocks.end(),
                                    [&](const Numbers& block) { return block.front() == rows[done]; });
    REQUIRE(found != blocks.end());
    REQUIRE(done + found->size() <= rows.size());
    REQUIRE(std::equal(found->begin(), found->end(), rows.begin() + static_cast<std::ptrdiff_t>(done)));
    order.push_back(found - blocks.begin());
  }
  Numbers each(blocks.size());
  std::iota(each.begin(), each.end(), 0);
  REQUIRE(sorted(order) == each);
  return order;
}

void require_shuffles(const Shape& shape, std::uint64_t key) {
  CAPTURE(shape.shards.size());
  CAPTURE(shape.block);
  CAPTURE(shape.window);
  const Numbers laid = laid_out(shape, key);
  require_whole_blocks(shape, laid);

  const BlockOrder order(shape.shards, shape.block, shape.window, key);
  const Numbers rows = all_rows(order);
  REQUIRE(rows.size() == laid.size());
  for (std::size_t begin = 0; begin < rows.size();) {
    const std::size_t end = begin + std::min(static_cast<std::size_t>(shape.window), rows.size() - begin);
    const auto part = [&](const Numbers& numbers) {
      return sorted({numbers.begin() + static_cast<std::ptrdiff_t>(begin),
                     numbers.begin() + static_cast<std::ptrdiff_t>(end)});
    };
    REQUIRE(part(rows) == part(laid));
    begin = end;
  }
}

void require_steps_agree(const Shape& shape, std::mt19937_64& random) {
  const BlockOrder order(shape.shards, shape.block, shape.window, random());
  const Numbers rows = all_rows(order);
  const std::int64_t size = order.num_rows();
  for (int i = 0; size > 0 && i < 20; ++i) {
    const auto first = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(size));
    const auto step = 1 + static_cast<std::int64_t>(random() % (i % 2 == 0 ? 5 : 2 * rows.size()));
    const std::int64_t most = (size - 1 - first) / step + 1;
    const auto count = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
    Numbers expected;
    for (std::int64_t k = 0; k < count; ++k)
      expected.push_back(rows[static_cast<std::size_t>(first + k * step)]);
    REQUIRE(fill(order, first, step, count) == expected);
  }
}

Shape random_shape(std::mt19937_64& random) {
  Shape shape{Numbers(random() % 12), 1 + static_cast<std::int64_t>(random() % 40),
              1 + static_cast<std::int64_t>(random() % 300)};
  for (std::int64_t& rows : shape.shards) rows = static_cast<std::int64_t>(random() % 90);
  return shape;
}

TEST_CASE("every row once; windows are cut from whole blocks laid end to end") {
  require_shuffles({{}, 4, 8}, 1);
  require_shuffles({{0, 0}, 4, 8}, 1);
  require_shuffles({{1}, 4, 8}, 1);
  require_shuffles({{1000}, 1, 1}, 1);
  require_shuffles({{1000}, 10, 100}, 1);
  require_shuffles({{1000}, 10, 33}, 1);                // windows that cut blocks
  require_shuffles({{1000}, 7, 100}, 1);                // a short block at the end
  require_shuffles({{100, 100, 100, 37}, 10, 50}, 1);   // a short last shard
  require_shuffles({{10, 0, 1, 999, 3, 0}, 8, 64}, 1);  // uneven ones
  require_shuffles({{5, 5, 5, 5, 5, 5, 5}, 8, 10}, 1);  // blocks longer than shards
  require_shuffles({{300}, 3, INT64_MAX}, 1);
  require_shuffles({{300, 5}, INT64_MAX, 7}, 1);
  require_shuffles({{300, 5}, INT64_MAX, INT64_MAX}, 1);
  std::mt19937_64 random(2);
  for (int round = 0; round < 150; ++round) require_shuffles(random_shape(random), random());
}

TEST_CASE("any positions are those of the whole order") {
  std::mt19937_64 random(3);
  require_steps_agree({{10'000}, 64, 1000}, random);
  require_steps_agree({{10'000}, 64, 1 << 20}, random);
  for (int round = 0; round < 150; ++round) require_steps_agree(random_shape(random), random);
}

TEST_CASE("a step may lead anywhere after the last position") {
  const BlockOrder order(Numbers{10}, 2, 4, 1);
  const Numbers rows = all_rows(order);
  for (const std::int64_t beyond : {0, 1, 2, 3, 4}) {
    for (std::int64_t first = 0; first < 10; ++first) {
      CHECK(fill(order, first, INT64_MAX - beyond, 1).front() == rows[static_cast<std::size_t>(first)]);
    }
  }
}

TEST_CASE("blocks, and rows inside a window, come in any order, another one with another key") {
  const Shape shape{Numbers{64}, 16, 64};  // four blocks
  constexpr int kOrders = 2400;
  Numbers seen(4 * 4 * 4 * 4);
  Numbers row_sums(64);
  for (std::uint64_t key = 0; key < kOrders; ++key) {
    const std::uint64_t epoch = derive_key(5, key);
    const Numbers blocks = require_whole_blocks(shape, laid_out(shape, epoch));
    ++seen[static_cast<std::size_t>(((blocks[0] * 4 + blocks[1]) * 4 + blocks[2]) * 4 + blocks[3])];
    const Numbers rows = all_rows(BlockOrder(shape.shards, shape.block, shape.window, epoch));
    for (std::size_t i = 0; i < rows.size(); ++i) row_sums[i] += rows[i];
  }
  const auto never = std::count(seen.begin(), seen.end(), 0);
  CHECK(never == 256 - 24);
  for (const std::int64_t times : seen) CHECK((times == 0 || (times > 50 && times < 150)));  // 100 +- 5 * 10
  for (const std::int64_t sum : row_sums) {  // mean 31.5, deviation 18.5 / sqrt(2400) = 0.38
    CHECK(static_cast<double>(sum) / kOrders == doctest::Approx(31.5).epsilon(0.06));
  }
}

TEST_CASE("windows are shuffled each in its own way") {
  const BlockOrder order(Numbers{1 << 14}, 1 << 14, 64, 6);  // one block: what is laid out is the identity
  const Numbers rows = all_rows(order);
  Numbers first_rows;
  for (std::size_t begin = 0; begin < rows.size(); begin += 64)
    first_rows.push_back(rows[begin] - static_cast<std::int64_t>(begin));
  first_rows = sorted(first_rows);
  first_rows.erase(std::unique(first_rows.begin(), first_rows.end()), first_rows.end());
  CHECK(first_rows.size() > 50);  // 256 draws from 64: 62.9 different ones
}

TEST_CASE("10**12 rows: one by one as far apart as they are") {
  const Numbers shards(1000, 1'000'000'000);
  const BlockOrder order(shards, 1'000'000, 10'000'000, 7);
  CHECK(order.num_rows() == 1'000'000'000'000);
  Numbers rows = fill(order, 0, 999'999'937, 1000);
  for (std::size_t i = 0; i < rows.size(); i += 37) {
    CHECK(rows[i] == fill(order, static_cast<std::int64_t>(i) * 999'999'937, 1, 1).front());
  }
  rows = sorted(rows);
  CHECK(std::adjacent_find(rows.begin(), rows.end()) == rows.end());
  CHECK(rows.front() >= 0);
  CHECK(rows.back() < 1'000'000'000'000);
}

ErrorKind refusal(const Numbers& shards, std::int64_t block, std::int64_t window) {
  try {
    const BlockOrder order(shards, block, window, 0);
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("not refused");
  return ErrorKind::kFormat;
}

TEST_CASE("blocks and windows of nothing, and impossible counts, are refused") {
  CHECK(refusal({10}, 0, 4) == ErrorKind::kArgument);
  CHECK(refusal({10}, -1, 4) == ErrorKind::kArgument);
  CHECK(refusal({10}, 4, 0) == ErrorKind::kArgument);
  CHECK(refusal({10}, 4, INT64_MIN) == ErrorKind::kArgument);
  CHECK(refusal({}, 0, 0) == ErrorKind::kArgument);
  CHECK(refusal({10, -1}, 4, 4) == ErrorKind::kSchema);
  CHECK(refusal({std::int64_t{1} << 61U, std::int64_t{1} << 61U, 1}, std::int64_t{1} << 61U, 4) ==
        ErrorKind::kSchema);
}

}  // namespace
}  // namespace penstock
