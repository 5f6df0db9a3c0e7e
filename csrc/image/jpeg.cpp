#include "image/jpeg.h"

#include "base/error.h"

#ifdef PENSTOCK_HAVE_JPEG

#include <setjmp.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>

#include <jpeglib.h>

#include <jerror.h>

#include "image/colors.h"
#include "image/exif.h"

#endif

namespace penstock {

bool looks_like_jpeg(Bytes bytes) noexcept { return as_text(bytes).starts_with("\xff\xd8\xff"); }

#ifdef PENSTOCK_HAVE_JPEG

namespace {

constexpr std::int32_t kMargin = 8;  ///< columns around a part: smooth upsampling looks one pixel further
constexpr int kMostScans = 500;      ///< real files have about ten; each costs a walk over the whole image
constexpr unsigned kMostMarker = 0xffff;

/// libjpeg's error manager and what we know of the image's errors. It must come first: libjpeg hands back a
/// pointer to it.
struct Trouble {
  jpeg_error_mgr manager{};
  jmp_buf escape{};  ///< where `guarded` waits
  std::int64_t num_warnings = 0;
  bool ends_early = false;
  std::array<char, JMSG_LENGTH_MAX> error{};
  std::array<char, JMSG_LENGTH_MAX> first_warning{};
};

Trouble& trouble_of(j_common_ptr jpeg) noexcept { return *reinterpret_cast<Trouble*>(jpeg->err); }

[[noreturn]] void escape(j_common_ptr jpeg) {
  // Over libjpeg's frames, as it asks for.
  ::longjmp(trouble_of(jpeg).escape, 1);  // NOLINT(cert-err52-cpp,modernize-avoid-setjmp-longjmp)
}

[[noreturn]] void on_error(j_common_ptr jpeg) {
  Trouble& trouble = trouble_of(jpeg);
  trouble.manager.format_message(jpeg, trouble.error.data());
  escape(jpeg);
}

void on_message(j_common_ptr jpeg, int level) {
  if (level >= 0) return;  // a trace
  Trouble& trouble = trouble_of(jpeg);
  if (trouble.num_warnings++ == 0) trouble.manager.format_message(jpeg, trouble.first_warning.data());
}

void on_output(j_common_ptr) {}

[[noreturn]] void end_early(j_decompress_ptr jpeg) {
  auto* const common = reinterpret_cast<j_common_ptr>(jpeg);
  trouble_of(common).ends_early = true;
  escape(common);
}

void on_source(j_decompress_ptr) {}

boolean on_no_more_bytes(j_decompress_ptr jpeg) { end_early(jpeg); }

void on_skip(j_decompress_ptr jpeg, long count) {
  if (count <= 0) return;
  jpeg_source_mgr& source = *jpeg->src;
  if (static_cast<std::size_t>(count) > source.bytes_in_buffer) end_early(jpeg);
  source.next_input_byte += count;
  source.bytes_in_buffer -= static_cast<std::size_t>(count);
}

void on_progress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number <= kMostScans) return;
  (void)std::snprintf(trouble_of(jpeg).error.data(), JMSG_LENGTH_MAX, "more than %d scans", kMostScans);
  escape(jpeg);
}

/// Destroyed also where the decoder's constructor throws.
struct Decompressor : jpeg_decompress_struct {
  Decompressor() : jpeg_decompress_struct{} {}
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
  ~Decompressor() { jpeg_destroy_decompress(this); }
};

class JpegDecoder final : public Decoder {
 public:
  JpegDecoder(Bytes bytes, const DecodeOptions& options) : options_(options) {
    begin(bytes);
    guarded([this] { jpeg_read_header(&jpeg_, TRUE); });
    require_supported();
    require_pixels(jpeg_.image_width, jpeg_.image_height, options.max_pixels);
    info_.format = ImageFormat::kJpeg;
    info_.width = static_cast<std::int32_t>(jpeg_.image_width);
    info_.height = static_cast<std::int32_t>(jpeg_.image_height);
    info_.type = type();
    if (options.read_orientation) info_.orientation = orientation();
  }

  [[nodiscard]] const ImageInfo& info() const noexcept override { return info_; }

