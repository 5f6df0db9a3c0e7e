#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "order/class_batches.h"

namespace penstock {
namespace {

using Numbers = std::vector<std::int64_t>;
using Index = std::shared_ptr<const ClassIndex>;

Index index_of(const Numbers& targets) { return std::make_shared<const ClassIndex>(targets); }

/// sizes[c] samples of class c, in an order in which classes are mixed.
Numbers targets_of_sizes(const Numbers& sizes, std::uint64_t seed) {
  Numbers targets;
  for (std::size_t c = 0; c < sizes.size(); ++c)
    targets.insert(targets.end(), static_cast<std::size_t>(sizes[c]), static_cast<std::int64_t>(c));
  std::mt19937_64 random(seed);
  std::shuffle(targets.begin(), targets.end(), random);
  return targets;
}

Numbers random_sizes(std::mt19937_64& random, std::uint64_t most_classes, std::uint64_t most_samples) {
  Numbers sizes(1 + random() % most_classes);
  for (std::int64_t& size : sizes) size = 1 + static_cast<std::int64_t>(random() % most_samples);
  return sizes;
}

template <typename Batches>
Numbers batch_of(const Batches& batches, std::int64_t number) {
  Numbers out(static_cast<std::size_t>(batches.batch_size()), -1);
  batches.fill(number, out);
  return out;
}

std::int64_t different(const Numbers& numbers) {
  return static_cast<std::int64_t>(std::set<std::int64_t>(numbers.begin(), numbers.end()).size());
}

struct Group {
  std::int64_t label;
  Numbers samples;
};

/// A batch as its groups of samples, each of one class.
std::vector<Group> groups_of(const Numbers& targets, const Numbers& batch, std::int64_t samples_per_class) {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    REQUIRE(batch[i] >= 0);
    REQUIRE(static_cast<std::size_t>(batch[i]) < targets.size());
    const std::int64_t label = targets[static_cast<std::size_t>(batch[i])];
    if (i % static_cast<std::size_t>(samples_per_class) == 0) groups.push_back({label, {}});
    REQUIRE(groups.back().label == label);
    groups.back().samples.push_back(batch[i]);
  }
  return groups;
}

template <typename Make>
Error refusal(Make make) {
  try {
    (void)make();
  } catch (const Error& error) {
    return error;
  }
  FAIL("not refused");
  return format_error("");
}

/// How far counts are from all alike, in standard deviations of their chi-square.
double unevenness(const Numbers& counts) {
  double sum = 0;
  for (const std::int64_t count : counts) sum += static_cast<double>(count);
  const double expected = sum / static_cast<double>(counts.size());
  double chi_square = 0;
  for (const std::int64_t count : counts) {
    const double off = static_cast<double>(count) - expected;
    chi_square += off * off / expected;
  }
  const auto freedom = static_cast<double>(counts.size() - 1);
  return (chi_square - freedom) / std::sqrt(2 * freedom);
}

// --- balanced --------------------------------------------------------------------------------------

/// How often each sample of a class of `size` comes in K of it: as evenly as it goes.
void require_evenly(const Numbers& samples, std::int64_t size) {
  std::map<std::int64_t, std::int64_t> times;
  for (const std::int64_t sample : samples) ++times[sample];
  const auto count = static_cast<std::int64_t>(samples.size());
  REQUIRE(static_cast<std::int64_t>(times.size()) == std::min(size, count));
  for (const auto& [sample, often] : times) {
    REQUIRE(often >= count / size);
    REQUIRE(often <= (count + size - 1) / size);
  }
}

/// Follows the batches round by round and class by class.
void require_balanced(const Numbers& sizes, std::int64_t classes_per_batch, std::int64_t samples_per_class,
                      std::uint64_t key) {
  CAPTURE(key);
  CAPTURE(classes_per_batch);
  CAPTURE(samples_per_class);
  const auto num_classes = static_cast<std::int64_t>(sizes.size());
  const Numbers targets = targets_of_sizes(sizes, key);
  const BalancedBatches batches(index_of(targets), classes_per_batch, samples_per_class, key);
  REQUIRE(batches.batch_size() == classes_per_batch * samples_per_class);
  const std::int64_t batches_per_round = num_classes / classes_per_batch;
  std::map<std::int64_t, Numbers> walked;  // by class: its samples since it was last shuffled
  for (std::int64_t round = 0; round < 12; ++round) {
    Numbers dealt;
    for (std::int64_t c = 0; c < num_classes; ++c) {
      const std::int64_t turns =
          std::max<std::int64_t>(1, sizes[static_cast<std::size_t>(c)] / samples_per_class);
      if (round % turns == 0) walked[c].clear();
    }
    for (std::int64_t b = 0; b < batches_per_round; ++b) {
      const Numbers batch = batch_of(batches, round * batches_per_round + b);
      for (const Group& group : groups_of(targets, batch, samples_per_class)) {
        const std::int64_t size = sizes[static_cast<std::size_t>(group.label)];
        require_evenly(group.samples, size);
        dealt.push_back(group.label);
        Numbers& walk = walked[group.label];
        walk.insert(walk.end(), group.samples.begin(), group.samples.end());
        if (size >= samples_per_class) REQUIRE(different(walk) == static_cast<std::int64_t>(walk.size()));
      }
    }
    REQUIRE(different(dealt) == batches_per_round * classes_per_batch);  // none twice in a round
  }
}

TEST_CASE("balanced: P classes of K samples, none again before its turn") {
  require_balanced({1}, 1, 1, 1);
  require_balanced({1}, 1, 100, 1);             // one sample, again and again
  require_balanced({500}, 1, 500, 1);           // everything in each batch
  require_balanced({500}, 1, 3, 1);             // all samples in one class
  require_balanced(Numbers(300, 1), 7, 2, 1);   // classes of one sample
  require_balanced({3, 5, 2, 9, 4}, 5, 4, 1);   // all classes in each batch
  require_balanced({3, 5, 2, 9, 4}, 2, 20, 1);  // K larger than every class
  require_balanced({3, 5, 2, 9, 4}, 3, 1, 1);   // two classes sit each round out
  require_balanced({1000, 1, 10, 100}, 2, 8, 1);
  std::mt19937_64 random(2);
  for (int i = 0; i < 200; ++i) {
    const Numbers sizes = random_sizes(random, 30, 1 + random() % 40);
    const auto classes = 1 + static_cast<std::int64_t>(random() % sizes.size());
    require_balanced(sizes, classes, 1 + static_cast<std::int64_t>(random() % 12), random());
  }
}

TEST_CASE("balanced: where no class sits out, all that turns have room for come before any comes again") {
  for (const std::int64_t samples_per_class : {1, 2, 3, 5, 24}) {
    const Numbers targets = targets_of_sizes(Numbers(6, 24), 3);
    const BalancedBatches batches(index_of(targets), 2, samples_per_class, 3);
    const std::int64_t turns = 24 / samples_per_class;
    for (std::int64_t walk = 0; walk < 3; ++walk) {
      Numbers samples;
      for (std::int64_t b = 0; b < 3 * turns; ++b) {
        const Numbers batch = batch_of(batches, walk * 3 * turns + b);
        samples.insert(samples.end(), batch.begin(), batch.end());
      }
      CHECK(different(samples) == 6 * turns * samples_per_class);
    }
  }
}

TEST_CASE("balanced: every class and every sample is drawn as often as any other") {
  constexpr std::int64_t kBatches = 20'000;
  const Numbers targets = targets_of_sizes({10, 10, 10, 10, 10, 10, 10}, 4);
  const BalancedBatches batches(index_of(targets), 3, 4, 5);  // one of 7 sits out, 2 of 10 are left over
  Numbers classes(7);
  Numbers samples(targets.size());
  Numbers first_samples(targets.size());
  for (std::int64_t b = 0; b < kBatches; ++b) {
    const Numbers batch = batch_of(batches, b);
    for (std::size_t i = 0; i < batch.size(); i += 4) {
      ++classes[static_cast<std::size_t>(targets[static_cast<std::size_t>(batch[i])])];
      ++first_samples[static_cast<std::size_t>(batch[i])];
    }
    for (const std::int64_t sample : batch) ++samples[static_cast<std::size_t>(sample)];
  }
  CHECK(unevenness(classes) < 5);  // less uneven than independent draws would be
  CHECK(unevenness(samples) < 5);
  CHECK(unevenness(first_samples) < 5);
  CHECK(*std::min_element(classes.begin(), classes.end()) <
        *std::max_element(classes.begin(), classes.end()));
}

// --- stratified ------------------------------------------------------------------------------------

struct Dealt {
  std::vector<Numbers> full;
  Numbers rest;
};

Dealt deal(const StratifiedBatches& batches) {
  Dealt dealt;
  for (std::int64_t b = 0; b < batches.num_full_batches(); ++b) dealt.full.push_back(batch_of(batches, b));
  dealt.rest.assign(static_cast<std::size_t>(batches.rest()), -1);
  batches.fill(batches.num_full_batches(), dealt.rest);
  return dealt;
}

Numbers class_counts(const Numbers& targets, const Numbers& samples, std::size_t num_classes) {
  Numbers counts(num_classes);
  for (const std::int64_t sample : samples)
    ++counts[static_cast<std::size_t>(targets[static_cast<std::size_t>(sample)])];
  return counts;
}

void require_stratified(const Numbers& sizes, std::int64_t batch_size, std::uint64_t key) {
  CAPTURE(key);
  CAPTURE(batch_size);
  const Numbers targets = targets_of_sizes(sizes, key);
  const auto samples = static_cast<std::int64_t>(targets.size());
  const StratifiedBatches batches(index_of(targets), batch_size, key);
  REQUIRE(batches.batch_size() == batch_size);
  REQUIRE(batches.num_full_batches() == samples / batch_size);
  REQUIRE(batches.rest() == samples % batch_size);
  const Dealt dealt = deal(batches);

  Numbers all = dealt.rest;
  for (const Numbers& batch : dealt.full) all.insert(all.end(), batch.begin(), batch.end());
  std::sort(all.begin(), all.end());
  for (std::int64_t i = 0; i < samples; ++i) REQUIRE(all[static_cast<std::size_t>(i)] == i);

  const std::int64_t full = batches.num_full_batches();
  for (const Numbers& batch : dealt.full) {  // within 1 + 1 / full of the class's share
    const Numbers counts = class_counts(targets, batch, sizes.size());
    for (std::size_t c = 0; c < sizes.size(); ++c)
      REQUIRE(std::abs(counts[c] * samples - batch_size * sizes[c]) * full <= (full + 1) * samples);
  }
  const Numbers counts = class_counts(targets, dealt.rest, sizes.size());
  for (std::size_t c = 0; c < sizes.size(); ++c)  // "evenly": within 1
    REQUIRE(std::abs(counts[c] * samples - batches.rest() * sizes[c]) <= samples);
}

TEST_CASE("stratified: each sample once, every class with its share in every batch") {
  require_stratified({}, 1, 1);
  require_stratified({}, 10, 1);
  require_stratified({1}, 1, 1);
  require_stratified({1}, 2, 1);
  for (const std::int64_t batch_size : {1, 2, 3, 7, 10, 50, 99, 100, 101, 199, 200, 201, 1000}) {
    require_stratified({200}, batch_size, 2);
    require_stratified(Numbers(200, 1), batch_size, 3);
    require_stratified({100, 50, 25, 12, 6, 3, 2, 1, 1}, batch_size, 4);
    require_stratified({1, 198, 1}, batch_size, 5);
  }
  require_stratified({5, 5}, std::int64_t{1} << 62U, 6);
  require_stratified({5, 5}, INT64_MAX, 6);
  std::mt19937_64 random(7);
  for (int i = 0; i < 300; ++i) {
    const Numbers sizes = random_sizes(random, 1 + random() % 30, 1 + random() % 60);
    require_stratified(sizes, 1 + static_cast<std::int64_t>(random() % 90), random());
  }
}

TEST_CASE("stratified: a batch of many is divided to the sample where that is possible") {
  const Numbers sizes = {400, 300, 200, 100};
  const Numbers targets = targets_of_sizes(sizes, 8);
  const StratifiedBatches batches(index_of(targets), 100, 8);
  for (std::int64_t b = 0; b < 10; ++b)
    CHECK(class_counts(targets, batch_of(batches, b), 4) == Numbers{40, 30, 20, 10});
}

TEST_CASE("stratified: batches in any order, samples at any place of any batch") {
  const Numbers targets = targets_of_sizes({12, 8, 4}, 9);
  constexpr std::int64_t kEpochs = 6000;
  Numbers places(targets.size() * 24);  // (sample, place in the epoch), the rest of 4 included
  for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const Dealt dealt =
        deal(StratifiedBatches(index_of(targets), 5, derive_key(10, static_cast<std::uint64_t>(epoch))));
    std::size_t place = 0;
    for (const Numbers& batch : dealt.full) {
      for (const std::int64_t sample : batch) ++places[static_cast<std::size_t>(sample) * 24 + place++];
    }
    for (const std::int64_t sample : dealt.rest) ++places[static_cast<std::size_t>(sample) * 24 + place++];
  }
  CHECK(unevenness(places) < 5);
}

