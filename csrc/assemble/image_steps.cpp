#include "assemble/image_steps.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"

namespace penstock {
namespace {

using Kind = ImageStep::Kind;
using Size = ImagePlan::Size;

constexpr std::uint64_t kNumbersPerStep = 64;

Error argument(std::string problem) { return {ErrorKind::kArgument, std::move(problem)}; }

std::string text(std::int64_t width, std::int64_t height) { return size_text(width, height) + " pixels"; }

/// The random numbers of one step.
class Draws {
 public:
  Draws(const RandomSequence& random, std::size_t step) : random_(random), next_(step * kNumbersPerStep) {}

  double uniform(double low, double high) noexcept {
    return low + (high - low) * unit_interval(random_.at(next_++));
  }

  /// One of 0, ..., most.
  std::int32_t upto(std::int32_t most) noexcept {
    return static_cast<std::int32_t>(scale_to(random_.at(next_++), static_cast<std::uint64_t>(most) + 1));
  }

 private:
  const RandomSequence& random_;
  std::uint64_t next_;
};

/// Half to even, as Python rounds.
std::int32_t rounded(double value) noexcept {
  return static_cast<std::int32_t>(
      std::clamp(std::nearbyint(value), -1.0, static_cast<double>(kLongestSide)));
}

/// torchvision's RandomResizedCrop.get_params.
Rect random_part(Size image, const ImageStep& step, Draws& draws) {
  constexpr int kAttempts = 10;
  const double area = static_cast<double>(image.width) * image.height;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const double target = area * draws.uniform(step.scale[0], step.scale[1]);
    const double ratio = std::exp(draws.uniform(std::log(step.ratio[0]), std::log(step.ratio[1])));
    const std::int32_t width = rounded(std::sqrt(target * ratio));
    const std::int32_t height = rounded(std::sqrt(target / ratio));
    if (width < 1 || height < 1 || width > image.width || height > image.height) continue;
    const std::int32_t y = draws.upto(image.height - height);
    return {draws.upto(image.width - width), y, width, height};
  }
  Size part = image;
  const double ratio = static_cast<double>(image.width) / image.height;
  if (ratio < step.ratio[0]) part.height = std::max(rounded(image.width / step.ratio[0]), 1);
  if (ratio > step.ratio[1]) part.width = std::max(rounded(image.height * step.ratio[1]), 1);
  return {(image.width - part.width) / 2, (image.height - part.height) / 2, part.width, part.height};
}

/// torchvision's Resize with one number.
Size resized_shorter(Size image, std::int32_t shorter_side, std::int32_t longest) {
  const bool is_tall = image.width <= image.height;
  const double shorter = is_tall ? image.width : image.height;
  const double longer = is_tall ? image.height : image.width;
  double new_shorter = shorter_side;
  double new_longer = std::trunc(new_shorter * longer / shorter);
  if (longest > 0 && new_longer > longest) {
    new_shorter = std::trunc(static_cast<double>(longest) * new_shorter / new_longer);
    new_longer = longest;
  }
  if (new_longer > static_cast<double>(kLongestSide)) {
    throw argument("the image would become too large").found(text(image.width, image.height));
  }
  const auto low = std::max(static_cast<std::int32_t>(new_shorter), 1);
  const auto high = std::max(static_cast<std::int32_t>(new_longer), 1);
  return is_tall ? Size{low, high} : Size{high, low};
}

/// Whether a jitter changes that one of kColors.
bool jitters(const ImageStep& step, std::size_t color) noexcept {
  const double neutral = kColors[color].factor;
  return step.colors[color] != std::array{neutral, neutral};
}

bool changes_colors(const ImageStep& step) noexcept {
  return step.kind == Kind::kJitterColors || step.kind == Kind::kGray;
}

/// A plan in the making: `window` lies in the pixels of the image, or of what the resize has made of it.
class Walk {
 public:
  explicit Walk(Size image) { plan_.visible = plan_.window = {0, 0, image.width, image.height}; }

  [[nodiscard]] const SamplePlan& plan() const noexcept { return plan_; }
  [[nodiscard]] Size size() const noexcept { return {plan_.window.width, plan_.window.height}; }