  [[nodiscard]] DecodeReport decode(const Rect& part, std::int32_t shrink, std::int32_t strip_rows,
                                    PixelBuffer& buffer, const StripSink& sink) override {
    guarded([&] { start(shrink); });
    read(part, strip_rows, buffer, sink);
    look_for_missing_scans();
    guarded([this] { finish(); });
    return report();
  }

 private:
  void begin(Bytes bytes) {
    jpeg_.err = jpeg_std_error(&trouble_.manager);
    trouble_.manager.error_exit = &on_error;
    trouble_.manager.emit_message = &on_message;
    trouble_.manager.output_message = &on_output;
    guarded([this] { jpeg_create_decompress(&jpeg_); });
    source_.init_source = &on_source;
    source_.fill_input_buffer = &on_no_more_bytes;
    source_.skip_input_data = &on_skip;
    source_.resync_to_restart = &jpeg_resync_to_restart;
    source_.term_source = &on_source;
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
    source_.bytes_in_buffer = bytes.size();
    jpeg_.src = &source_;
    progress_.progress_monitor = &on_progress;
    jpeg_.progress = &progress_;
    if (options_.read_orientation) {
      guarded([this] { jpeg_save_markers(&jpeg_, JPEG_APP0 + 1, kMostMarker); });
    }
  }

  /// Calls libjpeg. What it finds wrong jumps back to here, over its own frames and `step`'s: a step has
  /// nothing to destroy.
  template <typename Step>
  void guarded(Step step) {
    // NOLINTNEXTLINE(cert-err52-cpp,modernize-avoid-setjmp-longjmp)
    if (setjmp(trouble_.escape) != 0) throw broken();
    step();
  }

  [[nodiscard]] Error broken() const {
    if (trouble_.ends_early) return format_error("the JPEG data ends early");
    Error error = format_error("this JPEG cannot be decoded");
    error.found(std::string("libjpeg's complaint: ") + trouble_.error.data());
    return error;
  }

  void require_supported() const {
    Error error = format_error("this kind of JPEG is not supported");
    if (jpeg_.data_precision != 8) {
      throw error.needed("8 bits a sample").found(std::to_string(jpeg_.data_precision));
    }
    if (jpeg_.arith_code != 0) throw error.needed("Huffman coding").found("arithmetic coding");
    if (jpeg_.num_components != 1 && jpeg_.num_components != 3 && jpeg_.num_components != 4) {
      throw error.needed("1, 3 or 4 components").found(std::to_string(jpeg_.num_components));
    }
    require_bits(jpeg_.data_precision, options_);
  }

  [[nodiscard]] PixelType type() const noexcept {
    if (options_.mode == ColorMode::kL || jpeg_.num_components == 1) return {1, 1};
    return {options_.mode == ColorMode::kRGB ? 3 : jpeg_.num_components, 1};
  }

  [[nodiscard]] std::int32_t orientation() const noexcept {
    constexpr std::string_view kExif("Exif\0\0", 6);
    for (jpeg_saved_marker_ptr marker = jpeg_.marker_list; marker != nullptr; marker = marker->next) {
      const Bytes data = std::as_bytes(std::span(marker->data, marker->data_length));
      if (as_text(data).starts_with(kExif)) return exif_orientation(data.subspan(kExif.size()));
    }
    return 1;
  }

  void start(std::int32_t shrink) {
    jpeg_.scale_num = 1;
    jpeg_.scale_denom = static_cast<unsigned>(shrink);
    jpeg_.out_color_space = JCS_EXT_RGBX;
    if (jpeg_.num_components == 1) jpeg_.out_color_space = JCS_GRAYSCALE;
    if (jpeg_.num_components == 4) jpeg_.out_color_space = JCS_CMYK;
    jpeg_start_decompress(&jpeg_);
  }

