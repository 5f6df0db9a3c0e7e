#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "image/resize_quads.h"

namespace penstock {

enum class Filter : std::uint8_t { kBilinear, kBicubic };

/// How one axis is resized.
struct AxisPlan {
  std::int32_t in_size = 0;  ///< pixels of the whole axis
  float box_begin = 0;       ///< the part of it that is resized, in pixels
  float box_end = 0;
  std::int32_t out_size = 0;   ///< pixels that the part becomes
  std::int32_t out_begin = 0;  ///< which of those are wanted: [out_begin, out_end)
  std::int32_t out_end = 0;
  Filter filter = Filter::kBilinear;

  [[nodiscard]] bool operator==(const AxisPlan&) const = default;

  /// Whether every output pixel is an input pixel.
  [[nodiscard]] bool is_copy() const noexcept {
    return out_size == in_size && box_begin == 0 && box_end == static_cast<float>(out_size);
  }
};

/// Which input pixels make each output pixel of an axis, and by how much: as Pillow computes them, to the
/// bit.
///
/// Pillow's weights are fixed point with 22 fractional bits. For 16-bit multiplications a weight is split,
/// exactly: weight = high * 2**15 + low, 0 <= low < 2**15.
///
/// thread-compatible; immutable
class AxisWeights {
 public:
  static constexpr int kPrecisionBits = 22;
  static constexpr int kLowBits = 15;

  /// Weights lie in groups of so many, zeros at the end: a kernel may take them pairwise or by eight.
  static constexpr std::int32_t kGroup = 8;

  /// \pre 0 <= box_begin < box_end <= in_size; 0 <= out_begin < out_end <= out_size
  explicit AxisWeights(const AxisPlan& plan);

  /// The input pixels [first, first + count) of one output pixel. count >= 1
  struct Window {
    std::int32_t first;
    std::int32_t count;
    std::int32_t padded;  ///< count, or a bit more: pixels that are needed elsewhere, with weights of zero.
                          ///< The same number for most windows, so that a processor can foresee it
  };

  [[nodiscard]] const AxisPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] std::int32_t size() const noexcept { return plan_.out_end - plan_.out_begin; }

  /// What it takes of memory.
  [[nodiscard]] std::size_t bytes() const noexcept;

  /// The input pixels that any of the wanted output pixels needs.
  [[nodiscard]] Window needed() const noexcept { return needed_; }

  /// \pre 0 <= i < size(): counted from out_begin
  [[nodiscard]] Window window(std::int32_t i) const noexcept { return windows_[static_cast<std::size_t>(i)]; }

  [[nodiscard]] const double* exact(std::int32_t i) const noexcept { return exact_.data() + at(i); }
  [[nodiscard]] const std::int32_t* fixed(std::int32_t i) const noexcept { return fixed_.data() + at(i); }
  [[nodiscard]] const std::int16_t* low(std::int32_t i) const noexcept { return low_.data() + at(i); }
  [[nodiscard]] const std::int16_t* high(std::int32_t i) const noexcept { return high_.data() + at(i); }
  [[nodiscard]] const WeightQuads& quads() const noexcept { return quads_; }

 private:
  [[nodiscard]] std::size_t at(std::int32_t i) const noexcept {
    return static_cast<std::size_t>(i) * stride_;
  }
  void fill(std::int32_t i);

  AxisPlan plan_;
  double scale_;         ///< input pixels to an output pixel
  double filter_scale_;  ///< the same, but the filter is never narrower than its definition
  double support_;       ///< input pixels on either side of a center that count
  std::size_t stride_;   ///< weights from one output pixel to the next
  Window needed_{};
  std::vector<Window> windows_;
  std::vector<double> exact_;
  std::vector<std::int32_t> fixed_;
  std::vector<std::int16_t> low_;
  std::vector<std::int16_t> high_;
  WeightQuads quads_;
};

}  // namespace penstock
