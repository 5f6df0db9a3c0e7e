#include "order/class_index.h"

#include <algorithm>
#include <cstddef>

namespace penstock {
namespace {

/// Deals sample numbers out to their classes. `next` holds where each class begins and ends up where it ends.
template <typename ClassOf>
void deal(std::span<const std::int64_t> targets, std::vector<std::int64_t>& next, std::int64_t* samples,
          ClassOf class_of) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    std::int64_t& slot = next[class_of(targets[i])];
    samples[slot++] = static_cast<std::int64_t>(i);
  }
}

}  // namespace

ClassIndex::ClassIndex(std::span<const std::int64_t> targets)
    : size_(targets.size()),
      samples_(std::make_unique_for_overwrite<std::int64_t[]>(size_)) {  // NOLINT(modernize-avoid-c-arrays)
  first_.push_back(0);
  if (targets.empty()) return;
  std::int64_t lowest = targets.front();
  std::int64_t highest = lowest;
  for (const std::int64_t label : targets) {  // four times as fast as std::minmax_element
    lowest = std::min(lowest, label);
    highest = std::max(highest, label);
  }
  const std::uint64_t range = static_cast<std::uint64_t>(highest) - static_cast<std::uint64_t>(lowest);
  if (range < 4 * targets.size() + 1024) {
    count_dense(targets, lowest, range);
  } else {
    count_sparse(targets);
  }
}

void ClassIndex::count_dense(std::span<const std::int64_t> targets, std::int64_t lowest,
                             std::uint64_t range) {
  const auto class_of = [lowest](std::int64_t label) {
    return static_cast<std::size_t>(static_cast<std::uint64_t>(label) - static_cast<std::uint64_t>(lowest));
  };
  std::vector<std::int64_t> next(static_cast<std::size_t>(range) + 1);
  for (const std::int64_t label : targets) ++next[class_of(label)];
  std::int64_t begin = 0;
  for (std::size_t k = 0; k < next.size(); ++k) {
    const std::int64_t count = next[k];
    next[k] = begin;
    begin += count;
    if (count == 0) continue;
    labels_.push_back(lowest + static_cast<std::int64_t>(k));
    first_.push_back(begin);
  }
  deal(targets, next, samples_.get(), class_of);
}

void ClassIndex::count_sparse(std::span<const std::int64_t> targets) {
  labels_.assign(targets.begin(), targets.end());
  std::sort(labels_.begin(), labels_.end());
  labels_.erase(std::unique(labels_.begin(), labels_.end()), labels_.end());
  const auto class_of = [this](std::int64_t label) {
    return static_cast<std::size_t>(std::lower_bound(labels_.begin(), labels_.end(), label) -
                                    labels_.begin());
  };
  first_.assign(labels_.size() + 1, 0);
  for (const std::int64_t label : targets) ++first_[class_of(label) + 1];
  for (std::size_t k = 0; k < labels_.size(); ++k) first_[k + 1] += first_[k];
  std::vector<std::int64_t> next(first_.begin(), first_.end() - 1);
  deal(targets, next, samples_.get(), class_of);
}

std::span<const std::int64_t> ClassIndex::samples_of(std::int64_t k) const noexcept {
  const auto begin = static_cast<std::size_t>(first_[static_cast<std::size_t>(k)]);
  const auto end = static_cast<std::size_t>(first_[static_cast<std::size_t>(k) + 1]);
  return samples().subspan(begin, end - begin);
}

}  // namespace penstock