  /// libjpeg decodes a little to the left and right of a part too.
  void read(const Rect& part, std::int32_t strip_rows, PixelBuffer& buffer, const StripSink& sink) {
    const auto full_width = static_cast<std::int32_t>(jpeg_.output_width);
    const std::int32_t left = std::max(part.x - kMargin, 0);
    const std::int32_t right = std::min(part.x + part.width + kMargin, full_width);
    auto first = static_cast<JDIMENSION>(left);
    guarded([&] {
      auto width = static_cast<JDIMENSION>(right - left);
      if (right - left < full_width) jpeg_crop_scanline(&jpeg_, &first, &width);
      if (part.y > 0) jpeg_skip_scanlines(&jpeg_, static_cast<JDIMENSION>(part.y));
    });
    const std::int32_t x = part.x - static_cast<std::int32_t>(first);
    const auto width = static_cast<std::int32_t>(jpeg_.output_width);
    const PixelType stored{jpeg_.num_components, 1};
    const PixelView strip = buffer.reset(width, std::min(strip_rows, part.height), stored);
    for (std::int32_t y = 0; y < part.height; y += strip.height) {
      const std::int32_t rows = std::min(strip.height, part.height - y);
      guarded([&] { read_rows(strip.part({0, 0, width, rows})); });
      sink(converted(strip.part({x, 0, part.width, rows})));
    }
  }

  void read_rows(const PixelView& out) {
    constexpr std::int32_t kAtOnce = 16;
    JSAMPROW rows[kAtOnce];
    for (std::int32_t y = 0; y < out.height;) {
      const std::int32_t count = std::min(kAtOnce, out.height - y);
      for (std::int32_t i = 0; i < count; ++i) rows[i] = out.row(y + i);
      y += static_cast<std::int32_t>(jpeg_read_scanlines(&jpeg_, rows, static_cast<JDIMENSION>(count)));
    }
  }

  /// A progressive JPEG that was cut between two scans, and closed, is whole to libjpeg: only less sharp, or
  /// without color.
  void look_for_missing_scans() {
    if (jpeg_.progressive_mode == 0 || jpeg_.coef_bits == nullptr) return;
    for (int c = 0; c < jpeg_.num_components; ++c) {
      const std::span<const int> bits(
          jpeg_.coef_bits[c]);  // still missing of each coefficient; -1: not there
      const bool is_complete =
          bits[0] == 0 && std::none_of(bits.begin(), bits.end(), [](int missing) { return missing > 0; });
      if (is_complete) continue;
      if (trouble_.num_warnings++ == 0) {
        (void)std::snprintf(trouble_.first_warning.data(), JMSG_LENGTH_MAX, "component %d lacks scans", c);
      }
    }
  }

  void finish() {
    if (jpeg_.output_scanline == jpeg_.output_height) {
      jpeg_finish_decompress(&jpeg_);
    } else {
      jpeg_abort_decompress(&jpeg_);
    }
  }

  [[nodiscard]] PixelView converted(const PixelView& pixels) const noexcept {
    PixelView result = pixels;
    if (pixels.type.channels == 4) {
      invert(result);
      if (options_.mode != ColorMode::kUnchanged) result = cmyk_to_rgb(result);
    }
    if (options_.mode == ColorMode::kL && result.type.channels == 3) result = rgb_to_l(result);
    return result;
  }

  [[nodiscard]] DecodeReport report() const {
    if (options_.warnings == WarningPolicy::kIgnore || trouble_.num_warnings == 0) return {};
    DecodeReport report{trouble_.num_warnings, trouble_.first_warning.data()};
    if (options_.warnings == WarningPolicy::kCount) return report;
    throw format_error("the JPEG data is corrupt").found("libjpeg's warning: " + report.first_warning);
  }

  const DecodeOptions options_;
  ImageInfo info_;
  Trouble trouble_;
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  Decompressor jpeg_;  ///< refers to the three above
};

}  // namespace

std::string_view jpeg_library() { return "libjpeg-turbo " PENSTOCK_VALUE_TEXT(LIBJPEG_TURBO_VERSION); }

std::unique_ptr<Decoder> open_jpeg(Bytes bytes, const DecodeOptions& options) {
  return std::make_unique<JpegDecoder>(bytes, options);
}

#else

std::string_view jpeg_library() { return {}; }

std::unique_ptr<Decoder> open_jpeg(Bytes, const DecodeOptions&) {
  throw format_error("this build of penstock cannot decode JPEG")
      .hint("Install libjpeg-turbo's headers and build again.");
}

#endif

}  // namespace penstock
