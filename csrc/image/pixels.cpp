#include "image/pixels.h"

#include <bit>
#include <cstring>

namespace penstock {
namespace {

constexpr std::int64_t kAlignment = 32;

/// Every row begins so far behind a multiple of kAlignment. Where a row is aligned, libjpeg-turbo's AVX2 code
/// writes it past the caches, which takes a quarter longer, and whoever reads it next waits for memory.
constexpr std::int64_t kOffset = 16;

constexpr std::int64_t rounded_up(std::int64_t value, std::int64_t unit) noexcept {
  return (value + unit - 1) / unit * unit;
}

/// Calls visit(pixel, packed pixel, bytes) for each pixel.
template <typename Packed, typename Visit>
void for_each_pixel(const PixelView& view, Packed* packed, Visit visit) noexcept {
  const std::size_t bytes =
      static_cast<std::size_t>(view.type.channels) * static_cast<std::size_t>(view.type.sample_bytes);
  for (std::int32_t y = 0; y < view.height; ++y) {
    std::uint8_t* pixel = view.row(y);
    for (std::int32_t x = 0; x < view.width; ++x, pixel += view.type.pixel_bytes(), packed += bytes) {
      visit(pixel, packed, bytes);
    }
  }
}

}  // namespace

std::string size_text(std::int64_t width, std::int64_t height) {
  return std::to_string(width) + " x " + std::to_string(height);
}

PixelView PixelBuffer::reset(std::int32_t width, std::int32_t height, PixelType type) {
  const std::int64_t row_bytes = rounded_up(std::int64_t{width} * type.pixel_bytes(), kAlignment);
  const std::int64_t needed = kAlignment + kOffset + row_bytes * height + kSlack;
  if (needed > capacity_) {
    data_.reset();
    capacity_ = 0;
    data_ = std::make_unique_for_overwrite<std::uint8_t[]>(static_cast<std::size_t>(needed));
    capacity_ = needed;
  }
  const auto address = static_cast<std::int64_t>(std::bit_cast<std::uintptr_t>(data_.get()));
  std::uint8_t* const first = data_.get() + (rounded_up(address, kAlignment) - address) + kOffset;
  return {first, width, height, type, row_bytes};
}

void PixelBuffer::shrink(std::int64_t bytes) noexcept {
  if (capacity_ <= bytes) return;
  data_.reset();
  capacity_ = 0;
}

void copy_from(const std::uint8_t* packed, const PixelView& out) noexcept {
  for_each_pixel(out, packed, [](std::uint8_t* pixel, const std::uint8_t* from, std::size_t bytes) {
    std::memcpy(pixel, from, bytes);
  });
}

void copy_to(const PixelView& in, std::uint8_t* packed) noexcept {
  for_each_pixel(in, packed, [](const std::uint8_t* pixel, std::uint8_t* to, std::size_t bytes) {
    std::memcpy(to, pixel, bytes);
  });
}

}  // namespace penstock
