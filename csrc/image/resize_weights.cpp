#include "image/resize_weights.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace penstock {
namespace {

double bilinear(double x) noexcept {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

/// Keys' cubic convolution with a = -0.5, in Pillow's order of operations.
double bicubic(double x) noexcept {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * kA;
  return 0.0;
}

double value_of(Filter filter, double x) noexcept {
  return filter == Filter::kBilinear ? bilinear(x) : bicubic(x);
}

double support_of(Filter filter) noexcept { return filter == Filter::kBilinear ? 1.0 : 2.0; }

std::int32_t to_fixed(double weight) noexcept {
  const double scaled = weight * (1U << AxisWeights::kPrecisionBits);
  return static_cast<std::int32_t>(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

/// Half up; below zero toward it, where Pillow takes zero anyway.
std::int32_t rounded(double x) noexcept {
  constexpr double kHalf = 0.5;
  return static_cast<std::int32_t>(x + kHalf);
}

/// The input is divided in single precision, as the box is.
double scale_of(const AxisPlan& plan) noexcept {
  return static_cast<double>(plan.box_end - plan.box_begin) / plan.out_size;
}

std::size_t stride_for(double support) noexcept {
  const auto most = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  return (most + AxisWeights::kGroup - 1) / AxisWeights::kGroup * AxisWeights::kGroup;
}

}  // namespace

AxisWeights::AxisWeights(const AxisPlan& plan)
    : plan_(plan),
      scale_(scale_of(plan)),
      filter_scale_(std::max(scale_, 1.0)),
      support_(support_of(plan.filter) * filter_scale_),
      stride_(stride_for(support_)) {
  const auto count = static_cast<std::size_t>(size());
  windows_.resize(count);
  exact_.resize(count * stride_);
  fixed_.resize(count * stride_);
  low_.resize(count * stride_);
  high_.resize(count * stride_);
  for (std::int32_t i = 0; i < size(); ++i) fill(i);
  needed_.first = windows_.front().first;  // both ends of the windows only ever grow
  const std::int32_t end = windows_.back().first + windows_.back().count;
  needed_.count = needed_.padded = end - needed_.first;
  std::int32_t most = 0;
  for (const Window& window : windows_) most = std::max(most, window.count);
  for (Window& window : windows_) window.padded = window.first + most <= end ? most : window.count;
  quads_ = WeightQuads(*this);
}

std::size_t AxisWeights::bytes() const noexcept {
  constexpr std::size_t kBytesPerWeight = sizeof(double) + sizeof(std::int32_t) + 2 * sizeof(std::int16_t);
  return windows_.size() * sizeof(Window) + exact_.size() * kBytesPerWeight + quads_.bytes();
}

void AxisWeights::fill(std::int32_t i) {
  const double center = plan_.box_begin + (plan_.out_begin + i + 0.5) * scale_;
  const double inverse = 1.0 / filter_scale_;
  const std::int32_t first = std::max(rounded(center - support_), 0);
  const std::int32_t end = std::min(rounded(center + support_), plan_.in_size);
  windows_[static_cast<std::size_t>(i)] = {first, end - first, 0};

  double sum = 0;
  double* const weights = exact_.data() + at(i);
  for (std::int32_t x = 0; x < end - first; ++x) {
    weights[x] = value_of(plan_.filter, (x + first - center + 0.5) * inverse);
    sum += weights[x];
  }
  for (std::int32_t x = 0; x < end - first; ++x) {
    if (sum != 0.0) weights[x] /= sum;
    const std::size_t here = at(i) + static_cast<std::size_t>(x);
    fixed_[here] = to_fixed(weights[x]);
    low_[here] = static_cast<std::int16_t>(fixed_[here] & ((1 << kLowBits) - 1));
    high_[here] = static_cast<std::int16_t>(fixed_[here] >> kLowBits);
  }
}

}  // namespace penstock
