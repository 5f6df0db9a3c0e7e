#include "order/class_batches.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace penstock {
namespace {

/// What a key is derived for, so that no two uses share one.
enum Purpose : std::uint64_t { kClasses = 0, kSamples = 1, kBatches = 2, kInside = 3, kRest = 4 };

std::uint64_t key_for(std::uint64_t key, Purpose purpose, std::int64_t number) noexcept {
  return derive_key(derive_key(key, purpose), static_cast<std::uint64_t>(number));
}

std::int64_t checked_positive(std::int64_t number, const char* name) {
  if (number > 0) return number;
  throw Error(ErrorKind::kArgument, std::string(name) + " must be positive")
      .needed("1 or more")
      .found(std::to_string(number));
}

void require_classes(const ClassIndex& index, std::int64_t count) {
  if (index.num_classes() >= count) return;
  throw Error(ErrorKind::kArgument, "there are fewer classes than a batch takes")
      .needed(std::to_string(count))
      .found(std::to_string(index.num_classes()));
}

/// A batch's numbers multiplied, or an error where that is no batch at all.
void require_batch_size(std::int64_t classes, std::int64_t samples) {
  constexpr std::int64_t kMost = std::int64_t{1} << 40U;
  if (classes <= kMost / samples) return;
  throw Error(ErrorKind::kArgument, "the batch is too large").needed("2**40 samples or fewer");
}

std::span<std::int64_t> part(std::span<std::int64_t> out, std::int64_t i, std::int64_t size) noexcept {
  return out.subspan(static_cast<std::size_t>(i * size), static_cast<std::size_t>(size));
}

}  // namespace

// --- balanced --------------------------------------------------------------------------------------

BalancedBatches::BalancedBatches(std::shared_ptr<const ClassIndex> index, std::int64_t classes_per_batch,
                                 std::int64_t samples_per_class, std::uint64_t key)
    : index_(std::move(index)),
      classes_per_batch_(checked_positive(classes_per_batch, "classes_per_batch")),
      samples_per_class_(checked_positive(samples_per_class, "samples_per_class")),
      key_(key) {
  require_batch_size(classes_per_batch, samples_per_class);
  require_classes(*index_, classes_per_batch);
}

void BalancedBatches::fill(std::int64_t batch, std::span<std::int64_t> out) const {
  const std::int64_t batches_per_round = index_->num_classes() / classes_per_batch_;
  const std::int64_t round = batch / batches_per_round;
  const std::int64_t first = (batch - round * batches_per_round) * classes_per_batch_;
  const Permutation classes(index_->num_classes(), key_for(key_, kClasses, round));
  for (std::int64_t i = 0; i < classes_per_batch_; ++i) {
    fill_class(classes.at(first + i), round, part(out, i, samples_per_class_));
  }
}

/// A class has room for size / K turns before it is shuffled anew.
void BalancedBatches::fill_class(std::int64_t k, std::int64_t turn, std::span<std::int64_t> out) const {
  const std::span<const std::int64_t> samples = index_->samples_of(k);
  const auto size = static_cast<std::int64_t>(samples.size());
  const std::int64_t turns = std::max<std::int64_t>(1, size / samples_per_class_);
  const std::int64_t walk = turn / turns;
  const Permutation order(size, key_for(key_for(key_, kSamples, k), kSamples, walk));
  std::int64_t position = (turn - walk * turns) * samples_per_class_;
  for (std::int64_t& sample : out) {
    sample = samples[static_cast<std::size_t>(order.at(position))];
    if (++position == size) position = 0;
  }
}

// --- stratified ------------------------------------------------------------------------------------

StratifiedBatches::StratifiedBatches(std::shared_ptr<const ClassIndex> index, std::int64_t batch_size,
                                     std::uint64_t key)
    : index_(std::move(index)),
      batch_size_(checked_positive(batch_size, "batch_size")),
      key_(key),
      rest_(index_->num_samples() % batch_size),
      batch_order_(index_->num_samples() / batch_size, key_for(key, kBatches, 0)) {
  const auto samples = static_cast<std::uint64_t>(index_->num_samples());
  rest_offset_ = static_cast<std::int64_t>(scale_to(RandomSequence(key_for(key, kRest, 0)).at(0), samples));
}

/// The i-th of rest() cards taken out at equal distances: (i * samples + offset) / rest, without overflow.
std::int64_t StratifiedBatches::rest_card(std::int64_t i) const noexcept {
  const std::int64_t samples = index_->num_samples();
  return i * (samples / rest_) + (i * (samples % rest_) + rest_offset_) / rest_;
}

/// The i-th of the cards that are left: i, and as many more as were taken out before it.
std::int64_t StratifiedBatches::dealt_card(std::int64_t i) const noexcept {
  std::int64_t low = 0;
  std::int64_t high = rest_;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (rest_card(middle) - middle <= i) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return i + low;
}

void StratifiedBatches::fill(std::int64_t batch, std::span<std::int64_t> out) const {
  const std::int64_t full = num_full_batches();
  const bool is_rest = batch == full;
  const std::int64_t turn = is_rest ? 0 : batch_order_.at(batch);
  const Permutation inside(static_cast<std::int64_t>(out.size()), key_for(key_, kInside, batch));
  const std::span<const std::int64_t> first = index_->first();
  std::int64_t k = -1;
  Permutation order(0, 0);
  for (std::int64_t i = 0; i < inside.size(); ++i) {
    const std::int64_t card = is_rest ? rest_card(i) : dealt_card(i * full + turn);
    if (k < 0 || card >= first[static_cast<std::size_t>(k) + 1]) {
      k = std::upper_bound(first.begin() + k + 1, first.end(), card) - first.begin() - 1;
      order =
          Permutation(static_cast<std::int64_t>(index_->samples_of(k).size()), key_for(key_, kSamples, k));
    }
    const std::int64_t position = order.at(card - first[static_cast<std::size_t>(k)]);
    out[static_cast<std::size_t>(inside.at(i))] = index_->samples_of(k)[static_cast<std::size_t>(position)];
  }
}

// --- episodes --------------------------------------------------------------------------------------

Episodes::Episodes(std::shared_ptr<const ClassIndex> index, std::int64_t num_ways,
                   std::int64_t samples_per_class, std::uint64_t key)
    : index_(std::move(index)),
      num_ways_(checked_positive(num_ways, "n_way")),
      samples_per_class_(checked_positive(samples_per_class, "n_shot + n_query")),
      key_(key) {
  require_batch_size(num_ways, samples_per_class);
  require_classes(*index_, num_ways);
  for (std::int64_t k = 0; k < index_->num_classes(); ++k) {
    const std::size_t size = index_->samples_of(k).size();
    if (size >= static_cast<std::size_t>(samples_per_class)) continue;
    throw Error(ErrorKind::kArgument, "a class has too few samples for an episode")
        .needed(std::to_string(samples_per_class))
        .found(std::to_string(size));
  }
}

void Episodes::fill(std::int64_t episode, std::span<std::int64_t> out) const {
  const Permutation classes(index_->num_classes(), key_for(key_, kClasses, episode));
  for (std::int64_t i = 0; i < num_ways_; ++i) {
    const std::span<const std::int64_t> samples = index_->samples_of(classes.at(i));
    const Permutation order(static_cast<std::int64_t>(samples.size()),
                            key_for(key_for(key_, kSamples, episode), kSamples, i));
    std::int64_t position = 0;
    for (std::int64_t& sample : part(out, i, samples_per_class_)) {
      sample = samples[static_cast<std::size_t>(order.at(position++))];
    }
  }
}

}  // namespace penstock
