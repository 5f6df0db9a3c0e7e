#include "image/resize_quads.h"

#include <algorithm>

#include "image/resize_weights.h"

namespace penstock {

WeightQuads::WeightQuads(const AxisWeights& weights) {
  std::int32_t most = 0;
  for (std::int32_t i = 0; i < weights.size(); ++i) most = std::max(most, weights.window(i).count);
  if (most > kMost * kSize) return;
  per_window_ = (most + kSize - 1) / kSize;
  are_dense_ = true;
  const std::int32_t num_pairs = (weights.size() + 3) / 4 * 2;
  const auto count = static_cast<std::size_t>(num_pairs);
  firsts_.resize(count * static_cast<std::size_t>(per_window_));
  digits_.resize(firsts_.size() * kDigits * kPairBytes);
  offsets_.resize(count * kPairBytes);
  for (std::int32_t i = 0; i < weights.size(); ++i) split(weights, i);
  for (std::int32_t pair = 0; pair < num_pairs; ++pair) find_places(weights, pair);
}

void WeightQuads::split(const AxisWeights& weights, std::int32_t i) {
  const std::int32_t count = weights.window(i).count;
  const std::int32_t* const fixed = weights.fixed(i);
  std::int8_t* const quads = digits_.data() + place(i);
  for (std::int32_t j = 0; j < count; ++j) {
    std::int8_t* to = quads + std::ptrdiff_t{j / kSize} * kDigits * kPairBytes + j % kSize;
    std::int32_t rest = fixed[j];
    for (std::int32_t digit = 0; digit < kDigits; ++digit, to += kPairBytes) {
      *to = static_cast<std::int8_t>(rest);
      rest = (rest - *to) >> 8;
    }
  }
}

void WeightQuads::find_places(const AxisWeights& weights, std::int32_t pair) {
  constexpr std::int32_t kPixels = 8;  // in 32 bytes
  const std::int32_t end = weights.size() - 1;
  const std::int32_t first = weights.window(std::min(2 * pair, end)).first;
  const std::int32_t second = weights.window(std::min(2 * pair + 1, end)).first;
  const std::int32_t last = weights.needed().first + weights.needed().count - 1;
  std::int32_t* const firsts = firsts_.data() + std::ptrdiff_t{pair} * per_window_;
  for (std::int32_t quad = 0; quad < per_window_; ++quad) firsts[quad] = std::min(first + quad * kSize, last);
  are_dense_ = are_dense_ && second - first + kSize <= kPixels;
  std::fill_n(offsets_.begin() + std::ptrdiff_t{pair} * kPairBytes + kSize, kSize,
              static_cast<std::uint8_t>(4 * (second - first)));
}

}  // namespace penstock