// --- episodes --------------------------------------------------------------------------------------

void require_episodes(const Numbers& sizes, std::int64_t num_ways, std::int64_t samples_per_class,
                      std::uint64_t key) {
  CAPTURE(key);
  const Numbers targets = targets_of_sizes(sizes, key);
  const Episodes episodes(index_of(targets), num_ways, samples_per_class, key);
  REQUIRE(episodes.batch_size() == num_ways * samples_per_class);
  for (std::int64_t e = 0; e < 20; ++e) {
    const Numbers episode = batch_of(episodes, e);
    REQUIRE(different(episode) == episodes.batch_size());
    Numbers labels;
    for (const Group& group : groups_of(targets, episode, samples_per_class)) labels.push_back(group.label);
    REQUIRE(different(labels) == num_ways);
  }
}

TEST_CASE("episodes: N classes, so many samples of each, all different") {
  require_episodes({1}, 1, 1, 1);
  require_episodes({500}, 1, 500, 1);
  require_episodes(Numbers(50, 1), 50, 1, 1);
  require_episodes({6, 7, 8, 9}, 4, 6, 1);
  std::mt19937_64 random(2);
  for (int i = 0; i < 200; ++i) {
    const Numbers sizes = random_sizes(random, 30, 40);
    const auto ways = 1 + static_cast<std::int64_t>(random() % sizes.size());
    const auto smallest = static_cast<std::uint64_t>(*std::min_element(sizes.begin(), sizes.end()));
    require_episodes(sizes, ways, 1 + static_cast<std::int64_t>(random() % smallest), random());
  }
}

