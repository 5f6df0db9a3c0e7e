#include "order/weighted.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace penstock {
namespace {

/// The largest weight, once all are known to be weights.
double checked_largest(std::span<const double> weights) {
  double largest = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] >= 0) || !std::isfinite(weights[i])) {
      throw Error(ErrorKind::kArgument, "weight " + std::to_string(i) + " is no weight")
          .needed("finite numbers, 0 or more")
          .found(std::to_string(weights[i]));
    }
    largest = std::max(largest, weights[i]);
  }
  if (largest == 0) {
    throw Error(ErrorKind::kArgument, weights.empty() ? "there are no weights" : "all weights are zero")
        .needed("one above zero");
  }
  return largest;
}

/// The sum of weight / largest: plainly inside blocks, compensated (Neumaier) between them, so that ten
/// million weights lose no digit that counts.
double sum_of_shares(std::span<const double> weights, double largest) noexcept {
  constexpr std::size_t kBlock = 256;
  double sum = 0;
  double lost = 0;
  for (; !weights.empty(); weights = weights.subspan(std::min(kBlock, weights.size()))) {
    double block = 0;
    for (const double weight : weights.first(std::min(kBlock, weights.size()))) block += weight / largest;
    const double next = sum + block;
    lost += sum >= block ? (sum - next) + block : (block - next) + sum;
    sum = next;
  }
  return sum + lost;
}

struct Arrival {
  double time;
  std::int64_t sample;
  bool operator<(const Arrival& other) const noexcept {
    return time != other.time ? time < other.time : sample < other.sample;
  }
};

}  // namespace

void require_weights(std::span<const double> weights, std::int64_t num_positive) {
  checked_largest(weights);
  const auto positive =
      std::count_if(weights.begin(), weights.end(), [](double weight) { return weight > 0; });
  if (num_positive >= 0 && num_positive <= positive) return;
  throw Error(ErrorKind::kArgument, "without replacement every sample is drawn once at most")
      .needed(std::to_string(num_positive) + " weights above zero")
      .found(std::to_string(positive));
}

AliasTable::AliasTable(std::span<const double> weights) : buckets_(weights.size()) {
  const double largest = checked_largest(weights);
  const std::size_t size = weights.size();
  const double scale = static_cast<double>(size) / sum_of_shares(weights, largest);
  // Samples that need less than a bucket from the front, the others from the back: both are written, one
  // counts.
  const auto order = std::make_unique_for_overwrite<std::size_t[]>(size);  // NOLINT(modernize-avoid-c-arrays)
  std::size_t num_light = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const double need = weights[i] / largest * scale;
    buckets_[i].keep = need;
    order[num_light] = i;
    order[size - 1 - (i - num_light)] = i;
    num_light += need < 1 ? 1 : 0;
  }
  level({order.get(), size}, num_light);
}

/// The first heavy sample fills up what light ones leave free of their buckets; when it comes down below 1
/// itself, the next heavy one fills up its bucket. Everything is loaded before it is known which of the two
/// it is: nobody could predict that branch.
void AliasTable::level(std::span<const std::size_t> order, std::size_t num_light) noexcept {
  const std::size_t size = order.size();
  std::size_t light = 0;
  std::size_t heavy = num_light;
  double left = heavy < size ? buckets_[order[heavy]].keep : 0;
  while (heavy + 1 < size && (light < num_light || left < 1)) {
    const bool gives = left >= 1;
    const std::size_t lighter = order[light];
    const std::size_t giver = order[heavy];
    const std::size_t following = order[heavy + 1];
    const double light_need = buckets_[lighter].keep;
    const double next_need = buckets_[following].keep;
    buckets_[gives ? lighter : giver] = {gives ? light_need : left,
                                         static_cast<std::int64_t>(gives ? giver : following)};
    left += (gives ? light_need : next_need) - 1;
    light += gives ? 1 : 0;
    heavy += gives ? 0 : 1;
  }
  for (; light < num_light && heavy < size; ++light) {
    buckets_[order[light]].other = static_cast<std::int64_t>(order[heavy]);
  }
}

void AliasTable::draw(std::uint64_t key, std::int64_t first, std::int64_t step,
                      std::span<std::int64_t> out) const noexcept {
  constexpr std::size_t kBlock = 64;  // cache misses under way at once
  const RandomSequence random(key);
  auto number = 2 * static_cast<std::uint64_t>(first);
  while (!out.empty()) {
    const std::span<std::int64_t> block = out.first(std::min(kBlock, out.size()));
    std::array<double, kBlock> chance;  // NOLINT(*-member-init): written before it is read
    for (std::size_t i = 0; i < block.size(); ++i) {
      const std::uint64_t bucket = scale_to(random.at(number), buckets_.size());
      __builtin_prefetch(&buckets_[bucket]);
      block[i] = static_cast<std::int64_t>(bucket);
      chance[i] = unit_interval(random.at(number + 1));
      number += 2 * static_cast<std::uint64_t>(step);
    }
    for (std::size_t i = 0; i < block.size(); ++i) {
      const Bucket& bucket = buckets_[static_cast<std::size_t>(block[i])];
      block[i] = chance[i] < bucket.keep || bucket.other == kItself ? block[i] : bucket.other;
    }
    out = out.subspan(block.size());
  }
}

std::vector<std::int64_t> draw_without_replacement(std::span<const double> weights, std::int64_t count,
                                                   std::uint64_t key) {
  require_weights(weights, count);
  const RandomSequence random(key);
  std::vector<Arrival> arrivals;
  arrivals.reserve(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    const double uniform = unit_interval(random.at(i)) + 0x1p-54;  // in (0, 1)
    arrivals.push_back({std::log(-std::log(uniform)) - std::log(weights[i]), static_cast<std::int64_t>(i)});
  }
  const auto end = arrivals.begin() + count;
  if (end != arrivals.end()) std::nth_element(arrivals.begin(), end, arrivals.end());
  std::sort(arrivals.begin(), end);
  std::vector<std::int64_t> drawn(static_cast<std::size_t>(count));
  std::transform(arrivals.begin(), end, drawn.begin(), [](const Arrival& arrival) { return arrival.sample; });
  return drawn;
}

}  // namespace penstock
