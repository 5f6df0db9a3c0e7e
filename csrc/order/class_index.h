#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace penstock {

/// Which samples belong to which class: for every class its samples in ascending order, all in one array.
///
/// Two passes over the labels: one counts, one deals the samples out. Labels may be any numbers; where
/// they are spread over more than a few times their count they are sorted first. 8 bytes a sample and 16 a
/// class.
///
/// Immutable; thread-safe.
class ClassIndex {
 public:
  explicit ClassIndex(std::span<const std::int64_t> targets);

  [[nodiscard]] std::int64_t num_samples() const noexcept { return static_cast<std::int64_t>(size_); }
  [[nodiscard]] std::int64_t num_classes() const noexcept {
    return static_cast<std::int64_t>(labels_.size());
  }

  /// The labels there are, ascending. Class k is the one with the k-th label; none is empty.
  [[nodiscard]] std::span<const std::int64_t> labels() const noexcept { return labels_; }

  /// Where each class begins in `samples()`; num_classes() + 1 numbers, the last is num_samples().
  [[nodiscard]] std::span<const std::int64_t> first() const noexcept { return first_; }

  /// All samples, by class and then ascending.
  [[nodiscard]] std::span<const std::int64_t> samples() const noexcept { return {samples_.get(), size_}; }

  /// The samples of class k. \pre 0 <= k < num_classes()
  [[nodiscard]] std::span<const std::int64_t> samples_of(std::int64_t k) const noexcept;

 private:
  void count_dense(std::span<const std::int64_t> targets, std::int64_t lowest, std::uint64_t range);
  void count_sparse(std::span<const std::int64_t> targets);

  std::vector<std::int64_t> labels_;
  std::vector<std::int64_t> first_;
  std::size_t size_;
  std::unique_ptr<std::int64_t[]> samples_;  // NOLINT(modernize-avoid-c-arrays): not to be zeroed first
};

}  // namespace penstock
