#include "image/exif.h"

#include <cstddef>
#include <string_view>

namespace penstock {
namespace {

/// Numbers of either byte order; 0 where they are not all there.
class TiffBytes {
 public:
  explicit TiffBytes(Bytes bytes) : bytes_(bytes), is_big_(as_text(bytes).starts_with("MM")) {}

  [[nodiscard]] std::uint32_t at(std::uint64_t offset, std::uint64_t size) const noexcept {
    if (!in_bounds(bytes_.size(), offset, size)) return 0;
    std::uint32_t value = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      const std::uint64_t byte = offset + (is_big_ ? i : size - 1 - i);
      value = value << 8U | std::to_integer<std::uint32_t>(bytes_[byte]);
    }
    return value;
  }

 private:
  Bytes bytes_;
  bool is_big_;
};

}  // namespace

std::int32_t exif_orientation(Bytes tiff) noexcept {
  constexpr std::uint32_t kOrientation = 0x0112;
  constexpr std::uint32_t kShort = 3;
  constexpr std::uint64_t kEntryBytes = 12;
  const std::string_view text = as_text(tiff);
  if (!text.starts_with("II") && !text.starts_with("MM")) return 1;
  const TiffBytes bytes(tiff);
  const std::uint64_t directory = bytes.at(4, 4);
  const std::uint64_t count = bytes.at(directory, 2);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t entry = directory + 2 + i * kEntryBytes;
    if (bytes.at(entry, 2) != kOrientation || bytes.at(entry + 2, 2) != kShort) continue;
    const std::uint32_t value = bytes.at(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<std::int32_t>(value) : 1;
  }
  return 1;
}

}  // namespace penstock
