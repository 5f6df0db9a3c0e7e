#include "image/png.h"

#include "base/error.h"

#ifdef PENSTOCK_HAVE_SPNG

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <vector>

#include <spng.h>

#include "image/colors.h"
#include "image/exif.h"

#endif

namespace penstock {

bool looks_like_png(Bytes bytes) noexcept { return as_text(bytes).starts_with("\x89PNG\r\n\x1a\n"); }

#ifdef PENSTOCK_HAVE_SPNG

namespace {

constexpr std::size_t kMostChunk = std::size_t{8}
                                   << 20U;  ///< bytes of text and profiles, inflated; all of them

struct FreeContext {
  void operator()(spng_ctx* context) const noexcept { spng_ctx_free(context); }
};

using Palette = std::array<std::array<std::uint8_t, 4>, 256>;

/// One row as the file has it: samples of 1 to 16 bits, the latter of the machine's byte order.
struct StoredRow {
  const std::uint8_t* bytes;
  std::int32_t bits;
  std::int32_t channels;

  [[nodiscard]] std::uint32_t sample(std::int32_t x, std::int32_t channel) const noexcept {
    const std::size_t at =
        static_cast<std::size_t>(x) * static_cast<std::size_t>(channels) + static_cast<std::size_t>(channel);
    if (bits == 8) return bytes[at];
    if (bits == 16) {
      std::uint16_t value = 0;
      std::memcpy(&value, bytes + at * 2, sizeof value);
      return value;
    }
    const std::size_t bit = at * static_cast<std::size_t>(bits);
    const std::size_t shift = 8 - static_cast<std::size_t>(bits) - bit % 8;
    return (bytes[bit / 8] >> shift) & ((1U << static_cast<unsigned>(bits)) - 1);
  }
};

template <int kStored, int kKept>
void put_pixels(const std::uint8_t* stored, std::int32_t count, std::uint8_t* pixel) noexcept {
  constexpr int kPixelBytes = kKept == 1 ? 1 : 4;
  for (std::int32_t x = 0; x < count; ++x, stored += kStored, pixel += kPixelBytes) {
    std::memcpy(pixel, stored, kKept);
  }
}

/// A row of 8 bits a sample. An alpha that is not wanted may stay behind its pixel.
void put_bytes(const std::uint8_t* row, std::int32_t channels, std::int32_t first, const PixelView& out,
               std::uint8_t* pixel) noexcept {
  const std::uint8_t* const stored = row + std::ptrdiff_t{first} * channels;
  switch (channels) {
    case 1: return put_pixels<1, 1>(stored, out.width, pixel);
    case 2:
      return out.type.channels == 1 ? put_pixels<2, 1>(stored, out.width, pixel)
                                    : put_pixels<2, 2>(stored, out.width, pixel);
    case 3: return put_pixels<3, 3>(stored, out.width, pixel);
    default: return put_pixels<4, 4>(stored, out.width, pixel);
  }
}

class PngDecoder final : public Decoder {
 public:
  PngDecoder(Bytes bytes, const DecodeOptions& options) : options_(options), context_(spng_ctx_new(0)) {
    if (context_ == nullptr) throw std::bad_alloc();
    check(spng_set_chunk_limits(context_.get(), kMostChunk, kMostChunk));
    check(spng_set_png_buffer(context_.get(), bytes.data(), bytes.size()));
    check(spng_get_ihdr(context_.get(), &header_));
    require_pixels(header_.width, header_.height, options.max_pixels);
    require_bits(header_.bit_depth, options);
    if (is_palette()) read_palette();
    info_.format = ImageFormat::kPng;
    info_.width = static_cast<std::int32_t>(header_.width);
    info_.height = static_cast<std::int32_t>(header_.height);
    info_.type = type();
    info_.has_alpha = info_.type.sample_bytes == 1 && info_.type.channels % 2 == 0;
    if (options.read_orientation) info_.orientation = orientation();
  }

  [[nodiscard]] const ImageInfo& info() const noexcept override { return info_; }

