#include "image/open_image.h"

#include <algorithm>
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

std::string described(Bytes bytes) {
  if (bytes.empty()) return "an empty file";
  const std::string_view text = as_text(bytes);
  for (const auto& [magic, name] : kOthers) {
    if (text.starts_with(magic)) return std::string(name);
  }
  return "bytes that begin with " + quoted_text(text.substr(0, std::min<std::size_t>(text.size(), 8)));
}

}  // namespace

std::unique_ptr<Decoder> open_image(Bytes bytes, const DecodeOptions& options) {
  if (looks_like_jpeg(bytes)) return open_jpeg(bytes, options);
  if (looks_like_png(bytes)) return open_png(bytes, options);
  throw format_error("this is not an image that can be decoded")
      .needed("JPEG or PNG")
      .found(described(bytes));
}

}  // namespace penstock
