#include "order/length_batches.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "order/permutation.h"

namespace penstock {
namespace {

/// What a key is derived for, so that no two uses share one.
enum Purpose : std::uint64_t { kTurns = 0, kBucket = 1 };

constexpr std::int64_t kLeastBatches =
    2;  // of a bucket that is shuffled: of one, it would always be the same

void require_range(std::int64_t number, std::int64_t least, const char* name) {
  if (number >= least && number <= LengthBatches::kMostTokens) return;
  throw Error(ErrorKind::kArgument, std::string(name) + " is out of range")
      .needed(std::to_string(least) + " to 2**52")
      .found(std::to_string(number));
}

constexpr std::int64_t divide_up(std::int64_t number, std::int64_t by) noexcept {
  return number / by + (number % by != 0 ? 1 : 0);
}

}  // namespace

LengthBatches::LengthBatches(std::shared_ptr<const ClassIndex> by_length, const Options& options)
    : by_length_(std::move(by_length)), options_(options) {
  require_options();
  require_lengths();
  Bucket bucket{0, 0, 0};
  while (bucket.begin < num_samples()) {
    bucket.rows = rows_for(longest_at(bucket.begin));
    const std::int64_t turns = turns_of_bucket(bucket);
    if (turns == 0) break;
    buckets_.push_back(bucket);
    bucket.begin += turns * options_.batches_per_turn * bucket.rows;
    bucket.first_turn += turns;
  }
  buckets_.push_back(bucket);
  const bool has_rest = bucket.begin < num_samples() && !options_.drop_last;
  num_batches_ = (bucket.first_turn + (has_rest ? 1 : 0)) * options_.batches_per_turn;
}

void LengthBatches::require_options() const {
  if (options_.batch_size == 0 && options_.max_tokens == 0) {
    throw Error(ErrorKind::kArgument, "nothing says how large a batch is").needed("batch_size or max_tokens");
  }
  require_range(options_.batch_size, 0, "batch_size");
  require_range(options_.max_tokens, 0, "max_tokens");
  require_range(options_.pad_to_multiple, 1, "pad_to_multiple");
  require_range(options_.batches_per_turn, 1, "the number of ranks");
  if (options_.spread >= 0 && options_.spread <= 1) return;
  throw Error(ErrorKind::kArgument, "bucket_spread is a share of a length")
      .needed("0 to 1")
      .found(std::to_string(options_.spread));
}

void LengthBatches::require_lengths() const {
  if (num_samples() == 0) return;
  const std::int64_t shortest = by_length_->labels().front();
  if (shortest < 0) {
    throw Error(ErrorKind::kArgument, "a length is negative")
        .at_row(by_length_->samples_of(0).front())
        .needed("0 or more")
        .found(std::to_string(shortest));
  }
  const std::int64_t longest = by_length_->labels().back();
  const std::int64_t row = by_length_->samples_of(by_length_->num_classes() - 1).front();
  if (longest > kMostTokens) {
    throw Error(ErrorKind::kArgument, "a length is out of range")
        .at_row(row)
        .needed("0 to 2**52")
        .found(std::to_string(longest));
  }
  if (options_.max_tokens == 0 || padded(longest) <= options_.max_tokens) return;
  throw Error(ErrorKind::kArgument, "the longest sequence is over max_tokens by itself")
      .at_row(row)
      .needed("max_tokens of " + std::to_string(padded(longest)) + " or more")
      .found(std::to_string(options_.max_tokens))
      .hint("Raise max_tokens, or leave out or cut what is longer.");
}

/// At least 1, so that samples of nothing do not all come in one batch.
std::int64_t LengthBatches::padded(std::int64_t length) const noexcept {
  return std::max<std::int64_t>(1, divide_up(length, options_.pad_to_multiple) * options_.pad_to_multiple);
}

std::int64_t LengthBatches::longest_at(std::int64_t begin) const noexcept {
  const std::span<const std::int64_t> first = by_length_->first();
  const auto above = std::upper_bound(first.begin(), first.end(), num_samples() - 1 - begin);
  return by_length_->labels()[static_cast<std::size_t>(above - first.begin() - 1)];
}

std::int64_t LengthBatches::rows_for(std::int64_t longest) const noexcept {
  const std::int64_t most = options_.batch_size == 0 ? num_samples() : options_.batch_size;
  const std::int64_t fit = options_.max_tokens == 0 ? most : options_.max_tokens / padded(longest);
  return std::min({most, fit, num_samples()});
}

/// Samples from `begin` on that are long enough for one bucket with it.
std::int64_t LengthBatches::num_alike(std::int64_t begin) const noexcept {
  const double least = (1 - options_.spread) * static_cast<double>(padded(longest_at(begin)));
  const std::span<const std::int64_t> labels = by_length_->labels();
  const auto shortest = std::partition_point(labels.begin(), labels.end(), [&](std::int64_t length) {
    return static_cast<double>(padded(length)) < least;
  });
  return num_samples() - by_length_->first()[static_cast<std::size_t>(shortest - labels.begin())] - begin;
}

/// 0 when what is left does not fill a turn.
std::int64_t LengthBatches::turns_of_bucket(const Bucket& bucket) const noexcept {
  const auto full_turns = [&](std::int64_t samples) {
    return samples / bucket.rows / options_.batches_per_turn;
  };
  const std::int64_t most = full_turns(num_samples() - bucket.begin);
  const bool is_single = !options_.shuffle || (options_.longest_first && bucket.begin == 0);
  if (is_single) return std::min<std::int64_t>(1, most);
  const std::int64_t least = divide_up(kLeastBatches, options_.batches_per_turn);
  return std::min(most, std::max(least, full_turns(num_alike(bucket.begin))));
}

std::int64_t LengthBatches::end_of(std::size_t bucket) const noexcept {
  return bucket + 1 < buckets_.size() ? buckets_[bucket + 1].begin : num_samples();
}

std::int64_t LengthBatches::sorted_turn(std::int64_t turn, std::uint64_t key) const {
  if (!options_.shuffle) return turn;
  const std::int64_t fixed = options_.longest_first ? 1 : 0;
  if (turn < fixed) return turn;
  const Permutation order(buckets_.back().first_turn - fixed, derive_key(key, kTurns));
  return order.at(turn - fixed) + fixed;
}

LengthBatches::Place LengthBatches::find(std::int64_t batch, std::uint64_t key) const {
  const std::int64_t turn = batch / options_.batches_per_turn;
  const std::int64_t part = batch % options_.batches_per_turn;
  if (turn == buckets_.back().first_turn) return find_rest(part);
  const std::int64_t number = sorted_turn(turn, key);
  const auto above =
      std::upper_bound(buckets_.begin(), buckets_.end(), number,
                       [](std::int64_t wanted, const Bucket& bucket) { return wanted < bucket.first_turn; });
  const Bucket& bucket = *std::prev(above);
  const std::int64_t before = (number - bucket.first_turn) * options_.batches_per_turn + part;
  return {static_cast<std::size_t>(above - buckets_.begin() - 1), before * bucket.rows, bucket.rows};
}

LengthBatches::Place LengthBatches::find_rest(std::int64_t part) const noexcept {
  const std::size_t bucket = buckets_.size() - 1;
  const std::int64_t samples = end_of(bucket) - buckets_[bucket].begin;
  const std::int64_t each = samples / options_.batches_per_turn;
  const std::int64_t more = samples % options_.batches_per_turn;
  if (each == 0) return {bucket, part % samples, 1};
  return {bucket, each * part + std::min(part, more), each + (part < more ? 1 : 0)};
}

void LengthBatches::fill(const Place& place, std::uint64_t key, std::span<std::int64_t> out) const {
  const std::int64_t begin = buckets_[place.bucket].begin;
  if (options_.shuffle) {
    const std::uint64_t own = derive_key(derive_key(key, kBucket), place.bucket);
    Permutation(end_of(place.bucket) - begin, own).fill(place.first, 1, out);
  } else {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = place.first + static_cast<std::int64_t>(i);
  }
  const std::span<const std::int64_t> samples = by_length_->samples();
  for (std::int64_t& sample : out)
    sample = samples[samples.size() - 1 - static_cast<std::size_t>(begin + sample)];
}

}  // namespace penstock
