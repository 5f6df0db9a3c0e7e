#include "image/orient.h"

#include <cstddef>
#include <cstring>
#include <utility>

namespace penstock {
namespace {

// Orientations, by where the stored image's first row and column are to be seen:
// 2 mirrored, 3 turned by half, 4 flipped; 5 transposed, 6 turned right, 7 transposed and turned by half,
// 8 turned left. Undone: exchange the sides if need be, then mirror what is to be mirrored.

/// Whether upright columns run against the stored ones that they come from.
bool runs_backwards_across(std::int32_t orientation) noexcept {
  return orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
}

bool runs_backwards_down(std::int32_t orientation) noexcept {
  return orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
}

}  // namespace

Rect stored_part(const Rect& upright, std::int32_t orientation, std::int32_t width,
                 std::int32_t height) noexcept {
  Rect part = upright;
  const std::int32_t upright_width = swaps_sides(orientation) ? height : width;
  const std::int32_t upright_height = swaps_sides(orientation) ? width : height;
  if (runs_backwards_across(orientation)) part.x = upright_width - part.x - part.width;
  if (runs_backwards_down(orientation)) part.y = upright_height - part.y - part.height;
  if (swaps_sides(orientation)) {
    std::swap(part.x, part.y);
    std::swap(part.width, part.height);
  }
  return part;
}

PixelView upright(const PixelView& in, std::int32_t orientation, PixelBuffer& out) {
  if (orientation == 1) return in;
  const bool swaps = swaps_sides(orientation);
  const auto bytes = static_cast<std::size_t>(in.type.pixel_bytes());
  const PixelView turned =
      swaps ? out.reset(in.height, in.width, in.type) : out.reset(in.width, in.height, in.type);
  for (std::int32_t y = 0; y < turned.height; ++y) {
    const std::int32_t from_y = runs_backwards_down(orientation) ? turned.height - 1 - y : y;
    std::uint8_t* target = turned.row(y);
    for (std::int32_t x = 0; x < turned.width; ++x, target += bytes) {
      const std::int32_t from_x = runs_backwards_across(orientation) ? turned.width - 1 - x : x;
      const std::uint8_t* const row = swaps ? in.row(from_x) : in.row(from_y);
      std::memcpy(target, row + static_cast<std::size_t>(swaps ? from_y : from_x) * bytes, bytes);
    }
  }
  return turned;
}

}  // namespace penstock
