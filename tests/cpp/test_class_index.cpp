#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <vector>

#include "order/class_index.h"

namespace penstock {
namespace {

using Numbers = std::vector<std::int64_t>;

Numbers copied(std::span<const std::int64_t> numbers) { return {numbers.begin(), numbers.end()}; }

/// Against a map from label to samples.
void require_equals_map(const Numbers& targets) {
  std::map<std::int64_t, Numbers> expected;
  for (std::size_t i = 0; i < targets.size(); ++i)
    expected[targets[i]].push_back(static_cast<std::int64_t>(i));

  const ClassIndex index(targets);
  REQUIRE(index.num_samples() == static_cast<std::int64_t>(targets.size()));
  REQUIRE(index.num_classes() == static_cast<std::int64_t>(expected.size()));
  Numbers labels;
  Numbers first = {0};
  Numbers samples;
  for (const auto& [label, of_label] : expected) {
    REQUIRE(copied(index.samples_of(static_cast<std::int64_t>(labels.size()))) == of_label);
    labels.push_back(label);
    samples.insert(samples.end(), of_label.begin(), of_label.end());
    first.push_back(static_cast<std::int64_t>(samples.size()));
  }
  REQUIRE(copied(index.labels()) == labels);
  REQUIRE(copied(index.first()) == first);
  REQUIRE(copied(index.samples()) == samples);
}

Numbers random_targets(std::mt19937_64& random, std::size_t count, std::int64_t lowest, std::uint64_t range) {
  Numbers targets(count);
  for (std::int64_t& target : targets) {
    const std::uint64_t above = range == ~std::uint64_t{0} ? random() : random() % (range + 1);
    target = static_cast<std::int64_t>(static_cast<std::uint64_t>(lowest) + above);
  }
  return targets;
}

TEST_CASE("small indexes: none, one sample, one class, every class alone") {
  require_equals_map({});
  require_equals_map({0});
  require_equals_map({-5});
  require_equals_map({INT64_MIN});
  require_equals_map({INT64_MAX});
  require_equals_map(Numbers(1000, 7));
  require_equals_map(Numbers(1000, INT64_MIN));
  require_equals_map({3, 1, 2, 0});
  require_equals_map({2, 0, 2, 0, 0, 5, 2});
  require_equals_map({-1, 0, 1, 0, -1});
}

TEST_CASE("labels from one end of the numbers to the other") {
  require_equals_map({INT64_MAX, INT64_MIN});
  require_equals_map({INT64_MIN, INT64_MAX, 0, -1, INT64_MIN, 1, INT64_MAX, 0});
  require_equals_map({INT64_MIN, INT64_MIN + 1, INT64_MIN, INT64_MIN + 3});
  require_equals_map({INT64_MAX, INT64_MAX - 1, INT64_MAX, INT64_MAX - 3});
}

TEST_CASE("around the spread from which labels are sorted") {
  for (const std::int64_t count : {1, 2, 10, 1000}) {
    for (std::int64_t range = 4 * count + 1020; range <= 4 * count + 1028; ++range) {
      for (const std::int64_t lowest : {INT64_MIN, std::int64_t{-17}, INT64_MAX - range}) {
        Numbers targets(static_cast<std::size_t>(count), lowest + range / 2);
        targets.front() = lowest;
        targets.back() = lowest + range;
        require_equals_map(targets);
      }
    }
  }
}

TEST_CASE("random targets, dense and sparse, agree with a map") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    const std::size_t count = random() % 500;
    const std::uint64_t range = ~std::uint64_t{0} >> random() % 64;
    const auto lowest = static_cast<std::int64_t>(random());  // and on from INT64_MIN after INT64_MAX
    require_equals_map(random_targets(random, count, lowest, range));
  }
  require_equals_map(random_targets(random, 50'000, -500, 999));
  require_equals_map(random_targets(random, 50'000, INT64_MIN, ~std::uint64_t{0}));
}

}  // namespace
}  // namespace penstock
