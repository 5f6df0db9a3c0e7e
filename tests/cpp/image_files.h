#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace penstock {

/// Noise over a slope: something for every code path of a JPEG.
std::vector<std::uint8_t> rgb_picture(int width, int height);

struct JpegKind {
  int horizontal = 2;  ///< sampling of the luma
  int vertical = 2;
  bool progressive = false;
};

/// Encoded by libjpeg and by libspng. \pre the build has them
std::vector<std::byte> jpeg_file(int width, int height, JpegKind kind);
std::vector<std::byte> png_file(int width, int height);

}  // namespace penstock