TEST_CASE("episodes: every class, every pair of classes and every sample as often as any other") {
  const Numbers targets = targets_of_sizes(Numbers(6, 5), 3);
  const Episodes episodes(index_of(targets), 2, 3, 4);
  Numbers pairs(36);
  Numbers samples(targets.size() * 6);  // (sample, place)
  for (std::int64_t e = 0; e < 30'000; ++e) {
    const Numbers episode = batch_of(episodes, e);
    const auto label = [&](std::size_t i) { return targets[static_cast<std::size_t>(episode[i])]; };
    ++pairs[static_cast<std::size_t>(label(0) * 6 + label(3))];
    for (std::size_t i = 0; i < 6; ++i) ++samples[static_cast<std::size_t>(episode[i]) * 6 + i];
  }
  Numbers different_ones;
  for (std::size_t i = 0; i < 36; ++i) {
    if (i % 7 != 0) different_ones.push_back(pairs[i]);
  }
  CHECK(unevenness(different_ones) < 5);
  CHECK(unevenness(samples) < 5);
}

// --- all three -------------------------------------------------------------------------------------

TEST_CASE("a batch is a function of key and number alone, whatever its number") {
  const Numbers targets = targets_of_sizes({40, 50, 60, 70}, 1);
  const Index index = index_of(targets);
  const BalancedBatches balanced(index, 2, 8, 1);
  const Episodes episodes(index, 2, 8, 1);
  const StratifiedBatches stratified(index, 16, 1);
  for (const std::int64_t number : {INT64_MAX, std::int64_t{1} << 40U, std::int64_t{3}, std::int64_t{0}}) {
    CHECK(batch_of(balanced, number) == batch_of(BalancedBatches(index, 2, 8, 1), number));
    CHECK(batch_of(balanced, number) != batch_of(BalancedBatches(index, 2, 8, 2), number));
    CHECK(batch_of(episodes, number) == batch_of(Episodes(index, 2, 8, 1), number));
    CHECK(batch_of(episodes, number) != batch_of(Episodes(index, 2, 8, 2), number));
    groups_of(targets, batch_of(balanced, number), 8);
    groups_of(targets, batch_of(episodes, number), 8);
  }
  for (std::int64_t number = 0; number < stratified.num_full_batches(); ++number) {
    CHECK(batch_of(stratified, number) == batch_of(StratifiedBatches(index, 16, 1), number));
    CHECK(batch_of(stratified, number) != batch_of(StratifiedBatches(index, 16, 2), number));
  }
}