  void take(const ImageStep& step, Draws draws) {
    switch (step.kind) {
      case Kind::kResize: return resize(step.size);
      case Kind::kResizeShorter: return resize(resized_shorter(size(), step.size.width, step.longest));
      case Kind::kCenterCrop: return center_crop(step.size);
      case Kind::kRandomCrop: return random_crop(step, draws);
      case Kind::kRandomResizedCrop: cut(random_part(size(), step, draws)); return resize(step.size);
      case Kind::kPad: return pad(step.padding);
      case Kind::kFlipHorizontally: plan_.flip_horizontally ^= draws.uniform(0, 1) < step.probability; return;
      case Kind::kFlipVertically: plan_.flip_vertically ^= draws.uniform(0, 1) < step.probability; return;
      case Kind::kJitterColors: return jitter_colors(step, draws);
      case Kind::kGray:
        if (draws.uniform(0, 1) < step.probability) plan_.colors.push_back({ColorChange::Kind::kGray, 0});
        return;
    }
  }

 private:
  void resize(Size size) {
    plan_.crop = plan_.window;
    plan_.resize = size;
    plan_.visible = plan_.window = {0, 0, size.width, size.height};
  }

  /// A part of the window, as one sees it after the flips so far.
  void cut(Rect part) noexcept {
    Rect& window = plan_.window;
    if (plan_.flip_horizontally) part.x = window.width - part.x - part.width;
    if (plan_.flip_vertically) part.y = window.height - part.y - part.height;
    window = {window.x + part.x, window.y + part.y, part.width, part.height};
  }

  void pad(std::array<std::int32_t, 4> padding) {
    auto& [left, top, right, bottom] = padding;
    Rect& window = plan_.window;
    const std::int64_t width = std::int64_t{window.width} + left + right;
    const std::int64_t height = std::int64_t{window.height} + top + bottom;
    if (std::max(width, height) > kLongestSide) {
      throw argument("the border makes the image too large").found(text(width, height));
    }
    if (plan_.flip_horizontally) std::swap(left, right);
    if (plan_.flip_vertically) std::swap(top, bottom);
    plan_.visible = overlap(plan_.visible, window);
    window = {window.x - left, window.y - top, static_cast<std::int32_t>(width),
              static_cast<std::int32_t>(height)};
  }

  void center_crop(Size crop) {
    const auto missing = [](std::int32_t wanted, std::int32_t there) { return std::max(wanted - there, 0); };
    const Size lacks{missing(crop.width, size().width), missing(crop.height, size().height)};
    if (lacks.width > 0 || lacks.height > 0) {
      pad({lacks.width / 2, lacks.height / 2, (lacks.width + 1) / 2, (lacks.height + 1) / 2});
    }
    cut({rounded((size().width - crop.width) / 2.0), rounded((size().height - crop.height) / 2.0), crop.width,
         crop.height});
  }

  void random_crop(const ImageStep& step, Draws& draws) {
    const Size crop = step.size;
    if (step.pads_if_needed && size().width < crop.width) {
      const std::int32_t lacks = crop.width - size().width;
      pad({lacks, 0, lacks, 0});
    }
    if (step.pads_if_needed && size().height < crop.height) {
      const std::int32_t lacks = crop.height - size().height;
      pad({0, lacks, 0, lacks});
    }
    if (size().width < crop.width || size().height < crop.height) {
      throw argument("the image is smaller than the random crop")
          .needed(text(crop.width, crop.height) + " or more")
          .found(text(size().width, size().height))
          .hint("pad_if_needed=True puts a border around it.");
    }
    const std::int32_t y = draws.upto(size().height - crop.height);
    cut({draws.upto(size().width - crop.width), y, crop.width, crop.height});
  }

  void jitter_colors(const ImageStep& step, Draws& draws) {
    if (!(draws.uniform(0, 1) < step.probability)) return;
    std::array<std::size_t, kColors.size()> order{0, 1, 2, 3};
    for (std::size_t i = order.size() - 1; i > 0; --i) {
      std::swap(order[i], order[static_cast<std::size_t>(draws.upto(static_cast<std::int32_t>(i)))]);
    }
    std::array<double, kColors.size()> factors{};
    for (std::size_t i = 0; i < factors.size(); ++i) {
      factors[i] = draws.uniform(step.colors[i][0], step.colors[i][1]);
    }
    for (const std::size_t i : order) {
      if (jitters(step, i)) plan_.colors.push_back({kColors[i].kind, factors[i]});
    }
  }

