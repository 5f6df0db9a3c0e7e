#include "image/samples.h"

#include <cstring>

namespace penstock {
namespace {

bool is_packed(const SampleSteps& steps, std::int32_t channels) noexcept {
  return steps.channel == 1 && steps.pixel == channels;
}

void copy_line(const std::uint8_t* in, std::int64_t in_step, std::uint8_t* out, std::int64_t out_step,
               std::int32_t count) noexcept {
  if (in_step == 1 && out_step == 1) {
    std::memcpy(out, in, static_cast<std::size_t>(count));
    return;
  }
  for (std::int32_t x = 0; x < count; ++x) out[x * out_step] = in[x * in_step];
}

}  // namespace

SampleView samples_of(const PixelView& pixels) noexcept {
  const PixelType type = pixels.type;
  return {pixels.data,
          pixels.width,
          pixels.height,
          {type.pixel_bytes(), type.channels == 1 ? 0 : type.sample_bytes, pixels.row_bytes},
          true};
}

SampleSteps close_steps(std::int32_t width, std::int32_t height, std::int32_t channels,
                        const SampleSteps& like) noexcept {
  if (is_packed(like, channels)) return {channels, 1, std::int64_t{width} * channels};
  return {1, std::int64_t{width} * height, width};
}

void copy_samples(const SampleView& in, std::int32_t channels, std::uint8_t* out,
                  const SampleSteps& steps) noexcept {
  const bool is_one_copy = is_packed(in.steps, channels) && is_packed(steps, channels);
  for (std::int32_t y = 0; y < in.height; ++y) {
    if (is_one_copy) {
      copy_line(in.row(y), 1, out + y * steps.row, 1, in.width * channels);
      continue;
    }
    for (std::int32_t c = 0; c < channels; ++c) {
      copy_line(in.row(y) + c * in.steps.channel, in.steps.pixel, out + y * steps.row + c * steps.channel,
                steps.pixel, in.width);
    }
  }
}

}  // namespace penstock
