#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.h"

namespace penstock {

/// One record of a zip archive, as its central directory describes it.
struct ZipEntry {
  std::string name;
  std::uint16_t method = 0;  ///< 0 stored, 8 deflated
  bool encrypted = false;    ///< or otherwise not to be read as it is
  std::uint32_t crc32 = 0;   ///< 0 with bytes > 0: not computed
  std::uint64_t compressed_bytes = 0;
  std::uint64_t bytes = 0;
  std::uint64_t header_offset = 0;  ///< of the local header
};

/// The records of an archive, in the order of its central directory. Names are unique and UTF-8.
struct ZipDirectory {
  std::vector<ZipEntry> entries;
  std::vector<std::uint32_t> by_name;  ///< entries, sorted by name: an archive can hold 100,000s
  std::uint64_t directory_offset = 0;  ///< where the central directory begins: no record reaches past it

  /// \returns the entry of that name, or nullptr. O(log entries).
  [[nodiscard]] const ZipEntry* find(std::string_view name) const noexcept;
};

/// Reads the central directory (zip64 too), and no byte of any record.
///
/// A comment or up to 64 other bytes may follow the archive; the tail of the file is scanned only then.
///
/// \throws Error kFormat when there is none, it lies outside the file, or it contradicts itself
[[nodiscard]] ZipDirectory parse_zip_directory(const ByteSource& file);

/// Where a record's bytes begin, from its local header, after checking that header against the
/// entry and that [header, data end) lies before the central directory. One read.
///
/// \throws Error kFormat naming the record
[[nodiscard]] std::uint64_t zip_data_offset(const ByteSource& file, const ZipDirectory& directory,
                                            const ZipEntry& entry);

/// A record and the place of its bytes in the file.
struct ZipRecord {
  const ZipEntry* entry = nullptr;
  std::uint64_t begin = 0;  ///< of its data, as zip_data_offset says
};

/// \throws Error kFormat, naming both, when two of the records share bytes
void refuse_overlaps(std::vector<ZipRecord> records);

}  // namespace penstock
