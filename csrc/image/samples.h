#pragma once

#include <cstddef>
#include <cstdint>

#include "image/pixels.h"

namespace penstock {

/// How samples of an image lie: bytes from each to the next.
struct SampleSteps {
  std::int64_t pixel = 0;    ///< of a row
  std::int64_t channel = 0;  ///< of a pixel; 0: all are the same
  std::int64_t row = 0;

  [[nodiscard]] bool operator==(const SampleSteps&) const = default;
};

/// Samples of an image wherever they lie. Borrowed.
struct SampleView {
  const std::uint8_t* data = nullptr;
  std::int32_t width = 0;
  std::int32_t height = 0;
  SampleSteps steps;
  bool has_slack = false;  ///< behind the last pixel's samples so many bytes may be read as make a pixel

  [[nodiscard]] const std::uint8_t* row(std::int32_t y) const noexcept { return data + y * steps.row; }

  /// \pre is_inside(rect, width, height)
  [[nodiscard]] SampleView part(const Rect& rect) const noexcept {
    return {row(rect.y) + rect.x * steps.pixel, rect.width, rect.height, steps, has_slack};
  }
};

/// The same pixels; a gray one as any number of channels.
[[nodiscard]] SampleView samples_of(const PixelView& pixels) noexcept;

/// How samples lie that lie close: channels first where the steps of `like` do not say that they come last.
[[nodiscard]] SampleSteps close_steps(std::int32_t width, std::int32_t height, std::int32_t channels,
                                      const SampleSteps& like) noexcept;

/// Copies samples of 8 bits.
///
/// Owns nothing and allocates nothing: safe under the fault guard.
void copy_samples(const SampleView& in, std::int32_t channels, std::uint8_t* out,
                  const SampleSteps& steps) noexcept;

}  // namespace penstock
