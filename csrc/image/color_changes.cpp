#include "image/color_changes.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/vector_clones.h"
#include "image/colors.h"

// Compiled without contraction of products and sums: Pillow rounds both.

namespace penstock {
namespace {

constexpr std::int32_t kBlock = 64;  ///< pixels at a time

/// Pixels of a block, channel by channel.
struct Block {
  std::array<std::int32_t, kBlock> red;
  std::array<std::int32_t, kBlock> green;
  std::array<std::int32_t, kBlock> blue;
};

/// Pillow's ImagingBlend, inside and outside of 0 to 1.
std::uint8_t blended(std::int32_t from, std::int32_t to, float factor) noexcept {
  const float value = static_cast<float>(from) + factor * static_cast<float>(to - from);
  return static_cast<std::uint8_t>(static_cast<std::int32_t>(std::clamp(value, 0.0F, 255.0F)));
}

PENSTOCK_VECTOR_CLONES
void blend_samples(std::uint8_t* samples, std::int64_t count, std::int32_t from, float factor) noexcept {
  for (std::int64_t i = 0; i < count; ++i) samples[i] = blended(from, samples[i], factor);
}

PENSTOCK_VECTOR_CLONES
void blend_with_gray(std::uint8_t* pixel, std::int32_t count, float factor) noexcept {
  for (std::int32_t x = 0; x < count; ++x, pixel += 4) {
    const auto gray = luma<std::int32_t>(pixel[0], pixel[1], pixel[2]);
    for (int c = 0; c < 4; ++c) pixel[c] = blended(gray, pixel[c], factor);
  }
}

PENSTOCK_VECTOR_CLONES
std::int64_t sum_of_grays(const std::uint8_t* pixel, std::int32_t count) noexcept {
  std::int64_t sum = 0;
  for (std::int32_t x = 0; x < count; ++x, pixel += 4)
    sum += luma<std::int32_t>(pixel[0], pixel[1], pixel[2]);
  return sum;
}

PENSTOCK_VECTOR_CLONES
std::int64_t sum_of_samples(const std::uint8_t* samples, std::int32_t count) noexcept {
  std::int64_t sum = 0;
  for (std::int32_t x = 0; x < count; ++x) sum += samples[x];
  return sum;
}

/// As Python rounds int(value + 0.5), and C's round but for the double just below a half, which does not
/// occur here. \pre value >= 0
std::int32_t rounded(double value) noexcept {
  return static_cast<std::int32_t>(value + 0.5);  // NOLINT(bugprone-incorrect-roundings)
}

std::int32_t one_if(bool is) noexcept { return is ? 1 : 0; }

/// From RGB to HSV and back, the hue turned in between: Pillow's rgb2hsv and hsv2rgb with all their roundings
/// to float, without a branch.
PENSTOCK_VECTOR_CLONES
void turn_hues(Block& block, std::int32_t turn) noexcept {
  for (std::size_t i = 0; i < kBlock; ++i) {
    const std::int32_t red = block.red[i];
    const std::int32_t green = block.green[i];
    const std::int32_t blue = block.blue[i];
    const std::int32_t warm_most = std::max(red, green);
    const std::int32_t warm_least = std::min(red, green);
    const std::int32_t value = std::max(warm_most, blue);
    const std::int32_t spread = value - std::min(warm_least, blue);
    const auto divisor = static_cast<float>(std::max(spread, 1));
    const double from_red = static_cast<float>(value - red) / divisor;
    const double from_green = static_cast<float>(value - green) / divisor;
    const double from_blue = static_cast<float>(value - blue) / divisor;
    const double if_red = from_blue - from_green;
    const double if_green = 2.0 + from_red - from_blue;
    const double if_blue = 4.0 + from_green - from_red;
    const double if_not_red = green == value ? if_green : if_blue;
    const double sixths = red == value ? if_red : if_not_red;
    const double turns = static_cast<double>(static_cast<float>(sixths)) / 6.0 + 1.0;
    const double circle = turns - (turns >= 1.0 ? 1.0 : 0.0);
    const auto old_hue = static_cast<std::int32_t>(static_cast<double>(static_cast<float>(circle)) * 255.0);
    const float part = static_cast<float>(spread) / static_cast<float>(std::max(value, 1));
    const auto saturation = static_cast<std::int32_t>(static_cast<double>(part) * 255.0);

    const std::int32_t hue = (old_hue + turn) & 255;
    const double place = static_cast<double>(hue) * 6.0 / 255.0;
    const auto sector = static_cast<std::int32_t>(place);
    const auto rest = static_cast<float>(place - static_cast<double>(sector));
    const auto color = static_cast<float>(static_cast<double>(saturation) / 255.0);
    const auto light = static_cast<double>(value);
    const std::int32_t p = rounded(light * (1.0 - static_cast<double>(color)));
    const std::int32_t q = rounded(light * (1.0 - static_cast<double>(color * rest)));
    const std::int32_t t =
        rounded(light * (1.0 - static_cast<double>(color) * (1.0 - static_cast<double>(rest))));
    const std::int32_t at = sector - (sector >= 6 ? 6 : 0);
    block.red[i] = p + (value - p) * one_if((at == 0) | (at == 5)) + (q - p) * one_if(at == 1) +
                   (t - p) * one_if(at == 4);
    block.green[i] = p + (value - p) * one_if((at == 1) | (at == 2)) + (q - p) * one_if(at == 3) +
                     (t - p) * one_if(at == 0);
    block.blue[i] = p + (value - p) * one_if((at == 3) | (at == 4)) + (q - p) * one_if(at == 5) +
                    (t - p) * one_if(at == 2);
  }
}

void turn_hues_of_row(std::uint8_t* pixel, std::int32_t count, std::int32_t turn) noexcept {
  Block block{};
  for (std::int32_t begin = 0; begin < count; begin += kBlock, pixel += std::ptrdiff_t{4} * kBlock) {
    const auto size = static_cast<std::size_t>(std::min(kBlock, count - begin));
    for (std::size_t i = 0; i < size; ++i) {
      block.red[i] = pixel[4 * i];
      block.green[i] = pixel[4 * i + 1];
      block.blue[i] = pixel[4 * i + 2];
    }
    turn_hues(block, turn);
    for (std::size_t i = 0; i < size; ++i) {
      pixel[4 * i] = static_cast<std::uint8_t>(block.red[i]);
      pixel[4 * i + 1] = static_cast<std::uint8_t>(block.green[i]);
      pixel[4 * i + 2] = static_cast<std::uint8_t>(block.blue[i]);
    }
  }
}

/// The mean of the pixels' grays, rounded.
std::int32_t mean_gray(const PixelView& pixels) noexcept {
  std::int64_t sum = 0;
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    sum += pixels.type.channels == 1 ? sum_of_samples(pixels.row(y), pixels.width)
                                     : sum_of_grays(pixels.row(y), pixels.width);
  }
  const auto count = static_cast<double>(std::int64_t{pixels.width} * pixels.height);
  return rounded(static_cast<double>(sum) / count);
}

void blend_all(const PixelView& pixels, std::int32_t from, float factor) noexcept {
  const std::int64_t count = std::int64_t{pixels.width} * pixels.type.pixel_bytes();
  for (std::int32_t y = 0; y < pixels.height; ++y) blend_samples(pixels.row(y), count, from, factor);
}

/// Of 256 parts of the circle, cut off towards 0 as torchvision does.
std::int32_t turn_of(double factor) noexcept { return static_cast<std::int32_t>(factor * 255.0) & 255; }

void change(const PixelView& pixels, const ColorChange& change) noexcept {
  using Kind = ColorChange::Kind;
  constexpr double kLargest = 3e38;  // so that nothing times it is nothing
  const auto factor = static_cast<float>(std::clamp(change.factor, -kLargest, kLargest));
  if (change.kind == Kind::kBrightness) return blend_all(pixels, 0, factor);
  if (change.kind == Kind::kContrast) return blend_all(pixels, mean_gray(pixels), factor);
  if (pixels.type.channels == 1) return;
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    if (change.kind == Kind::kHue) {
      turn_hues_of_row(pixels.row(y), pixels.width, turn_of(change.factor));
    } else {
      blend_with_gray(pixels.row(y), pixels.width, change.kind == Kind::kGray ? 0.0F : factor);
    }
  }
}

}  // namespace

void change_colors(const PixelView& pixels, std::span<const ColorChange> changes) noexcept {
  for (const ColorChange& each : changes) change(pixels, each);
}

}  // namespace penstock