TEST_CASE("the same class sizes in the same order: what labels are called does not matter") {
  const Numbers targets = targets_of_sizes({4, 5, 6, 7}, 1);
  Numbers renamed = targets;
  for (std::int64_t& target : renamed) target = INT64_MIN + target * (std::int64_t{1} << 61U);
  CHECK(batch_of(BalancedBatches(index_of(targets), 2, 3, 1), 5) ==
        batch_of(BalancedBatches(index_of(renamed), 2, 3, 1), 5));
  CHECK(batch_of(Episodes(index_of(targets), 2, 3, 1), 5) ==
        batch_of(Episodes(index_of(renamed), 2, 3, 1), 5));
  CHECK(batch_of(StratifiedBatches(index_of(targets), 4, 1), 2) ==
        batch_of(StratifiedBatches(index_of(renamed), 4, 1), 2));
}

TEST_CASE("what cannot be a batch is refused") {
  const Index index = index_of({0, 0, 0, 5, 5, -7, -7, -7, -7});
  const auto balanced = [&](std::int64_t classes, std::int64_t samples) {
    return refusal([&] { return BalancedBatches(index, classes, samples, 0); }).kind();
  };
  const auto episodes = [&](std::int64_t ways, std::int64_t samples) {
    return refusal([&] { return Episodes(index, ways, samples, 0); }).kind();
  };
  for (const std::int64_t bad : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
    CHECK(balanced(bad, 1) == ErrorKind::kArgument);
    CHECK(balanced(1, bad) == ErrorKind::kArgument);
    CHECK(episodes(bad, 1) == ErrorKind::kArgument);
    CHECK(episodes(1, bad) == ErrorKind::kArgument);
    CHECK(refusal([&] { return StratifiedBatches(index, bad, 0); }).kind() == ErrorKind::kArgument);
  }
  CHECK(balanced(4, 1) == ErrorKind::kArgument);  // of three classes
  CHECK(episodes(4, 1) == ErrorKind::kArgument);
  CHECK(balanced(INT64_MAX, INT64_MAX) == ErrorKind::kArgument);
  CHECK(balanced(1, INT64_MAX) == ErrorKind::kArgument);
  CHECK(balanced(2, std::int64_t{1} << 40U) == ErrorKind::kArgument);
  CHECK(episodes(INT64_MAX, INT64_MAX) == ErrorKind::kArgument);
  CHECK(BalancedBatches(index, 1, std::int64_t{1} << 40U, 0).batch_size() == std::int64_t{1} << 40U);
  const Index nothing = index_of({});
  CHECK(refusal([&] { return BalancedBatches(nothing, 1, 1, 0); }).kind() == ErrorKind::kArgument);
  CHECK(refusal([&] { return Episodes(nothing, 1, 1, 0); }).kind() == ErrorKind::kArgument);
}

TEST_CASE("a class too small for an episode is refused, even where the episode would leave it out") {
  const Index index = index_of({0, 0, 0, 5, 5, -7, -7, -7, -7});
  const Error error = refusal([&] { return Episodes(index, 1, 3, 0); });
  CHECK(error.kind() == ErrorKind::kArgument);
  CHECK(error.needed() == "3");
  CHECK(error.found() == "2");
}

}  // namespace
}  // namespace penstock
