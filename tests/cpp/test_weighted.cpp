#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "order/weighted.h"

namespace penstock {
namespace {

using Numbers = std::vector<std::int64_t>;
using Weights = std::vector<double>;

constexpr double kSubnormal = std::numeric_limits<double>::denorm_min();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Numbers draw(const AliasTable& table, std::uint64_t key, std::int64_t first, std::int64_t step,
             std::size_t count) {
  Numbers out(count, -1);
  table.draw(key, first, step, out);
  return out;
}

/// Each weight's share of the sum, which itself may be no double.
Weights shares_of(Weights weights) {
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight /= largest;
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// How far the counts of `draws` are from the shares, in standard deviations of their chi-square. What is too
/// rare to count by itself counts together; where all that is too rare as well it may not come more than a
/// few times.
double distance(const Weights& shares, const Numbers& counts, double draws) {
  constexpr double kFew = 10;
  double chi_square = 0;
  double freedom = -1;
  double rare_expected = 0;
  double rare_count = 0;
  const auto add = [&](double count, double expected) {
    chi_square += (count - expected) * (count - expected) / expected;
    freedom += 1;
  };
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const double expected = shares[i] * draws;
    const auto count = static_cast<double>(counts[i]);
    if (shares[i] == 0 && count > 0) FAIL("weight 0, and drawn");
    if (expected >= kFew) {
      add(count, expected);
    } else {
      rare_expected += expected;
      rare_count += count;
    }
  }
  if (rare_expected >= kFew) {
    add(rare_count, rare_expected);
  } else {
    CHECK(rare_count <= rare_expected + 5 * std::sqrt(rare_expected) + 3);
  }
  return freedom < 1 ? 0 : (chi_square - freedom) / std::sqrt(2 * freedom);
}

void require_shares(const Weights& weights, std::uint64_t key) {
  constexpr std::size_t kDraws = 200'000;
  const AliasTable table(weights);
  Numbers counts(weights.size());
  for (const std::int64_t sample : draw(table, key, 0, 1, kDraws)) {
    if (sample < 0 || static_cast<std::size_t>(sample) >= weights.size()) FAIL("outside");
    ++counts[static_cast<std::size_t>(sample)];
  }
  const double far = distance(shares_of(weights), counts, kDraws);
  CAPTURE(key);
  CHECK(far < 5);
  CHECK(far > -5);
}

template <typename Call>
ErrorKind refusal(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("not refused");
  return ErrorKind::kFormat;
}

/// Weights of every kind: equal, random, some zero, far apart, tiny, huge.
std::vector<Weights> many_weights() {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  const auto generated = [&](std::size_t count, auto weight_at) {
    Weights weights(count);
    for (std::size_t i = 0; i < count; ++i) weights[i] = weight_at(i);
    return weights;
  };
  std::vector<Weights> all = {
      {1},
      {kSubnormal},
      {std::numeric_limits<double>::max()},
      {0, 0, 3, 0},
      {0, 1, 2, 3},
      {3, 2, 1, 0},
      {1, 1e-3},
      {1e-300, 3e-300},
      {kSubnormal, 3 * kSubnormal, 0, 2 * kSubnormal},
      {1e308, 1e308, 5e307, 1.7e308},  // the sum overflows
      {1e308, 1, kSubnormal, 0},       // one that is all
      {kSubnormal, 1, 1e308, 1e308, -0.0},
  };
  for (const std::size_t count : {2U, 3U, 10U, 100U, 1000U}) {
    all.push_back(Weights(count, 1));
    all.push_back(Weights(count, 1e308));
    all.push_back(Weights(count, kSubnormal));
    all.push_back(Weights(count, 0.1));
    all.push_back(generated(count, [&](std::size_t) { return uniform(random); }));
    all.push_back(generated(count, [&](std::size_t i) { return i % 3 == 1 ? uniform(random) : 0; }));
    all.push_back(generated(count, [&](std::size_t) { return std::pow(10, 16 * uniform(random) - 8); }));
    all.push_back(generated(count, [&](std::size_t i) { return static_cast<double>(i * i); }));
    all.push_back(generated(count, [&](std::size_t i) { return static_cast<double>(count - i); }));
    all.push_back(generated(count, [&](std::size_t i) { return i == count / 2 ? 1e3 : 1; }));
    all.push_back(generated(count, [&](std::size_t i) { return 1 + (i % 2 == 0 ? 1e-16 : 2e-16); }));
  }
  return all;
}

// --- with replacement ------------------------------------------------------------------------------

TEST_CASE("samples are drawn as often as their weights say") {
  std::uint64_t key = 0;
  for (const Weights& weights : many_weights()) require_shares(weights, ++key);
}

TEST_CASE("a million weights") {
  constexpr std::size_t kSamples = 1'000'000;
  constexpr std::size_t kGroups = 100;  // of neighbours, counted together
  std::mt19937_64 random(2);
  std::exponential_distribution<double> exponential(1);
  Weights weights(kSamples);
  for (double& weight : weights) weight = exponential(random);
  Weights sums(kGroups);
  for (std::size_t i = 0; i < kSamples; ++i) sums[i / (kSamples / kGroups)] += weights[i];
  Numbers counts(kGroups);
  for (const std::int64_t sample : draw(AliasTable(weights), 3, 0, 1, kSamples))
    ++counts[static_cast<std::size_t>(sample) / (kSamples / kGroups)];
  CHECK(std::abs(distance(shares_of(sums), counts, kSamples)) < 5);
}

TEST_CASE("one draw after the other says nothing about the next") {
  const Weights weights = {4, 3, 2, 1};
  constexpr std::size_t kDraws = 200'000;
  const Numbers drawn = draw(AliasTable(weights), 4, 0, 1, kDraws + 1);
  Numbers pairs(16);
  for (std::size_t i = 0; i < kDraws; i += 2) ++pairs[static_cast<std::size_t>(drawn[i] * 4 + drawn[i + 1])];
  Weights products;
  for (const double one : weights) {
    for (const double other : weights) products.push_back(one * other);
  }
  CHECK(std::abs(distance(shares_of(products), pairs, kDraws / 2.0)) < 5);
}

TEST_CASE("a draw is a function of key and number, whoever takes it in whatever steps") {
  std::mt19937_64 random(5);
  Weights weights(1000);
  for (double& weight : weights) weight = static_cast<double>(random() % 100);
  const AliasTable table(weights);
  const Numbers all = draw(table, 6, 0, 1, 5000);
  CHECK(all == draw(AliasTable(weights), 6, 0, 1, 5000));
  CHECK(all != draw(table, 7, 0, 1, 5000));
  for (const std::size_t count : {0U, 1U, 2U, 63U, 64U, 65U, 127U, 128U, 129U, 500U}) {
    for (const std::size_t step : {0U, 1U, 2U, 3U, 8U, 9U}) {
      for (const std::size_t first : {0U, 1U, 63U, 64U, 499U}) {
        Numbers expected;
        for (std::size_t i = 0; i < count; ++i) expected.push_back(all[first + i * step]);
        REQUIRE(draw(table, 6, static_cast<std::int64_t>(first), static_cast<std::int64_t>(step), count) ==
                expected);
      }
    }
  }
}

TEST_CASE("draws with numbers up to the last") {
  const AliasTable table(Weights{1, 2, 3});
  CHECK(draw(table, 1, INT64_MAX, 1, 1) == draw(table, 1, INT64_MAX, INT64_MAX, 1));
  const Numbers drawn = draw(table, 1, (std::int64_t{1} << 62U) - 99, 1, 100);
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    CHECK(draw(table, 1, (std::int64_t{1} << 62U) - 99 + static_cast<std::int64_t>(i), 1, 1).front() ==
          drawn[i]);
  }
}

TEST_CASE("a copy draws what the original draws") {
  const AliasTable table(Weights{1, 2, 3});
  const AliasTable copy = table;  // NOLINT(performance-unnecessary-copy-initialization): what is tested
  CHECK(draw(copy, 1, 0, 1, 100) == draw(table, 1, 0, 1, 100));
}

// --- without replacement ---------------------------------------------------------------------------

TEST_CASE("without replacement: different ones, none of weight zero, up to all there are") {
  std::uint64_t key = 0;
  for (const Weights& weights : many_weights()) {
    const auto positive =
        std::count_if(weights.begin(), weights.end(), [](double weight) { return weight > 0; });
    for (const std::int64_t count :
         {std::int64_t{0}, std::int64_t{1}, positive / 2, positive - 1, positive}) {
      const Numbers drawn = draw_without_replacement(weights, count, ++key);
      REQUIRE(static_cast<std::int64_t>(drawn.size()) == count);
      const std::set<std::int64_t> different(drawn.begin(), drawn.end());
      REQUIRE(different.size() == drawn.size());
      for (const std::int64_t sample : drawn) {
        REQUIRE(sample >= 0);
        REQUIRE(static_cast<std::size_t>(sample) < weights.size());
        REQUIRE(weights[static_cast<std::size_t>(sample)] > 0);
      }
      REQUIRE(drawn == draw_without_replacement(weights, count, key));
    }
  }
}

TEST_CASE("without replacement: fewer are the first of more") {
  const Weights weights = {5, 1, 0, 2, 8, 1, 1, 3};
  for (std::uint64_t key = 0; key < 50; ++key) {
    const Numbers all = draw_without_replacement(weights, 7, key);
    for (std::int64_t count = 0; count < 7; ++count) {
      const Numbers first(all.begin(), all.begin() + count);
      CHECK(draw_without_replacement(weights, count, key) == first);
    }
  }
}

/// Chance of drawing `order` one after the other, each in proportion to the weights that are left.
double chance_of(const Numbers& order, Weights weights) {
  double chance = 1;
  for (const std::int64_t sample : order) {
    chance *= shares_of(weights)[static_cast<std::size_t>(sample)];
    weights[static_cast<std::size_t>(sample)] = 0;
  }
  return chance;
}

/// Every order of `count` samples comes as often as its chance says.
void require_chances(const Weights& weights, std::int64_t count, std::uint64_t seed) {
  constexpr std::uint64_t kRounds = 30'000;
  std::map<Numbers, std::int64_t> seen;
  for (std::uint64_t i = 0; i < kRounds; ++i)
    ++seen[draw_without_replacement(weights, count, derive_key(seed, i))];
  Weights chances;
  Numbers counts;
  double sum = 0;
  for (const auto& [order, times] : seen) {
    chances.push_back(chance_of(order, weights));
    counts.push_back(times);
    sum += chances.back();
  }
  CAPTURE(seed);
  CHECK(sum > 0.999);  // what never came has next to no chance
  CHECK(std::abs(distance(chances, counts, kRounds)) < 5);
}

TEST_CASE("without replacement: every order as often as drawing one after the other gives it") {
  require_chances({4, 3, 2, 1}, 1, 1);
  require_chances({4, 3, 2, 1}, 2, 2);
  require_chances({4, 3, 2, 1}, 4, 3);
  require_chances({1, 1, 1, 1}, 4, 4);
  require_chances({10, 0, 1, 5}, 3, 5);
  require_chances({1e308, 1e308, 5e307}, 3, 6);
  require_chances({kSubnormal, 2 * kSubnormal, kSubnormal}, 3, 7);
}

TEST_CASE("without replacement: what is left is drawn in proportion, however small next to what is gone") {
  require_chances({1, 1e-18, 2e-18, 1e-18}, 2, 8);
  require_chances({1e150, 1e-150, 2e-150, 1e-150}, 2, 9);
  require_chances({1e308, 2e-300, 1e-300, 1e-300}, 2, 10);
  require_chances({1e308, kSubnormal, kSubnormal, kSubnormal}, 4, 11);
}

// --- what is no weight -----------------------------------------------------------------------------

TEST_CASE("what is no weight is refused everywhere") {
  const std::vector<Weights> bad = {{},         {0},       {0, 0, 0},       {-0.0},      {kNan},
                                    {1, kNan},  {kNan, 1}, {1, kInfinity},  {kInfinity}, {1, -kInfinity},
                                    {1, -1e-9}, {-1, 2},   {-kSubnormal, 1}};
  for (const Weights& weights : bad) {
    CHECK(refusal([&] { require_weights(weights, 0); }) == ErrorKind::kArgument);
    CHECK(refusal([&] { (void)AliasTable(weights); }) == ErrorKind::kArgument);
    CHECK(refusal([&] { (void)draw_without_replacement(weights, 0, 0); }) == ErrorKind::kArgument);
  }
}

TEST_CASE("which weight it is that is none is said") {
  try {
    require_weights(Weights{1, 2, kNan, -1}, 0);
    FAIL("not refused");
  } catch (const Error& error) {
    CHECK(error.problem().find("weight 2 ") != std::string::npos);
  }
}

TEST_CASE("more than there are positive weights is refused") {
  const Weights weights = {0, 1, 2, 0, kSubnormal};
  require_weights(weights, 0);
  require_weights(weights, 3);
  for (const std::int64_t count : {std::int64_t{4}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
    CHECK(refusal([&] { require_weights(weights, count); }) == ErrorKind::kArgument);
    CHECK(refusal([&] { (void)draw_without_replacement(weights, count, 0); }) == ErrorKind::kArgument);
  }
}

}  // namespace
}  // namespace penstock
