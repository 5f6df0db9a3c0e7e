#include "assemble/source.h"

#include "base/checksum.h"

namespace penstock {

std::uint64_t fingerprint_of(std::span<const Field> fields) {
  std::string text;
  for (const Field& field : fields) {
    text += field.name + " " + std::string(dtype_name(field.dtype));
    for (const std::int64_t length : field.row_shape) text += " " + std::to_string(length);
    text += '\n';
  }
  return checksum(as_bytes(text));
}

}  // namespace penstock
