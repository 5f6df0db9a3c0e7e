#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "order/class_index.h"

namespace penstock {

/// Batches of samples of like length, each sample once, any of them in time of its own size.
///
/// The samples lie sorted, longest first, and are cut into buckets: runs in which all are about as long as
/// the first. A bucket's longest says how many rows its batches have, so whatever is shuffled inside it keeps
/// to the limits, and every key has the same number of batches. Batches come in turns, one for each of
/// those who share them, and all of a turn are from one bucket: a bucket is a number of whole turns. What is
/// left at the end, the shortest, is one last turn: dealt out evenly if it is for several, and given out
/// again where there are fewer samples than takers.
///
/// 24 bytes a bucket. Immutable; thread-safe.
class LengthBatches {
 public:
  static constexpr std::int64_t kMostTokens = std::int64_t{1} << 52U;  ///< of one sample, padded

  struct Options {
    std::int64_t batch_size = 0;        ///< most rows of a batch; 0: as max_tokens says
    std::int64_t max_tokens = 0;        ///< most rows * padded longest, which counts as 1 at least; 0: any
    std::int64_t pad_to_multiple = 1;   ///< lengths are rounded up to it
    std::int64_t batches_per_turn = 1;  ///< those of one turn are from one bucket
    double spread = 0;           ///< how much shorter than its longest a bucket's samples may be: 0 to 1
    bool shuffle = true;         ///< else sorted, longest first
    bool longest_first = false;  ///< the turn of the longest comes first, shuffled or not
    bool drop_last = false;      ///< leave out the last turn where it is not full
  };

  /// \param by_length  the samples by their lengths, which are the labels
  /// \throws Error kArgument when neither batch_size nor max_tokens is given, an option is out of its range,
  ///         a length is negative or over kMostTokens, or one is over max_tokens (with its row)
  LengthBatches(std::shared_ptr<const ClassIndex> by_length, const Options& options);

  [[nodiscard]] std::int64_t num_batches() const noexcept { return num_batches_; }

  /// Where the samples of a batch lie.
  struct Place {
    std::size_t bucket;
    std::int64_t first;  ///< position in the bucket as it is shuffled
    std::int64_t size;   ///< samples of the batch
  };

  /// \pre 0 <= batch < num_batches()
  [[nodiscard]] Place find(std::int64_t batch, std::uint64_t key) const;

  /// The samples of the batch that `find` has found with this key. \pre out.size() == place.size
  void fill(const Place& place, std::uint64_t key, std::span<std::int64_t> out) const;

 private:
  struct Bucket {
    std::int64_t begin;       ///< its longest, counted from the longest of all
    std::int64_t first_turn;  ///< turns before it
    std::int64_t rows;        ///< of its batches
  };

  [[nodiscard]] std::int64_t num_samples() const noexcept { return by_length_->num_samples(); }
  [[nodiscard]] std::int64_t padded(std::int64_t length) const noexcept;
  [[nodiscard]] std::int64_t longest_at(std::int64_t begin) const noexcept;
  [[nodiscard]] std::int64_t rows_for(std::int64_t longest) const noexcept;
  [[nodiscard]] std::int64_t num_alike(std::int64_t begin) const noexcept;
  [[nodiscard]] std::int64_t turns_of_bucket(const Bucket& bucket) const noexcept;
  [[nodiscard]] Place find_rest(std::int64_t part) const noexcept;
  [[nodiscard]] std::int64_t sorted_turn(std::int64_t turn, std::uint64_t key) const;
  [[nodiscard]] std::int64_t end_of(std::size_t bucket) const noexcept;
  void require_options() const;
  void require_lengths() const;

  std::shared_ptr<const ClassIndex> by_length_;
  Options options_;
  std::vector<Bucket> buckets_;  ///< the last is the rest: less than a turn, perhaps nothing
  std::int64_t num_batches_ = 0;
};

}  // namespace penstock