  [[nodiscard]] DecodeReport decode(const Rect& part, std::int32_t, std::int32_t strip_rows,
                                    PixelBuffer& buffer, const StripSink& sink) override {
    const PixelView strip = buffer.reset(part.width, std::min(strip_rows, part.height),
                                         {channels_decoded(), options_.sample_bytes});
    begin();
    for (std::int32_t y = 0; y < part.y; ++y) (void)next_row();
    for (std::int32_t y = 0; y < part.height; y += strip.height) {
      const std::int32_t rows = std::min(strip.height, part.height - y);
      for (std::int32_t i = 0; i < rows; ++i) put_row(next_row(), part.x, strip, i);
      sink(converted(strip.part({0, 0, part.width, rows})));
    }
    if (!is_interlaced() && row_ == info_.height) check(spng_decode_chunks(context_.get()));
    return {};
  }

 private:
  void check(int result) const {
    if (result == SPNG_OK) return;
    if (result == SPNG_EMEM) throw std::bad_alloc();
    if (result == SPNG_IO_EOF || result == SPNG_EOF) throw format_error("the PNG data ends early");
    Error error = format_error("this PNG cannot be decoded");
    error.found(std::string("libspng's complaint: ") + spng_strerror(result));
    throw error;
  }

  [[nodiscard]] bool is_palette() const noexcept { return header_.color_type == SPNG_COLOR_TYPE_INDEXED; }

  void read_palette() {
    spng_plte palette{};
    check(spng_get_plte(context_.get(), &palette));
    palette_.fill({0, 0, 0, 255});
    for (std::size_t i = 0; i < palette.n_entries; ++i) {
      palette_[i] = {palette.entries[i].red, palette.entries[i].green, palette.entries[i].blue, 255};
    }
    spng_trns transparency{};
    const int result = spng_get_trns(context_.get(), &transparency);
    if (result == SPNG_ECHUNKAVAIL) return;
    check(result);
    has_palette_alpha_ = true;
    for (std::size_t i = 0; i < transparency.n_type3_entries; ++i) {
      palette_[i][3] = transparency.type3_alpha[i];
    }
  }

  [[nodiscard]] std::int32_t orientation() const {
    spng_exif exif{};
    if (spng_get_exif(context_.get(), &exif) != SPNG_OK) return 1;
    return exif_orientation(std::as_bytes(std::span(exif.data, exif.length)));
  }

  /// What `put_row` writes, before `converted`.
  [[nodiscard]] std::int32_t channels_decoded() const noexcept {
    switch (header_.color_type) {
      case SPNG_COLOR_TYPE_GRAYSCALE: return 1;
      case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA: return options_.mode == ColorMode::kUnchanged ? 2 : 1;
      case SPNG_COLOR_TYPE_TRUECOLOR: return 3;
      case SPNG_COLOR_TYPE_TRUECOLOR_ALPHA: return options_.mode == ColorMode::kUnchanged ? 4 : 3;
      default: return options_.mode == ColorMode::kUnchanged && has_palette_alpha_ ? 4 : 3;
    }
  }

  [[nodiscard]] PixelType type() const noexcept {
    const std::int32_t channels = options_.mode == ColorMode::kL ? 1 : channels_decoded();
    return {channels, options_.sample_bytes};
  }

  [[nodiscard]] std::int32_t channels_stored() const noexcept {
    switch (header_.color_type) {
      case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA: return 2;
      case SPNG_COLOR_TYPE_TRUECOLOR: return 3;
      case SPNG_COLOR_TYPE_TRUECOLOR_ALPHA: return 4;
      default: return 1;
    }
  }

  [[nodiscard]] std::size_t stored_row_bytes() const noexcept {
    const std::size_t bits =
        std::size_t{header_.width} * static_cast<std::size_t>(channels_stored()) * header_.bit_depth;
    return (bits + 7) / 8;
  }

  [[nodiscard]] bool is_interlaced() const noexcept {
    return header_.interlace_method != SPNG_INTERLACE_NONE;
  }

