#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace penstock {

/// A rectangle of pixels: half-open, [x, x + width) by [y, y + height).
struct Rect {
  std::int32_t x = 0;
  std::int32_t y = 0;
  std::int32_t width = 0;
  std::int32_t height = 0;

  [[nodiscard]] bool operator==(const Rect&) const = default;
};

/// Whether `part` is not empty and lies in an image of that size. Cannot overflow.
[[nodiscard]] constexpr bool is_inside(const Rect& part, std::int32_t width, std::int32_t height) noexcept {
  return part.x >= 0 && part.y >= 0 && part.width > 0 && part.height > 0 && part.width <= width &&
         part.height <= height && part.x <= width - part.width && part.y <= height - part.height;
}

/// "224 x 224".
[[nodiscard]] std::string size_text(std::int64_t width, std::int64_t height);

/// What a pixel is.
struct PixelType {
  std::int32_t channels = 1;      ///< 1 to 4
  std::int32_t sample_bytes = 1;  ///< 1 or 2, of the machine's byte order

  /// Samples from one pixel to the next: 2 and 3 channels lie in 4, so that a pixel is one load.
  [[nodiscard]] std::int32_t lanes() const noexcept { return channels == 1 ? 1 : 4; }
  [[nodiscard]] std::int32_t pixel_bytes() const noexcept { return lanes() * sample_bytes; }
  [[nodiscard]] bool operator==(const PixelType&) const = default;
};

/// Rows of pixels in a PixelBuffer. Borrowed: lives until the buffer's next `reset`.
struct PixelView {
  std::uint8_t* data = nullptr;
  std::int32_t width = 0;
  std::int32_t height = 0;
  PixelType type;
  std::int64_t row_bytes = 0;  ///< from one row to the next

  [[nodiscard]] std::uint8_t* row(std::int32_t y) const noexcept { return data + y * row_bytes; }

  /// \pre is_inside(rect, width, height)
  [[nodiscard]] PixelView part(const Rect& rect) const noexcept {
    return {row(rect.y) + std::ptrdiff_t{rect.x} * type.pixel_bytes(), rect.width, rect.height, type,
            row_bytes};
  }
};

/// Memory for pixels that is used again for one image after the other.
///
/// Behind the last row there are `kSlack` bytes that may be read and written: a kernel need not stop in the
/// middle of a vector.
///
/// single-owner
class PixelBuffer {
 public:
  static constexpr std::int64_t kSlack = 64;

  /// Room for so many pixels. What was in the buffer is gone, and so are its views.
  ///
  /// \throws std::bad_alloc
  [[nodiscard]] PixelView reset(std::int32_t width, std::int32_t height, PixelType type);

  /// Gives the memory back if it is more than that.
  void shrink(std::int64_t bytes) noexcept;

 private:
  std::unique_ptr<std::uint8_t[]> data_;
  std::int64_t capacity_ = 0;
};

/// From and to samples without gaps: (height, width, channels), of the view's size and type.
void copy_from(const std::uint8_t* packed, const PixelView& out) noexcept;
void copy_to(const PixelView& in, std::uint8_t* packed) noexcept;

}  // namespace penstock
