#pragma once

#include <cstddef>
#include <cstdint>
#include <list>

#include "image/pixels.h"
#include "image/resize_passes.h"
#include "image/resize_weights.h"

namespace penstock {

/// Which pass comes first. What one pass rounds, the other builds on: the order shows in the last bit.
enum class PassOrder : std::uint8_t { kHorizontalFirst, kVerticalFirst };

/// Whose order of passes. 12.0 and later, but for 13, go by the rule of 12.
enum class PillowRule : std::uint8_t { kPillow11, kPillow12, kPillow13 };

/// The part of an image that is resized, in pixels; single precision, as Pillow has it.
struct Box {
  float left = 0;
  float top = 0;
  float right = 0;
  float bottom = 0;
};

/// One resize, as `PIL.Image.resize(size, resample, box)` says it, and which part of the result is wanted.
struct ResizePlan {
  std::int32_t in_width = 0;
  std::int32_t in_height = 0;
  Box box;
  std::int32_t out_width = 0;
  std::int32_t out_height = 0;
  Rect window;  ///< of the output
  Filter filter = Filter::kBilinear;
  PillowRule rule = PillowRule::kPillow13;
};

/// \throws Error kArgument unless the box and the window lie inside and nothing is empty
void check_resize(const ResizePlan& plan);

[[nodiscard]] PassOrder pass_order(const ResizePlan& plan) noexcept;

/// The weights of both axes.
///
/// single-owner: keeps the last few, for images of one size
class WeightCache {
 public:
  static constexpr std::size_t kMostKept = std::size_t{64} << 20U;  ///< bytes between images

  /// Lives until the second `get` after it, or `shrink`.
  [[nodiscard]] const AxisWeights& get(const AxisPlan& plan);

  /// Forgets what was used longest ago until the rest is no more than kMostKept: those of a side of a hundred
  /// million pixels, which a file of some kilobytes may have, take gigabytes.
  void shrink() noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept;

 private:
  static constexpr std::size_t kMost = 8;  // at least 2
  std::list<AxisWeights> recent_;          ///< the last used first
};

/// What a resize works with. single-owner
struct ResizeScratch {
  WeightCache weights;
  PixelBuffer between;  ///< the passes
};

/// The input pixels that the wanted part of the output needs; the first step of every resize. \pre
/// check_resize(plan)
[[nodiscard]] Rect resize_needs(const ResizePlan& plan, ResizeScratch& scratch);

/// Whether a StripResize can do it: the horizontal pass is there and comes first.
[[nodiscard]] bool comes_in_strips(const ResizePlan& plan) noexcept;

/// A resize whose input comes a few rows at a time, so that they are still in the cache.
///
/// single-owner
class StripResize {
 public:
  /// Borrows all. \pre check_resize(plan); comes_in_strips(plan)
  StripResize(const ResizePlan& plan, PixelType type, PixelBuffer& out, ResizeScratch& scratch,
              Instructions instructions);

  /// \param strip  the next rows of resize_needs(), with all of its columns
  void add(const PixelView& strip) noexcept;

  /// \returns the window in `out`. \pre all rows have come
  [[nodiscard]] PixelView finish();

 private:
  const AxisWeights* columns_;
  const AxisWeights* rows_;
  PixelBuffer* out_;
  WeightCache* weights_;
  PixelView between_;
  std::int32_t num_rows_ = 0;
  Instructions instructions_;
};

/// Resizes as Pillow does, to the byte (its modes L, RGB, RGBa, La, CMYK and I;16).
///
/// \param in   the part of the input at (left, top) that holds resize_needs()
/// \param out  receives the window
/// \returns the window in `out`
/// \pre check_resize(plan)
[[nodiscard]] PixelView resize(const ResizePlan& plan, const PixelView& in, std::int32_t left,
                               std::int32_t top, PixelBuffer& out, ResizeScratch& scratch,
                               Instructions instructions);

}  // namespace penstock
