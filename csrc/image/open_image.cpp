#include "image/open_image.h"

#include <algorithm>
#include <atomic>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "image/jpeg.h"
#include "image/png.h"

namespace penstock {
namespace {

constexpr std::pair<std::string_view, std::string_view> kOthers[] = {
    {"GIF8", "GIF"},
    {"RIFF", "WebP or another RIFF file"},
    {"BM", "BMP"},
    {"II*", "TIFF"},
    {std::string_view("MM\0*", 4), "TIFF"},
    {"\xff\x0a", "JPEG XL"},
    {"\x76/1\x01", "OpenEXR"},
    {std::string_view("\0\0\0\x0cjP  ", 8), "JPEG 2000"},
};

std::atomic<bool> uses_libraries{true};

std::string described(Bytes bytes) {
  if (bytes.empty()) return "an empty file";
  const std::string_view text = as_text(bytes);
  for (const auto& [magic, name] : kOthers) {
    if (text.starts_with(magic)) return std::string(name);
  }
  return "bytes that begin with " + quoted_text(text.substr(0, std::min<std::size_t>(text.size(), 8)));
}

}  // namespace

std::unique_ptr<Decoder> open_image(Bytes bytes, const DecodeOptions& options, ImageOpener other) {
  const bool is_jpeg = looks_like_jpeg(bytes);
  const bool is_png = looks_like_png(bytes);
  const bool has_library = (is_jpeg && !jpeg_library().empty()) || (is_png && !png_library().empty());
  if (other != nullptr && !(has_library && uses_libraries.load(std::memory_order_relaxed))) {
    if (auto decoder = other(bytes, options)) return decoder;
  }
  if (is_jpeg) return open_jpeg(bytes, options);
  if (is_png) return open_png(bytes, options);
  throw format_error("this is not an image that can be decoded")
      .needed(other == nullptr ? "JPEG or PNG" : "JPEG or PNG, or another format that Pillow decodes")
      .found(described(bytes));
}

void use_image_libraries(bool uses) noexcept { uses_libraries.store(uses, std::memory_order_relaxed); }

}  // namespace penstock
