#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "image/decoder.h"
#include "image/finish.h"
#include "image/resize.h"

namespace penstock {

/// What happens to one image, in this order.
struct ImagePlan {
  std::optional<Rect> crop;  ///< of the upright image
  struct Size {
    std::int32_t width;
    std::int32_t height;

    [[nodiscard]] bool operator==(const Size&) const = default;
  };
  std::optional<Size> resize;
  std::optional<Rect> window;  ///< a crop of what the resize made
  bool flip_horizontally = false;
  bool flip_vertically = false;
};

enum class Exactness : std::uint8_t {
  kExact,  ///< Pillow's pixels
  kFast,   ///< a JPEG that is to become much smaller is decoded at 1/2, 1/4 or 1/8, as Pillow's `draft` does
};

/// What happens to every image.
struct ImageOptions {
  DecodeOptions decode;
  Exactness exactness = Exactness::kExact;
  Filter filter = Filter::kBilinear;
  PillowRule rule = PillowRule::kPillow13;
  ImageOpener other = nullptr;  ///< for what the core does not decode itself

  [[nodiscard]] bool operator==(const ImageOptions&) const = default;
};

/// Memory for one thread's images. single-owner
struct ImageScratch {
  PixelBuffer stored;  ///< as decoded
  PixelBuffer upright;
  PixelBuffer resized;
  ResizeScratch resize;
};

/// The calling thread's.
[[nodiscard]] ImageScratch& thread_image_scratch();

/// Pixels ready to be finished, in a scratch.
struct PreparedImage {
  PixelView pixels;
  DecodeReport report;
};

/// The bytes of an image file to a sample of a batch: decode, crop, resize, flip, cast, normalise, lay out.
///
/// Only what the result needs is decoded and resized; the pixels are those of doing it all with Pillow.
///
/// thread-compatible; immutable
class ImagePipeline {
 public:
  /// \throws Error kArgument when `finish` contradicts itself, or the sample_bytes of `options`
  ImagePipeline(const ImageOptions& options, FinishPlan finish);

  [[nodiscard]] const ImageOptions& options() const noexcept { return options_; }
  [[nodiscard]] const Finisher& finisher() const noexcept { return finisher_; }

  /// Reads a header, so that a crop can be chosen. Borrows the bytes.
  ///
  /// \throws Error kFormat as open_image
  [[nodiscard]] std::unique_ptr<Decoder> open(Bytes bytes) const;

  /// Everything but the last step.
  ///
  /// \throws Error kFormat when the data is broken, kArgument when the plan does not fit the image
  [[nodiscard]] PreparedImage prepare(Decoder& image, const ImagePlan& plan, ImageScratch& scratch) const;

  /// The last step.
  ///
  /// \pre the image's rows and channels lie in memory that may be written
  /// \throws Error kSchema unless its channels are those that the finisher has (or one)
  void finish(const PreparedImage& image, const ImagePlan& plan, const FinishTarget& out) const;

  /// The same without gaps.
  ///
  /// \throws Error kSchema unless `out` has the bytes that the image needs, and its channels are those that
  /// the finisher has (or one)
  void finish(const PreparedImage& image, const ImagePlan& plan, std::span<std::byte> out) const;

 private:
  ImageOptions options_;
  Finisher finisher_;
};

/// Width and height of the upright image.
[[nodiscard]] ImagePlan::Size upright_size(const ImageInfo& info) noexcept;

}  // namespace penstock
