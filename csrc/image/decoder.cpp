#include "image/decoder.h"

#include "base/error.h"

namespace penstock {

void require_pixels(std::int64_t width, std::int64_t height, std::int64_t max_pixels) {
  if (width <= max_pixels / height) return;
  throw format_error("this image is too large")
      .needed(std::to_string(max_pixels) + " pixels or fewer")
      .found(size_text(width, height))
      .hint("Raise max_pixels if you trust where the file comes from.");
}

std::uint64_t largest_file(std::int64_t max_pixels) noexcept {
  constexpr std::uint64_t kPixelBytes = 16;
  constexpr std::uint64_t kOtherBytes = std::uint64_t{64} << 20U;
  const auto pixels = static_cast<std::uint64_t>(max_pixels);
  return pixels < UINT64_MAX / (2 * kPixelBytes) ? pixels * kPixelBytes + kOtherBytes : UINT64_MAX;
}

void require_bits(std::int32_t bits, const DecodeOptions& options) {
  if (options.sample_bytes == 1 || bits == 16) return;
  throw format_error("this image does not have the samples that are asked for")
      .needed("16 bits a sample")
      .found(std::to_string(bits));
}

}  // namespace penstock
