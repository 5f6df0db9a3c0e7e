#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "order/length_batches.h"

namespace penstock {
namespace {

using Numbers = std::vector<std::int64_t>;
using Options = LengthBatches::Options;

LengthBatches batches_of(const Numbers& lengths, const Options& options) {
  return {std::make_shared<const ClassIndex>(lengths), options};
}

Numbers batch_of(const LengthBatches& batches, std::int64_t number, std::uint64_t key) {
  const LengthBatches::Place place = batches.find(number, key);
  Numbers out(static_cast<std::size_t>(place.size), -1);
  batches.fill(place, key, out);
  return out;
}

std::vector<Numbers> epoch_of(const LengthBatches& batches, std::uint64_t key) {
  std::vector<Numbers> found;
  for (std::int64_t i = 0; i < batches.num_batches(); ++i) found.push_back(batch_of(batches, i, key));
  return found;
}

Numbers lengths_of(const Numbers& lengths, const Numbers& batch) {
  Numbers found;
  for (const std::int64_t sample : batch) found.push_back(lengths.at(static_cast<std::size_t>(sample)));
  return found;
}

Numbers random_lengths(std::mt19937_64& random) {
  Numbers lengths(random() % 60);
  const std::uint64_t most = 1 + random() % (random() % 2 == 0 ? 4 : 5000);
  for (std::int64_t& length : lengths) length = static_cast<std::int64_t>(random() % most);
  return lengths;
}

std::int64_t padded(std::int64_t length, std::int64_t multiple) {
  return std::max<std::int64_t>(1, (length + multiple - 1) / multiple * multiple);
}

/// Every sample once, but for what drop_last leaves out and what is given out again to fill a turn.
void require_each_once(const Numbers& lengths, const Options& options, const std::vector<Numbers>& epoch) {
  Numbers seen(lengths.size());
  std::int64_t total = 0;
  for (const Numbers& batch : epoch) {
    REQUIRE_FALSE(batch.empty());
    for (const std::int64_t sample : batch) ++seen.at(static_cast<std::size_t>(sample));
    total += static_cast<std::int64_t>(batch.size());
  }
  const auto samples = static_cast<std::int64_t>(lengths.size());
  if (options.drop_last) {
    REQUIRE(std::all_of(seen.begin(), seen.end(), [](std::int64_t times) { return times <= 1; }));
    return;
  }
  REQUIRE(std::all_of(seen.begin(), seen.end(), [](std::int64_t times) { return times >= 1; }));
  REQUIRE(total - samples < options.batches_per_turn);
}

void require_within_limits(const Numbers& lengths, const Options& options,
                           const std::vector<Numbers>& epoch) {
  for (const Numbers& batch : epoch) {
    const Numbers own = lengths_of(lengths, batch);
    const auto rows = static_cast<std::int64_t>(batch.size());
    const std::int64_t longest = padded(*std::max_element(own.begin(), own.end()), options.pad_to_multiple);
    REQUIRE((options.batch_size == 0 || rows <= options.batch_size));
    REQUIRE((options.max_tokens == 0 || rows * longest <= options.max_tokens));
  }
}

Options random_options(std::mt19937_64& random, const Numbers& lengths) {
  Options options;
  options.pad_to_multiple = random() % 2 == 0 ? 1 : 8;
  const std::int64_t longest =
      lengths.empty() ? 1
                      : padded(*std::max_element(lengths.begin(), lengths.end()), options.pad_to_multiple);
  const std::uint64_t limits = random() % 3;
  if (limits != 0) options.batch_size = 1 + static_cast<std::int64_t>(random() % 9);
  if (limits != 1) {
    options.max_tokens = longest + static_cast<std::int64_t>(random() % 5) * longest;
  }
  options.batches_per_turn = 1 + static_cast<std::int64_t>(random() % 5);
  options.spread = static_cast<double>(random() % 5) / 4;
  options.shuffle = random() % 4 != 0;
  options.longest_first = random() % 2 == 0;
  options.drop_last = random() % 2 == 0;
  return options;
}

Error refusal(const Numbers& lengths, const Options& options) {
  try {
    (void)batches_of(lengths, options);
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::kArgument);
    return error;
  }
  FAIL("not refused");
  return format_error("");
}

Options rows(std::int64_t batch_size) {
  Options options;
  options.batch_size = batch_size;
  return options;
}

Options tokens(std::int64_t max_tokens) {
  Options options;
  options.max_tokens = max_tokens;
  return options;
}

}  // namespace

TEST_CASE("batches of like length have every sample once and keep to the limits") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 600; ++round) {
    CAPTURE(round);
    const Numbers lengths = random_lengths(random);
    const Options options = random_options(random, lengths);
    const LengthBatches batches = batches_of(lengths, options);
    const std::vector<Numbers> epoch = epoch_of(batches, random());
    REQUIRE(static_cast<std::int64_t>(epoch.size()) % options.batches_per_turn == 0);
    require_each_once(lengths, options, epoch);
    require_within_limits(lengths, options, epoch);
    if (!options.longest_first || epoch.empty()) continue;
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < options.batches_per_turn; ++i) {
      const Numbers own = lengths_of(lengths, epoch[static_cast<std::size_t>(i)]);
      longest = std::max(longest, *std::max_element(own.begin(), own.end()));
    }
    REQUIRE(longest == *std::max_element(lengths.begin(), lengths.end()));
  }
}

