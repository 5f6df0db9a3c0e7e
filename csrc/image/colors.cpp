#include "image/colors.h"

#include <algorithm>
#include <cstring>

namespace penstock {
namespace {

/// a * b / 255, rounded.
std::uint8_t multiplied(std::uint32_t a, std::uint32_t b) noexcept {
  const std::uint32_t product = a * b + 128;
  return static_cast<std::uint8_t>(((product >> 8U) + product) >> 8U);
}

PixelView with_channels(PixelView pixels, std::int32_t channels) noexcept {
  pixels.type.channels = channels;
  return pixels;
}

}  // namespace

PixelView rgb_to_l(const PixelView& pixels) noexcept {
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    std::uint8_t* const row = pixels.row(y);
    for (std::int32_t x = 0; x < pixels.width; ++x) {
      const std::uint8_t* const pixel = row + std::ptrdiff_t{x} * 4;
      row[x] = static_cast<std::uint8_t>(luma<std::uint32_t>(pixel[0], pixel[1], pixel[2]));
    }
  }
  return with_channels(pixels, 1);
}

PixelView rgb16_to_l(const PixelView& pixels) noexcept {
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    std::uint8_t* const row = pixels.row(y);
    for (std::int32_t x = 0; x < pixels.width; ++x) {
      std::uint16_t pixel[4];
      std::memcpy(pixel, row + std::ptrdiff_t{x} * 8, sizeof pixel);
      const auto gray = static_cast<std::uint16_t>(luma<std::uint32_t>(pixel[0], pixel[1], pixel[2]));
      std::memcpy(row + std::ptrdiff_t{x} * 2, &gray, sizeof gray);
    }
  }
  return with_channels(pixels, 1);
}

PixelView cmyk_to_rgb(const PixelView& pixels) noexcept {
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    std::uint8_t* pixel = pixels.row(y);
    for (std::int32_t x = 0; x < pixels.width; ++x, pixel += 4) {
      const std::int32_t light = 255 - pixel[3];
      for (std::int32_t c = 0; c < 3; ++c) {
        const std::int32_t ink = multiplied(pixel[c], static_cast<std::uint32_t>(light));
        pixel[c] = static_cast<std::uint8_t>(light - ink);
      }
    }
  }
  return with_channels(pixels, 3);
}

void invert(const PixelView& pixels) noexcept {
  const std::int64_t width_bytes = std::int64_t{pixels.width} * pixels.type.pixel_bytes();
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    std::uint8_t* const row = pixels.row(y);
    for (std::int64_t x = 0; x < width_bytes; ++x) row[x] = static_cast<std::uint8_t>(255 - row[x]);
  }
}

void premultiply(const PixelView& pixels) noexcept {
  const std::int32_t colors = pixels.type.channels - 1;
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    std::uint8_t* pixel = pixels.row(y);
    for (std::int32_t x = 0; x < pixels.width; ++x, pixel += 4) {
      for (std::int32_t c = 0; c < colors; ++c) pixel[c] = multiplied(pixel[c], pixel[colors]);
    }
  }
}

void unpremultiply(const PixelView& pixels) noexcept {
  const std::int32_t colors = pixels.type.channels - 1;
  for (std::int32_t y = 0; y < pixels.height; ++y) {
    std::uint8_t* pixel = pixels.row(y);
    for (std::int32_t x = 0; x < pixels.width; ++x, pixel += 4) {
      const std::int32_t alpha = pixel[colors];
      if (alpha == 0 || alpha == 255) continue;
      for (std::int32_t c = 0; c < colors; ++c) {
        pixel[c] = static_cast<std::uint8_t>(std::min(255 * pixel[c] / alpha, 255));
      }
    }
  }
}

}  // namespace penstock
