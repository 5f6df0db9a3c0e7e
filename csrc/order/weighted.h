#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace penstock {

/// \throws Error kArgument when there is no weight, one is negative or not finite, all are zero, or fewer
/// than
///         `num_positive` are above zero
void require_weights(std::span<const double> weights, std::int64_t num_positive);

/// Draws with replacement, each sample as often as its weight says, in constant time by the alias method.
///
/// Walker (1977), Vose (1991): as many buckets as samples, each holds at most two of them. Built in one sweep
/// with two pointers (Huebschle-Schneider and Sanders, "Parallel weighted random sampling", 2019). 16 bytes a
/// sample.
///
/// Immutable; thread-safe.
class AliasTable {
 public:
  /// \throws Error kArgument as require_weights
  explicit AliasTable(std::span<const double> weights);

  /// The draws number first, first + step, ...: of one key each a function of its number alone. \pre first,
  /// step >= 0
  void draw(std::uint64_t key, std::int64_t first, std::int64_t step,
            std::span<std::int64_t> out) const noexcept;

 private:
  static constexpr std::int64_t kItself = -1;

  struct Bucket {
    double keep = 1;               ///< chance of the bucket's own sample
    std::int64_t other = kItself;  ///< the one that is drawn instead
  };

  void level(std::span<const std::size_t> order, std::size_t num_light) noexcept;

  std::vector<Bucket> buckets_;
};

/// Draws `count` different samples one after the other, each time with chances in proportion to the weights
/// of those that are left: exactly so, by the smallest of count exponential variables of rates w (Efraimidis
/// and Spirakis 2006). O(samples + count * log(count)).
///
/// \throws Error kArgument as require_weights, for `count` positive weights
[[nodiscard]] std::vector<std::int64_t> draw_without_replacement(std::span<const double> weights,
                                                                 std::int64_t count, std::uint64_t key);

}  // namespace penstock