  SamplePlan plan_;
};

bool resizes(const ImageStep& step) noexcept {
  return step.kind == Kind::kResize || step.kind == Kind::kResizeShorter ||
         step.kind == Kind::kRandomResizedCrop;
}

/// Whether a resize behind this step would not be one crop and one resize.
bool ends_crops(const ImageStep& step) noexcept {
  return step.kind != Kind::kRandomCrop || step.pads_if_needed;
}

bool is_range(const std::array<double, 2>& range, double least) noexcept {
  return std::isfinite(range[0]) && std::isfinite(range[1]) && range[0] >= least && range[0] <= range[1];
}

void check_colors(const ImageStep& step) {
  for (std::size_t i = 0; i < kColors.size(); ++i) {
    const bool is_hue = kColors[i].kind == ColorChange::Kind::kHue;
    if (!is_range(step.colors[i], is_hue ? -0.5 : 0) || (is_hue && step.colors[i][1] > 0.5)) {
      throw argument("a change of colors goes from a least to a most, a hue's from -0.5 to 0.5");
    }
  }
}

void check(const ImageStep& step) {
  const bool is_sized = step.kind <= Kind::kRandomResizedCrop;
  const auto is_side = [](std::int64_t side) { return side >= 1 && side <= kLongestSide; };
  if (is_sized && !(is_side(step.size.width) && is_side(step.size.height))) {
    throw argument("a size is 1 pixel or more each way").found(text(step.size.width, step.size.height));
  }
  if (step.longest < 0 || (step.longest > 0 && step.longest <= step.size.width)) {
    throw argument("the longest side must be longer than the shorter one shall be");
  }
  const auto is_border = [](std::int32_t border) { return border >= 0 && border <= kLongestSide; };
  if (!std::ranges::all_of(step.padding, is_border)) throw argument("a border cannot be that wide");
  if (!is_range(step.scale, 0) || !is_range(step.ratio, 1e-6)) {
    throw argument("scale and ratio go from a least to a most");
  }
  if (!(step.probability >= 0 && step.probability <= 1)) throw argument("a probability is from 0 to 1");
  if (step.kind == Kind::kJitterColors) check_colors(step);
}

}  // namespace

Rect overlap(const Rect& a, const Rect& b) noexcept {
  const std::int32_t x = std::max(a.x, b.x);
  const std::int32_t y = std::max(a.y, b.y);
  return {x, y, std::max(std::min(a.x + a.width, b.x + b.width) - x, 0),
          std::max(std::min(a.y + a.height, b.y + b.height) - y, 0)};
}

ImageSteps::ImageSteps(std::vector<ImageStep> steps) : steps_(std::move(steps)) {
  bool may_resize = true;
  bool may_crop = true;
  for (const ImageStep& step : steps_) {
    check(step);
    if (resizes(step) && !may_resize) throw argument("these steps are not one crop and one resize");
    may_resize = may_resize && !ends_crops(step);
    if (step.kind <= Kind::kPad && !may_crop) throw argument("a change of colors comes before these steps");
    may_crop = may_crop && !changes_colors(step);
  }
}

std::optional<ImagePlan::Size> ImageSteps::size() const noexcept {
  std::optional<Size> size;
  for (const ImageStep& step : steps_) {
    if (step.kind == Kind::kResizeShorter) {
      size.reset();
    } else if (step.kind <= Kind::kRandomResizedCrop) {
      size = step.size;
    } else if (step.kind == Kind::kPad && size) {
      size = Size{size->width + step.padding[0] + step.padding[2],
                  size->height + step.padding[1] + step.padding[3]};
    }
  }
  return size;
}

bool ImageSteps::is_random() const noexcept {
  return std::ranges::any_of(steps_, [](const ImageStep& step) {
    const bool flips = step.kind >= Kind::kFlipHorizontally;
    return step.kind == Kind::kRandomCrop || step.kind == Kind::kRandomResizedCrop ||
           step.kind == Kind::kJitterColors || (flips && step.probability > 0 && step.probability < 1);
  });
}

SamplePlan ImageSteps::plan(Size image, const RandomSequence& random) const {
  Walk walk(image);
  for (std::size_t i = 0; i < steps_.size(); ++i) walk.take(steps_[i], Draws(random, i));
  return walk.plan();
}

}  // namespace penstock
