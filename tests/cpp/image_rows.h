#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "assemble/source.h"
#include "index/file_index.h"

namespace penstock::testing {

/// The rows of a source of one field, byte for byte.
inline std::vector<std::uint8_t> gathered(Source& source, const std::vector<std::int64_t>& rows) {
  const auto bytes = static_cast<std::size_t>(source.fields().front().row_bytes);
  std::vector<std::uint8_t> out(rows.size() * bytes);
  std::byte* const at = reinterpret_cast<std::byte*>(out.data());
  source.gather(rows, {&at, 1});
  return out;
}

/// Of an index of so many images in a folder, whose names are still to be added.
inline FileIndex::Parts image_index_parts(const std::string& folder, std::int64_t files) {
  FileIndex::Parts parts;
  parts.root = folder;
  parts.fields = {{"image", DType::kUInt8, {0}, 0}};
  parts.stamps.resize(static_cast<std::size_t>(files));
  parts.offsets.resize(static_cast<std::size_t>(files), FileIndex::kElsewhere);
  return parts;
}

}  // namespace penstock::testing
