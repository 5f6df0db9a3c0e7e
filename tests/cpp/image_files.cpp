#include "image_files.h"

#if defined(PENSTOCK_HAVE_JPEG) && defined(PENSTOCK_HAVE_SPNG)

#include <cstdio>
#include <cstdlib>
#include <random>

#include <jpeglib.h>
#include <spng.h>

namespace penstock {
namespace {

std::vector<std::byte> taken(unsigned char* data, std::size_t size) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  std::vector<std::byte> file(bytes, bytes + size);
  std::free(data);
  return file;
}

}  // namespace

std::vector<std::uint8_t> rgb_picture(int width, int height) {
  std::mt19937 random(7);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(width * height * 3));
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<std::uint8_t>((i / 5 + random() % 40) % 256);
  }
  return pixels;
}

std::vector<std::byte> jpeg_file(int width, int height, JpegKind kind) {
  std::vector<std::uint8_t> pixels = rgb_picture(width, height);
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* data = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &data, &size);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg.comp_info[0].h_samp_factor = kind.horizontal;
  jpeg.comp_info[0].v_samp_factor = kind.vertical;
  if (kind.progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  for (int y = 0; y < height; ++y) {
    JSAMPROW row = pixels.data() + static_cast<std::size_t>(y * width * 3);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  return taken(data, size);
}

std::vector<std::byte> png_file(int width, int height) {
  const std::vector<std::uint8_t> pixels = rgb_picture(width, height);
  spng_ctx* const context = spng_ctx_new(SPNG_CTX_ENCODER);
  spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
  spng_ihdr header{};
  header.width = static_cast<std::uint32_t>(width);
  header.height = static_cast<std::uint32_t>(height);
  header.bit_depth = 8;
  header.color_type = SPNG_COLOR_TYPE_TRUECOLOR;
  spng_set_ihdr(context, &header);
  spng_encode_image(context, pixels.data(), pixels.size(), SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
  std::size_t size = 0;
  int problem = 0;
  void* const data = spng_get_png_buffer(context, &size, &problem);
  spng_ctx_free(context);
  return taken(static_cast<unsigned char*>(data), size);
}

}  // namespace penstock

#endif
