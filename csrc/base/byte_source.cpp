#include "base/byte_source.h"

#include <cstring>
#include <string>

#include "base/error.h"

namespace penstock {
namespace {

void require_in_bounds(std::uint64_t total, std::uint64_t offset, std::uint64_t count) {
  if (in_bounds(total, offset, count)) return;
  throw format_error("the file is cut short")
      .at_offset(offset)
      .needed(std::to_string(count) + " bytes from offset " + std::to_string(offset))
      .found("a file of " + std::to_string(total) + " bytes");
}

}  // namespace

void ByteSource::read(std::uint64_t offset, std::span<std::byte> out) const {
  require_in_bounds(size(), offset, out.size());
  if (!out.empty()) copy(offset, out);
}

std::vector<std::byte> ByteSource::read(std::uint64_t offset, std::uint64_t count) const {
  require_in_bounds(size(), offset, count);
  std::vector<std::byte> bytes(count);
  if (count > 0) copy(offset, bytes);
  return bytes;
}

void MemorySource::copy(std::uint64_t offset, std::span<std::byte> out) const {
  std::memcpy(out.data(), bytes_.data() + offset, out.size());
}

}  // namespace penstock
