#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "order/permutation.h"

namespace penstock {
namespace {

constexpr std::int64_t kMost = Permutation::kMostElements;
constexpr std::int64_t kNarrowest = (std::int64_t{1} << 33U) - 1;  ///< the largest size of 32-bit digits

std::vector<std::int64_t> fill(const Permutation& order, std::int64_t first, std::int64_t step,
                               std::size_t count) {
  std::vector<std::int64_t> out(count, -1);
  order.fill(first, step, out);
  return out;
}

/// The same, the slow and obvious way.
std::vector<std::int64_t> one_by_one(const Permutation& order, std::int64_t first, std::int64_t step,
                                     std::size_t count) {
  std::vector<std::int64_t> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = order.at(first + static_cast<std::int64_t>(i) * step);
  return out;
}

bool has_each_once(const std::vector<std::int64_t>& numbers) {
  std::vector<char> seen(numbers.size());
  for (const std::int64_t number : numbers) {
    if (number < 0 || static_cast<std::size_t>(number) >= numbers.size()) return false;
    if (seen[static_cast<std::size_t>(number)]++ != 0) return false;
  }
  return true;
}

bool are_different_and_below(std::vector<std::int64_t> numbers, std::int64_t size) {
  std::sort(numbers.begin(), numbers.end());
  return std::adjacent_find(numbers.begin(), numbers.end()) == numbers.end() && numbers.front() >= 0 &&
         numbers.back() < size;
}

void require_shuffles(std::int64_t size, std::uint64_t key) {
  CAPTURE(size);
  CAPTURE(key);
  const Permutation order(size, key);
  REQUIRE(order.size() == size);
  const std::vector<std::int64_t> elements = fill(order, 0, 1, static_cast<std::size_t>(size));
  REQUIRE(has_each_once(elements));
  REQUIRE(elements == one_by_one(order, 0, 1, static_cast<std::size_t>(size)));
}

bool is_refused(std::int64_t size) {
  try {
    const Permutation order(size, 0);
    return order.size() != size;
  } catch (const Error& error) {
    return error.kind() == ErrorKind::kArgument;
  }
}

TEST_CASE("every size is shuffled: each element once, one by one as in blocks") {
  for (std::int64_t size = 0; size <= 600; ++size) {
    require_shuffles(size, 0);
    require_shuffles(size, derive_key(7, static_cast<std::uint64_t>(size)));
  }
  for (const std::int64_t about : {1024, 4096, 16'384, 65'536, 131'072}) {
    for (std::int64_t size = about - 2; size <= about + 2; ++size) require_shuffles(size, 1);
  }
  for (const std::int64_t size : {10'007, 999'999, 1'000'000}) require_shuffles(size, 2);
}

TEST_CASE("any positions at once are what they are one by one") {
  std::mt19937_64 random(3);
  for (const std::int64_t size :
       {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{33}, std::int64_t{64},
        std::int64_t{65}, std::int64_t{257}, std::int64_t{600}, std::int64_t{4096}, std::int64_t{4097},
        std::int64_t{1'000'000}, std::int64_t{1} << 32U, kNarrowest - 1, kNarrowest, kNarrowest + 1,
        kNarrowest + 2, std::int64_t{1'000'000'000'000}, kMost - 1, kMost}) {
    CAPTURE(size);
    const Permutation order(size, random());
    const auto positions = static_cast<std::uint64_t>(size);
    for (const std::size_t count :
         {0U, 1U, 7U, 31U, 32U, 33U, 255U, 256U, 257U, 300U, 511U, 512U, 513U, 1000U}) {
      if (count > positions) continue;
      const std::uint64_t longest_step = count > 1 ? (positions - 1) / (count - 1) : positions;
      for (const std::uint64_t step : {std::uint64_t{1}, longest_step, 1 + random() % longest_step}) {
        const std::uint64_t last = count > 0 ? (count - 1) * step : 0;
        const std::uint64_t first = random() % (positions - last);
        CAPTURE(first);
        CAPTURE(step);
        CAPTURE(count);
        const auto begin = static_cast<std::int64_t>(first);
        const auto stride = static_cast<std::int64_t>(step);
        REQUIRE(fill(order, begin, stride, count) == one_by_one(order, begin, stride, count));
      }
    }
  }
}

TEST_CASE("a step may lead anywhere after the last position") {
  for (const std::int64_t size : {std::int64_t{10}, kNarrowest, kMost}) {
    const Permutation order(size, 4);
    CHECK(fill(order, size - 1, INT64_MAX, 1) == one_by_one(order, size - 1, 0, 1));
    CHECK(fill(order, 1, INT64_MAX, 1) == one_by_one(order, 1, 0, 1));
  }
}

TEST_CASE("large sizes: elements are inside, and different") {
  constexpr std::int64_t kSample = 20'000;
  for (const std::int64_t size :
       {std::int64_t{1} << 30U, (std::int64_t{1} << 31U) - 1, (std::int64_t{1} << 31U) + 1, kNarrowest,
        kNarrowest + 1, std::int64_t{1'000'000'000'000}, (std::int64_t{1} << 61U) + 1, kMost - 1, kMost}) {
    CAPTURE(size);
    const Permutation order(size, 5);
    std::vector<std::int64_t> elements = fill(order, 0, 1, std::size_t{kSample});
    const std::vector<std::int64_t> last = fill(order, size - kSample, 1, std::size_t{kSample});
    const std::vector<std::int64_t> between = fill(order, kSample, (size - 2 * kSample) / kSample,
                                                   std::size_t{kSample});  // as far apart as they come
    elements.insert(elements.end(), last.begin(), last.end());
    elements.insert(elements.end(), between.begin(), between.end());
    CHECK(are_different_and_below(elements, size));
    CHECK(*std::max_element(elements.begin(), elements.end()) > size - size / 1000);
    CHECK(*std::min_element(elements.begin(), elements.end()) < size / 1000);
  }
}

TEST_CASE("another seed or epoch is another order, the same ones are the same") {
  const auto elements = [](std::uint64_t seed, std::uint64_t epoch) {
    return fill(Permutation(1000, epoch_key(seed, epoch)), 0, 1, 1000);
  };
  CHECK(elements(1, 2) == elements(1, 2));
  CHECK(elements(1, 2) != elements(2, 1));
  CHECK(elements(1, 2) != elements(1, 3));
  CHECK(elements(0, 0) != elements(0, 1));
  CHECK(elements(0, 0) != elements(1, 0));
  CHECK(elements(~std::uint64_t{0}, 0) != elements(0, 0));
}

TEST_CASE("a size that cannot be is refused") {
  CHECK(is_refused(-1));
  CHECK(is_refused(INT64_MIN));
  CHECK(is_refused(kMost + 1));
  CHECK(is_refused(INT64_MAX));
  CHECK(!is_refused(0));
  CHECK(!is_refused(kMost));
}

// --- the same on every machine, in every release ---------------------------------------------------

struct Golden {
  std::int64_t size;
  std::array<std::int64_t, 8> elements;
};

constexpr std::array kGolden{
    Golden{10, {9, 2, 0, 5, 4, 6, 8, 3}},
    Golden{100, {14, 50, 97, 93, 86, 2, 7, 42}},
    Golden{10'000, {1394, 6160, 8703, 6981, 2621, 4195, 8170, 6922}},
    Golden{10'000'000, {870070, 297338, 1424159, 5222722, 4264620, 6232803, 2770646, 391149}},
    Golden{kNarrowest,
           {4184153037, 8026736666, 5333168593, 120640249, 8380192245, 8154029033, 3424363899, 1883475296}},
    Golden{1'000'000'000'000,
           {811008919457, 964939505720, 474421642437, 768444571332, 708221825949, 796636007631, 644774358106,
            290591748979}},
    Golden{kMost,
           {1597721728687371992, 4251597081635312020, 2626088010609469586, 274179693887122441,
            1634006211607837114, 3738070008733175426, 3863673720705486925, 1312356319959295092}},
};

TEST_CASE("seed 1, epoch 2 is the order that it has always been") {
  for (const Golden& golden : kGolden) {
    CAPTURE(golden.size);
    const Permutation order(golden.size, epoch_key(1, 2));
    const std::vector<std::int64_t> expected(golden.elements.begin(), golden.elements.end());
    CHECK(fill(order, 0, 1, 8) == expected);
    std::vector<std::int64_t> block = fill(order, 0, 1, golden.size < 300 ? 10 : 300);  // vectorised
    block.resize(8);
    CHECK(block == expected);
  }
}

TEST_CASE("random numbers by position are SplitMix64's, as published for seed 1234567") {
  const RandomSequence random(1234567);
  const std::vector<std::uint64_t> published = {6457827717110365317U, 3203168211198807973U,
                                                9817491932198370423U, 4593380528125082431U,
                                                16408922859458223821U};
  for (std::size_t i = 0; i < published.size(); ++i) CHECK(random.at(i) == published[i]);
  CHECK(mix64(1234567 + kGoldenGamma) == published[0]);
}

TEST_CASE("random bits are scaled to less than the bound, and below 1") {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  for (const std::uint64_t bound : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 62U, kAll}) {
    CHECK(scale_to(0, bound) == 0);
    CHECK(scale_to(kAll, bound) == bound - 1);
  }
  CHECK(scale_to(kAll / 2 + 1, 10) == 5);
  CHECK(scale_to(kAll, 0) == 0);
  CHECK(unit_interval(0) == 0);
  CHECK(unit_interval(kAll) == 1 - 0x1p-53);
  CHECK(unit_interval(std::uint64_t{1} << 63U) == 0.5);
}

}  // namespace
}  // namespace penstock