TEST_CASE("the batches of a turn differ by no more than the spread") {
  Numbers lengths(10'000);
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] = 1 + static_cast<std::int64_t>(i) % 1000;
  Options options = tokens(8'000);
  options.batches_per_turn = 2;
  options.spread = 0.25;
  const LengthBatches batches = batches_of(lengths, options);
  const std::vector<Numbers> epoch = epoch_of(batches, 5);
  std::set<std::int64_t> sizes;
  for (std::size_t i = 0; i + 3 < epoch.size(); i += 2) {  // the last turn is what is left
    const Numbers one = lengths_of(lengths, epoch[i]);
    const Numbers other = lengths_of(lengths, epoch[i + 1]);
    REQUIRE(one.size() == other.size());
    const auto [low, high] = std::minmax_element(one.begin(), one.end());
    const auto [other_low, other_high] = std::minmax_element(other.begin(), other.end());
    const std::int64_t longest = std::max(*high, *other_high);
    if (longest < 100) continue;  // of shorter ones there are too few for a turn
    REQUIRE(4 * std::min(*low, *other_low) >= 3 * longest);
    sizes.insert(static_cast<std::int64_t>(one.size()));
  }
  CHECK(sizes.size() > 5);
}

TEST_CASE("every key has as many batches, of other samples, in another order") {
  Numbers lengths(1'000);
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<std::int64_t>(i * i % 997);
  const LengthBatches batches = batches_of(lengths, rows(8));
  std::set<Numbers> seen;
  for (std::uint64_t key = 0; key < 4; ++key) {
    for (Numbers& batch : epoch_of(batches, key)) {
      std::sort(batch.begin(), batch.end());
      seen.insert(batch);
    }
  }
  CHECK(seen.size() > 4 * 125 - 20);
}

TEST_CASE("batches that are not shuffled are sorted, longest first") {
  Options options = rows(2);
  options.shuffle = false;
  const LengthBatches batches = batches_of({3, 9, 1, 9, 0}, options);
  const std::vector<Numbers> expected{{3, 1}, {0, 2}, {4}};
  CHECK(epoch_of(batches, 7) == expected);
}

TEST_CASE("what is left is dealt out evenly, and again where it is too little") {
  Options options = rows(4);
  options.batches_per_turn = 3;
  options.shuffle = false;
  const std::vector<Numbers> expected{{4, 3}, {2, 1}, {0}};
  CHECK(epoch_of(batches_of({1, 2, 3, 4, 5}, options), 0) == expected);
  const std::vector<Numbers> again{{1}, {0}, {1}};
  CHECK(epoch_of(batches_of({1, 2}, options), 0) == again);
  options.drop_last = true;
  CHECK(batches_of({1, 2, 3, 4, 5}, options).num_batches() == 0);
}

TEST_CASE("samples of no length count as one token each") {
  const LengthBatches batches = batches_of(Numbers(10, 0), tokens(4));
  CHECK(batches.num_batches() == 3);
  CHECK(batches.find(0, 0).size == 4);
  CHECK(batches.find(2, 0).size == 2);
}

TEST_CASE("no samples are no batches") { CHECK(batches_of({}, rows(2)).num_batches() == 0); }

TEST_CASE("extreme numbers") {
  constexpr std::int64_t kMost = LengthBatches::kMostTokens;
  Options options = tokens(kMost);
  options.batch_size = kMost;
  options.batches_per_turn = kMost;
  CHECK(batches_of({kMost, 0, 5}, options).num_batches() == kMost);
  CHECK(batch_of(batches_of({kMost, 0, 5}, options), kMost - 1, 1).size() == 1);
  options.pad_to_multiple = kMost;
  CHECK(batches_of({kMost, 0, 5}, options).num_batches() == kMost);
}

TEST_CASE("what cannot be batched by length is refused") {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  CHECK(refusal({1}, {}).needed() == "batch_size or max_tokens");
  const Error longest = refusal({3, 9, 2, 9}, tokens(8));
  CHECK(longest.row() == 1);
  CHECK(longest.needed() == "max_tokens of 9 or more");
  CHECK(longest.found() == "8");
  const Error negative = refusal({3, -2, -9, 4}, rows(1));
  CHECK(negative.row() == 2);
  CHECK(negative.found() == "-9");
  CHECK(refusal({kLargest}, rows(1)).row() == 0);
  Options options = tokens(9);
  options.pad_to_multiple = 8;
  CHECK(refusal({9}, options).needed() == "max_tokens of 16 or more");
  for (const double spread : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    options = rows(1);
    options.spread = spread;
    CHECK(refusal({}, options).needed() == "0 to 1");
  }
  for (std::int64_t Options::* field :
       {&Options::batch_size, &Options::max_tokens, &Options::pad_to_multiple, &Options::batches_per_turn}) {
    for (const std::int64_t number : {std::int64_t{-1}, kLargest}) {
      options = rows(1);
      options.*field = number;
      CHECK(refusal({1}, options).found() == std::to_string(number));
    }
  }
}

}  // namespace penstock