  /// An interlaced image is decoded as a whole: its last row may begin it.
  void begin() {
    stored_.resize(stored_row_bytes() * (is_interlaced() ? header_.height : 1));
    const std::span<std::uint8_t> whole = is_interlaced() ? std::span(stored_) : std::span<std::uint8_t>();
    check(spng_decode_image(context_.get(), whole.data(), whole.size(), SPNG_FMT_PNG,
                            is_interlaced() ? 0 : SPNG_DECODE_PROGRESSIVE));
  }

  [[nodiscard]] StoredRow next_row() {
    const std::size_t row_bytes = stored_row_bytes();
    const auto y = static_cast<std::size_t>(row_++);
    if (is_interlaced()) return {stored_.data() + y * row_bytes, header_.bit_depth, channels_stored()};
    const int result = spng_decode_row(context_.get(), stored_.data(), row_bytes);
    if (result != SPNG_EOI) check(result);
    return {stored_.data(), header_.bit_depth, channels_stored()};
  }

  void put_row(const StoredRow& row, std::int32_t first, const PixelView& out, std::int32_t y) const {
    const std::int32_t end = first + out.width;
    std::uint8_t* pixel = out.row(y);
    if (is_palette()) {
      for (std::int32_t x = first; x < end; ++x, pixel += 4) {
        std::memcpy(pixel, palette_[row.sample(x, 0)].data(), 4);
      }
      return;
    }
    if (header_.bit_depth == 8) return put_bytes(row.bytes, row.channels, first, out, pixel);
    const std::int32_t pixel_bytes = out.type.pixel_bytes();
    for (std::int32_t x = first; x < end; ++x, pixel += pixel_bytes) {
      for (std::int32_t c = 0; c < out.type.channels; ++c) put_sample(row.sample(x, c), pixel, c);
    }
  }

  void put_sample(std::uint32_t sample, std::uint8_t* pixel, std::int32_t channel) const noexcept {
    if (options_.sample_bytes == 2) {
      const auto value = static_cast<std::uint16_t>(sample);
      std::memcpy(pixel + std::ptrdiff_t{channel} * 2, &value, sizeof value);
    } else {
      pixel[channel] = narrowed(sample);
    }
  }

  [[nodiscard]] std::uint8_t narrowed(std::uint32_t sample) const noexcept {
    if (header_.bit_depth == 8) return static_cast<std::uint8_t>(sample);
    if (header_.bit_depth < 8) {
      return static_cast<std::uint8_t>(sample * (255U / ((1U << header_.bit_depth) - 1)));
    }
    const bool is_gray = header_.color_type == SPNG_COLOR_TYPE_GRAYSCALE;
    return static_cast<std::uint8_t>(is_gray ? std::min(sample, 255U) : sample >> 8U);
  }

  [[nodiscard]] PixelView converted(const PixelView& pixels) const noexcept {
    if (options_.mode != ColorMode::kL || pixels.type.channels == 1) return pixels;
    return options_.sample_bytes == 1 ? rgb_to_l(pixels) : rgb16_to_l(pixels);
  }

  const DecodeOptions options_;
  ImageInfo info_;
  std::unique_ptr<spng_ctx, FreeContext> context_;
  spng_ihdr header_{};
  bool has_palette_alpha_ = false;
  Palette palette_{};
  std::vector<std::uint8_t> stored_;  ///< one row, or all of an interlaced image
  std::int32_t row_ = 0;              ///< the next one
};

#define PENSTOCK_SPNG_VERSION             \
  PENSTOCK_VALUE_TEXT(SPNG_VERSION_MAJOR) \
  "." PENSTOCK_VALUE_TEXT(SPNG_VERSION_MINOR) "." PENSTOCK_VALUE_TEXT(SPNG_VERSION_PATCH)

}  // namespace

std::string_view png_library() { return "libspng " PENSTOCK_SPNG_VERSION; }

std::unique_ptr<Decoder> open_png(Bytes bytes, const DecodeOptions& options) {
  return std::make_unique<PngDecoder>(bytes, options);
}

#else

std::string_view png_library() { return {}; }

std::unique_ptr<Decoder> open_png(Bytes, const DecodeOptions&) {
  throw format_error("this build of penstock cannot decode PNG")
      .hint("Install libspng's headers and build again.");
}

#endif

}  // namespace penstock
