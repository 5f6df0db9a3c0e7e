#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace penstock {

class AxisWeights;

/// The weights of an axis for multiplications of bytes, four products and their sum at once.
///
/// A weight, which is never as large as 2, is split into three signed bytes, exactly:
/// weight = (digit 2 * 2**8 + digit 1) * 2**8 + digit 0. A quad is one digit of four weights that follow each
/// other; behind the last weight there are zeros. Output pixels come in pairs, an even number of them, so
/// that a kernel may make four pixels at a time: what is too many has weights of zero.
///
/// thread-compatible; immutable
class WeightQuads {
 public:
  static constexpr std::int32_t kDigits = 3;
  static constexpr std::int32_t kSize = 4;
  static constexpr std::int32_t kPairBytes = 2 * kSize;
  static constexpr std::int32_t kMost = 3;

  WeightQuads() = default;

  /// Where a window needs more than kMost, there are none.
  explicit WeightQuads(const AxisWeights& weights);

  [[nodiscard]] bool are_there() const noexcept { return per_window_ > 0; }

  /// How many make up the longest window.
  [[nodiscard]] std::int32_t per_window() const noexcept { return per_window_; }

  /// The digits of an output pixel's first quad, lowest first, then those of the next quads, kPairBytes
  /// apart. Behind each of the first of a pair lies the one of the second.
  [[nodiscard]] const std::int8_t* digits(std::int32_t i) const noexcept { return digits_.data() + place(i); }

  /// For each pair, and each quad: the input pixel that the quad of the pair's first pixel begins with, or
  /// the last one that the axis needs if that comes before.
  [[nodiscard]] const std::int32_t* firsts() const noexcept { return firsts_.data(); }

  /// For each pair, where input pixels have four bytes: by how many the windows of its first and of its
  /// second pixel begin behind the window of the first, each number four times. \pre are_dense()
  [[nodiscard]] const std::uint8_t* offsets() const noexcept { return offsets_.data(); }

  /// Whether they are there, and 32 bytes hold four such pixels of both windows of any pair.
  [[nodiscard]] bool are_dense() const noexcept { return are_dense_; }

  /// The memory they take.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return digits_.size() + firsts_.size() * sizeof(std::int32_t) + offsets_.size();
  }

 private:
  [[nodiscard]] std::size_t place(std::int32_t i) const noexcept {
    const std::size_t quads = static_cast<std::size_t>(i / 2) * static_cast<std::size_t>(per_window_);
    return quads * kDigits * kPairBytes + static_cast<std::size_t>(i % 2 * kSize);
  }
  void split(const AxisWeights& weights, std::int32_t i);
  void find_places(const AxisWeights& weights, std::int32_t pair);

  std::int32_t per_window_ = 0;
  bool are_dense_ = false;
  std::vector<std::int8_t> digits_;
  std::vector<std::int32_t> firsts_;
  std::vector<std::uint8_t> offsets_;
};

}  // namespace penstock
