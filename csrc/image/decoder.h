#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "image/pixels.h"

/// What a macro stands for, as a text: a library's version.
#define PENSTOCK_VALUE_TEXT(macro) PENSTOCK_TEXT_OF(macro)
#define PENSTOCK_TEXT_OF(value) #value

namespace penstock {

enum class ImageFormat : std::uint8_t { kJpeg, kPng, kOther };

/// What a decoded pixel shall be.
enum class ColorMode : std::uint8_t {
  kUnchanged,  ///< the file's channels: L, LA, RGB, RGBA, CMYK; a palette becomes RGB, or RGBA where it has
               ///< alpha
  kL,          ///< one channel: luma as Pillow computes it
  kRGB,        ///< three, or one where the file has no color: then all three are alike
};

/// What libjpeg warns of (corrupt data that it went on after).
enum class WarningPolicy : std::uint8_t { kCount, kError, kIgnore };

/// Pillow's MAX_IMAGE_PIXELS.
constexpr std::int64_t kDefaultMaxPixels = 89'478'485;

struct DecodeOptions {
  ColorMode mode = ColorMode::kRGB;
  std::int32_t sample_bytes = 1;  ///< 2: samples of 16 bits as they are, and a file without them is refused
  bool read_orientation = false;
  WarningPolicy warnings = WarningPolicy::kCount;
  std::int64_t max_pixels = kDefaultMaxPixels;

  [[nodiscard]] bool operator==(const DecodeOptions&) const = default;
};

struct ImageInfo {
  ImageFormat format = ImageFormat::kJpeg;
  std::int32_t width = 0;  ///< as stored, before any orientation
  std::int32_t height = 0;
  PixelType type;                ///< of what `decode` gives
  bool has_alpha = false;        ///< in the last of its channels
  std::int32_t orientation = 1;  ///< EXIF's, 1 to 8; 1 unless DecodeOptions::read_orientation
};

/// What libjpeg warned of.
struct DecodeReport {
  std::int64_t num_warnings = 0;
  std::string first_warning;
};

/// Takes the next rows of a part. It may change them; they are gone when it returns.
using StripSink = std::function<void(const PixelView& strip)>;

/// One encoded image, its header read. Borrows the bytes.
///
/// single-owner
class Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;

  [[nodiscard]] virtual const ImageInfo& info() const noexcept = 0;

  /// Decodes a part: the same pixels as the whole image has there. What lies behind its last row is not read
  /// and not checked.
  ///
  /// \param shrink      1, 2, 4 or 8: a JPEG is decoded at that fraction of its size, sides rounded up, and
  ///                    `part` is in the pixels of that
  /// \param strip_rows  `sink` gets so many rows at a time, from top to bottom; the last time maybe fewer
  /// \param buffer      where the strips lie; where one strip holds all, it stays until the buffer's next use
  /// \pre shrink is 1 unless a JPEG; part is inside; strip_rows >= 1; called once
  /// \throws Error kFormat when the data is broken or ends early
  [[nodiscard]] virtual DecodeReport decode(const Rect& part, std::int32_t shrink, std::int32_t strip_rows,
                                            PixelBuffer& buffer, const StripSink& sink) = 0;
};

/// Makes a decoder; nothing where it does not know the format. Called by any thread.
using ImageOpener = std::unique_ptr<Decoder> (*)(Bytes bytes, const DecodeOptions& options);

/// \throws Error kFormat when there are more pixels than that
void require_pixels(std::int64_t width, std::int64_t height, std::int64_t max_pixels);

/// Bytes that no file of one image with so many pixels has: 16 a pixel, which are four channels of 32 bits as
/// they are, and 64 MiB for color profiles, thumbnails and whatever else is in it.
[[nodiscard]] std::uint64_t largest_file(std::int64_t max_pixels) noexcept;

/// \throws Error kFormat where DecodeOptions::sample_bytes wants 16 bits and the file has another number
void require_bits(std::int32_t bits, const DecodeOptions& options);

}  // namespace penstock
