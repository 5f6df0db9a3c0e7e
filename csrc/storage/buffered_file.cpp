#include "storage/buffered_file.h"

#include <cstring>

#include "base/bytes.h"

namespace penstock {

BufferedFile::BufferedFile(const OpenFile& file)  // NOLINT(cppcoreguidelines-pro-type-member-init): large
    : file_(file) {
  if (file.size() > kSmall) return;
  buffered_ = static_cast<std::size_t>(file.size());
  file.read(0, std::span(bytes_).first(buffered_));
}

void BufferedFile::copy(std::uint64_t offset, std::span<std::byte> out) const {
  if (in_bounds(buffered_, offset, out.size())) {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  } else {
    file_.read(offset, out);
  }
}

}  // namespace penstock
