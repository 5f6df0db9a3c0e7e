#include "image/resize.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace penstock {
namespace {

AxisPlan horizontal(const ResizePlan& plan) noexcept {
  return {plan.in_width,  plan.box.left, plan.box.right,
          plan.out_width, plan.window.x, plan.window.x + plan.window.width,
          plan.filter};
}

AxisPlan vertical(const ResizePlan& plan) noexcept {
  return {plan.in_height,  plan.box.top,  plan.box.bottom,
          plan.out_height, plan.window.y, plan.window.y + plan.window.height,
          plan.filter};
}

bool is_inside(float begin, float end, std::int32_t size) noexcept {  // false where one is not a number
  return begin >= 0 && begin < end && end <= static_cast<float>(size);
}

/// One pass, or none where every output pixel is an input pixel.
class Pass {
 public:
  explicit Pass(const AxisWeights& weights, std::int32_t origin) : weights_(weights), origin_(origin) {}

  [[nodiscard]] bool is_copy() const noexcept { return weights_.plan().is_copy(); }
  [[nodiscard]] std::int32_t begin() const noexcept { return weights_.plan().out_begin - origin_; }
  [[nodiscard]] std::int32_t size() const noexcept { return weights_.size(); }

  [[nodiscard]] PixelView rows(const PixelView& in, PixelBuffer& target, Instructions instructions) const {
    if (is_copy()) return in.part({begin(), 0, size(), in.height});
    const PixelView out = target.reset(size(), in.height, in.type);
    resize_rows(in, origin_, weights_, out, instructions);
    return out;
  }

  [[nodiscard]] PixelView columns(const PixelView& in, PixelBuffer& target, Instructions instructions) const {
    if (is_copy()) return in.part({0, begin(), in.width, size()});
    const PixelView out = target.reset(in.width, size(), in.type);
    resize_columns(in, origin_, weights_, out, instructions);
    return out;
  }

 private:
  const AxisWeights& weights_;
  std::int32_t origin_;
};

}  // namespace

void check_resize(const ResizePlan& plan) {
  if (plan.out_width < 1 || plan.out_height < 1) {
    throw Error(ErrorKind::kArgument, "an image cannot be resized to nothing")
        .needed("a width and a height of 1 or more")
        .found(size_text(plan.out_width, plan.out_height));
  }
  if (!is_inside(plan.box.left, plan.box.right, plan.in_width) ||
      !is_inside(plan.box.top, plan.box.bottom, plan.in_height)) {
    throw Error(ErrorKind::kArgument, "the part to resize is empty or not inside the image")
        .needed("left < right and top < bottom within " + size_text(plan.in_width, plan.in_height))
        .found(std::to_string(plan.box.left) + ", " + std::to_string(plan.box.top) + " to " +
               std::to_string(plan.box.right) + ", " + std::to_string(plan.box.bottom));
  }
  if (!penstock::is_inside(plan.window, plan.out_width, plan.out_height)) {
    throw Error(ErrorKind::kArgument, "the wanted part is empty or not inside the resized image")
        .needed("a part of " + size_text(plan.out_width, plan.out_height))
        .found(size_text(plan.window.width, plan.window.height) + " at " + std::to_string(plan.window.x) +
               ", " + std::to_string(plan.window.y));
  }
}

PassOrder pass_order(const ResizePlan& plan) noexcept {
  const std::int64_t lost_rows = std::int64_t{plan.in_height} - plan.out_height;
  const std::int64_t lost_columns = std::int64_t{plan.in_width} - plan.out_width;
  bool vertical_first = false;
  if (plan.rule == PillowRule::kPillow12) {
    vertical_first = plan.in_height > std::int64_t{100} * plan.in_width && lost_rows > 0;
  } else if (plan.rule == PillowRule::kPillow13) {
    vertical_first = lost_rows > 0 && lost_rows > 2 * lost_columns;
  }
  return vertical_first ? PassOrder::kVerticalFirst : PassOrder::kHorizontalFirst;
}

const AxisWeights& WeightCache::get(const AxisPlan& plan) {
  const auto known = std::find_if(recent_.begin(), recent_.end(),
                                  [&](const AxisWeights& weights) { return weights.plan() == plan; });
  if (known != recent_.end()) {
    recent_.splice(recent_.begin(), recent_, known);
  } else {
    recent_.emplace_front(plan);
    if (recent_.size() > kMost) recent_.pop_back();
  }
  return recent_.front();
}

void WeightCache::shrink() noexcept {
  while (bytes() > kMostKept) recent_.pop_back();
}

std::size_t WeightCache::bytes() const noexcept {
  std::size_t bytes = 0;
  for (const AxisWeights& weights : recent_) bytes += weights.bytes();
  return bytes;
}

Rect resize_needs(const ResizePlan& plan, ResizeScratch& scratch) {
  scratch.weights.shrink();  // the last resize may not have been finished
  const AxisWeights::Window columns = scratch.weights.get(horizontal(plan)).needed();
  const AxisWeights::Window rows = scratch.weights.get(vertical(plan)).needed();
  return {columns.first, rows.first, columns.count, rows.count};
}

bool comes_in_strips(const ResizePlan& plan) noexcept {
  return pass_order(plan) == PassOrder::kHorizontalFirst && !horizontal(plan).is_copy();
}

StripResize::StripResize(const ResizePlan& plan, PixelType type, PixelBuffer& out, ResizeScratch& scratch,
                         Instructions instructions)
    : columns_(&scratch.weights.get(horizontal(plan))),
      rows_(&scratch.weights.get(vertical(plan))),
      out_(&out),
      weights_(&scratch.weights),
      instructions_(instructions) {
  PixelBuffer& target = rows_->plan().is_copy() ? out : scratch.between;
  between_ = target.reset(columns_->size(), rows_->needed().count, type);
}

void StripResize::add(const PixelView& strip) noexcept {
  const PixelView target = between_.part({0, num_rows_, between_.width, strip.height});
  resize_rows(strip, columns_->needed().first, *columns_, target, instructions_);
  num_rows_ += strip.height;
}

PixelView StripResize::finish() {
  const PixelView result = Pass(*rows_, rows_->needed().first).columns(between_, *out_, instructions_);
  weights_->shrink();
  return result;
}

PixelView resize(const ResizePlan& plan, const PixelView& in, std::int32_t left, std::int32_t top,
                 PixelBuffer& out, ResizeScratch& scratch, Instructions instructions) {
  const AxisWeights& columns = scratch.weights.get(horizontal(plan));
  const AxisWeights& rows = scratch.weights.get(vertical(plan));
  const AxisWeights::Window wide = columns.needed();
  const AxisWeights::Window high = rows.needed();
  const Pass across(columns, wide.first);
  const Pass down(rows, high.first);
  const PixelView source = in.part({wide.first - left, high.first - top, wide.count, high.count});
  if (comes_in_strips(plan)) {
    StripResize strips(plan, in.type, out, scratch, instructions);
    strips.add(source);
    return strips.finish();
  }
  PixelBuffer& first = across.is_copy() ? out : scratch.between;
  const PixelView result = across.rows(down.columns(source, first, instructions), out, instructions);
  scratch.weights.shrink();
  return result;
}

}  // namespace penstock
