#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "order/class_index.h"
#include "order/permutation.h"

namespace penstock {

/// Batches of a few samples from each of a few classes ("P x K"), any of them in time of its own size.
///
/// Batches come in rounds of num_classes / classes_per_batch. A round deals the classes out in a random
/// order, so that no class comes twice in it; where the division leaves classes over, random ones sit the
/// round out, and lose their turn. Every class is walked through in a random order, samples_per_class at each
/// turn, and shuffled anew after as many turns as it has samples for: inside one walk none comes twice. A
/// class of fewer than samples_per_class repeats, evenly, in one batch.
///
/// Immutable; thread-safe.
class BalancedBatches {
 public:
  /// \throws Error kArgument when there are fewer than classes_per_batch classes, or a number is not positive
  BalancedBatches(std::shared_ptr<const ClassIndex> index, std::int64_t classes_per_batch,
                  std::int64_t samples_per_class, std::uint64_t key);

  [[nodiscard]] std::int64_t batch_size() const noexcept { return classes_per_batch_ * samples_per_class_; }

  /// Batch number `batch`: the samples of one class, then of the next.
  ///
  /// \pre batch >= 0, out.size() == batch_size()
  void fill(std::int64_t batch, std::span<std::int64_t> out) const;

 private:
  void fill_class(std::int64_t k, std::int64_t turn, std::span<std::int64_t> out) const;

  std::shared_ptr<const ClassIndex> index_;
  std::int64_t classes_per_batch_;
  std::int64_t samples_per_class_;
  std::uint64_t key_;
};

/// Batches in which every class has the share that it has in the whole, each sample once.
///
/// As cards are dealt: the samples lie sorted by class (in a random order inside it) and go to the batches in
/// turn. A batch has within 1 + 1 / num_full_batches() of batch_size * (samples of the class) / (samples) of
/// every class. What does not fill a batch is taken out evenly and is the last, shorter one.
///
/// Immutable; thread-safe.
class StratifiedBatches {
 public:
  /// \throws Error kArgument when batch_size is not positive
  StratifiedBatches(std::shared_ptr<const ClassIndex> index, std::int64_t batch_size, std::uint64_t key);

  [[nodiscard]] std::int64_t batch_size() const noexcept { return batch_size_; }
  [[nodiscard]] std::int64_t num_full_batches() const noexcept { return batch_order_.size(); }

  /// Samples of the batch after the full ones; 0 when there is none.
  [[nodiscard]] std::int64_t rest() const noexcept { return rest_; }

  /// \pre 0 <= batch < num_full_batches() and out.size() == batch_size,
  ///      or batch == num_full_batches() and out.size() == rest()
  void fill(std::int64_t batch, std::span<std::int64_t> out) const;

 private:
  [[nodiscard]] std::int64_t rest_card(std::int64_t i) const noexcept;
  [[nodiscard]] std::int64_t dealt_card(std::int64_t i) const noexcept;

  std::shared_ptr<const ClassIndex> index_;
  std::int64_t batch_size_;
  std::uint64_t key_;
  std::int64_t rest_;
  std::int64_t rest_offset_ = 0;  ///< in [0, num_samples): shifts what the last batch takes out
  Permutation batch_order_;
};

/// Tasks of few-shot learning ("N-way K-shot"): some samples from each of some classes, all different.
///
/// Immutable; thread-safe.
class Episodes {
 public:
  /// \throws Error kArgument when there are fewer than num_ways classes, one has fewer than samples_per_class
  /// samples,
  ///         or a number is not positive
  Episodes(std::shared_ptr<const ClassIndex> index, std::int64_t num_ways, std::int64_t samples_per_class,
           std::uint64_t key);

  [[nodiscard]] std::int64_t batch_size() const noexcept { return num_ways_ * samples_per_class_; }

  /// Episode number `episode`: the samples of one class, then of the next.
  ///
  /// \pre episode >= 0, out.size() == batch_size()
  void fill(std::int64_t episode, std::span<std::int64_t> out) const;

 private:
  std::shared_ptr<const ClassIndex> index_;
  std::int64_t num_ways_;
  std::int64_t samples_per_class_;
  std::uint64_t key_;
};

}  // namespace penstock
