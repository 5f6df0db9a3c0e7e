#include "formats/zip.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace penstock {
namespace {

constexpr std::uint32_t kLocalSignature = 0x04034b50;
constexpr std::uint32_t kEntrySignature = 0x02014b50;
constexpr std::uint32_t kEndSignature = 0x06054b50;
constexpr std::uint32_t kEnd64Signature = 0x06064b50;
constexpr std::uint32_t kLocatorSignature = 0x07064b50;

constexpr std::size_t kLocalBytes = 30;
constexpr std::size_t kEntryBytes = 46;
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56;
constexpr std::size_t kLocatorBytes = 20;

constexpr std::size_t kMaxCommentBytes = 65535;
constexpr std::size_t kMaxJunkBytes = 64;  // what torch's own reader lets follow an archive
constexpr std::uint64_t kMaxDirectoryBytes = std::uint64_t{1} << 30;

constexpr std::uint64_t kWide16 = 0xFFFF;      // "see the zip64 record"
constexpr std::uint64_t kWide32 = 0xFFFFFFFF;  // "see the zip64 field"
constexpr std::uint16_t kZip64Id = 0x0001;
constexpr std::uint16_t kUnreadableFlags = 0x0061;  // encrypted (two kinds), or patch data

std::string count_text(std::uint64_t count, const char* what) { return std::to_string(count) + " " + what; }

/// What the end of the archive says of its central directory.
struct Trailer {
  std::uint64_t begin = 0;  ///< of the first trailing record: the directory ends before it
  std::uint64_t entries = 0;
  std::uint64_t directory_bytes = 0;
  std::uint64_t directory_offset = 0;
};

bool has_end_signature(Bytes tail, std::size_t at) noexcept {
  return load_le<std::uint32_t>(tail, at) == kEndSignature;
}

bool ends_there(Bytes tail, std::size_t at) noexcept {
  const std::size_t comment = load_le<std::uint16_t>(tail, at + 20);
  const std::size_t rest = tail.size() - at - kEndBytes;
  return comment <= rest && rest - comment <= kMaxJunkBytes;
}

/// The last `most` bytes of the file, or all of it.
std::vector<std::byte> read_tail(const ByteSource& file, std::uint64_t most) {
  const std::uint64_t count = std::min(file.size(), most);
  return file.read(file.size() - count, count);
}

/// The last record that looks like one counts, or none: an earlier one could be read by some and not by
/// others.
std::optional<std::uint64_t> last_end_record(Bytes tail) noexcept {
  for (std::size_t begin = tail.size(); begin >= kEndBytes; --begin) {
    const std::size_t at = begin - kEndBytes;
    if (has_end_signature(tail, at))
      return ends_there(tail, at) ? std::optional<std::uint64_t>(at) : std::nullopt;
  }
  return std::nullopt;
}

std::uint64_t find_end_record(const ByteSource& file) {
  for (const std::size_t most : {kEndBytes, kEndBytes + kMaxCommentBytes + kMaxJunkBytes}) {
    const auto tail = read_tail(file, most);
    if (const auto at = last_end_record(tail)) return file.size() - tail.size() + *at;
  }
  throw format_error("the archive has no end: it is cut short, or no zip archive")
      .needed("the end-of-directory record of a zip archive")
      .found("none in the last bytes of a file of " + count_text(file.size(), "bytes"));
}

void refuse_disks(bool several) {
  if (several) throw format_error("the archive is one part of a zip archive split over several files");
}

/// The value of a trailer field that stands in a narrow and in a wide record.
std::uint64_t agreed(std::uint64_t narrow, std::uint64_t not_here, std::uint64_t wide) {
  if (narrow != not_here && narrow != wide) {
    throw format_error("the two end records of the archive contradict each other")
        .needed(std::to_string(narrow) + ", as the last record says")
        .found(std::to_string(wide) + " in the zip64 record");
  }
  return wide;
}

void widen(Trailer& trailer, const ByteSource& file, Bytes locator) {
  const auto at = load_le<std::uint64_t>(locator, 8);
  refuse_disks(load_le<std::uint32_t>(locator, 4) != 0 || load_le<std::uint32_t>(locator, 16) > 1);
  if (!in_bounds(trailer.begin - kLocatorBytes, at, kEnd64Bytes)) {
    throw format_error("the zip64 end record lies outside the archive").at_offset(at);
  }
  const auto end = file.read(at, kEnd64Bytes);
  if (load_le<std::uint32_t>(end, 0) != kEnd64Signature) {
    throw format_error("there is no zip64 end record where the archive says").at_offset(at);
  }
  const auto entries = load_le<std::uint64_t>(end, 32);
  refuse_disks(load_le<std::uint32_t>(end, 16) != 0 || load_le<std::uint32_t>(end, 20) != 0 ||
               load_le<std::uint64_t>(end, 24) != entries);
  trailer.begin = at;
  trailer.entries = agreed(trailer.entries, kWide16, entries);
  trailer.directory_bytes = agreed(trailer.directory_bytes, kWide32, load_le<std::uint64_t>(end, 40));
  trailer.directory_offset = agreed(trailer.directory_offset, kWide32, load_le<std::uint64_t>(end, 48));
}

void widen_if_zip64(Trailer& trailer, const ByteSource& file) {
  if (trailer.begin < kLocatorBytes) return;
  const auto locator = file.read(trailer.begin - kLocatorBytes, kLocatorBytes);
  if (load_le<std::uint32_t>(locator, 0) == kLocatorSignature) widen(trailer, file, locator);
}

void check_directory_place(const Trailer& trailer) {
  if (!in_bounds(trailer.begin, trailer.directory_offset, trailer.directory_bytes)) {
    throw format_error("the central directory does not lie inside the archive")
        .at_offset(trailer.directory_offset)
        .needed(count_text(trailer.directory_bytes, "bytes from there"))
        .found("an archive that ends at " + std::to_string(trailer.begin));
  }
  if (trailer.directory_offset + trailer.directory_bytes != trailer.begin) {
    throw format_error("bytes stand between the central directory and the end of the archive")
        .at_offset(trailer.directory_offset + trailer.directory_bytes)
        .needed("an end record there")
        .found("one at " + std::to_string(trailer.begin));
  }
  if (trailer.directory_bytes > kMaxDirectoryBytes) {
    throw format_error("the central directory is too large")
        .needed("at most " + count_text(kMaxDirectoryBytes, "bytes"))
        .found(count_text(trailer.directory_bytes, "bytes"));
  }
  if (trailer.entries > trailer.directory_bytes / kEntryBytes) {
    throw format_error("the central directory is too small for its number of records")
        .needed("at least " + std::to_string(kEntryBytes) + " bytes for each of " +
                count_text(trailer.entries, "records"))
        .found(count_text(trailer.directory_bytes, "bytes"));
  }
}

Trailer read_trailer(const ByteSource& file) {
  const std::uint64_t at = find_end_record(file);
  const auto end = file.read(at, kEndBytes);
  const auto disk_entries = load_le<std::uint16_t>(end, 8);
  Trailer trailer = {at, load_le<std::uint16_t>(end, 10), load_le<std::uint32_t>(end, 12),
                     load_le<std::uint32_t>(end, 16)};
  const auto elsewhere = [&](std::size_t field) {
    const auto disk = load_le<std::uint16_t>(end, field);
    return disk != 0 && disk != kWide16;
  };
  refuse_disks(elsewhere(4) || elsewhere(6) || disk_entries != trailer.entries);
  widen_if_zip64(trailer, file);
  check_directory_place(trailer);
  return trailer;
}

/// The zip64 block among a record's extra fields; empty when there is none.
Bytes zip64_block(Bytes extra) noexcept {
  while (extra.size() >= 4) {
    const auto id = load_le<std::uint16_t>(extra, 0);
    const std::size_t size = load_le<std::uint16_t>(extra, 2);
    if (!in_bounds(extra.size(), 4, size)) break;
    if (id == kZip64Id) return extra.subspan(4, size);
    extra = extra.subspan(4 + size);
  }
  return {};
}

void widen(ZipEntry& entry, Bytes extra) {
  Bytes block = zip64_block(extra);
  for (std::uint64_t* const field : {&entry.bytes, &entry.compressed_bytes, &entry.header_offset}) {
    if (*field != kWide32) continue;
    if (block.size() < sizeof(std::uint64_t)) {
      throw format_error("the record " + entry.name + " lacks its zip64 sizes");
    }
    *field = load_le<std::uint64_t>(block, 0);
    block = block.subspan(sizeof(std::uint64_t));
  }
}

void check_name(std::string_view name) {
  if (is_utf8(name) && name.find('\0') == std::string_view::npos) return;
  throw format_error("the archive has a record whose name is no UTF-8 text");
}

Error directory_cut_short() { return format_error("the central directory is cut short"); }

/// The entry at the start of `directory`, which is moved past it.
ZipEntry take_entry(Bytes& directory) {
  if (directory.size() < kEntryBytes) throw directory_cut_short();
  if (load_le<std::uint32_t>(directory, 0) != kEntrySignature) {
    throw format_error("the central directory has something else where a record should be");
  }
  const std::size_t name_bytes = load_le<std::uint16_t>(directory, 28);
  const std::size_t extra_bytes = load_le<std::uint16_t>(directory, 30);
  const std::size_t total = kEntryBytes + name_bytes + extra_bytes + load_le<std::uint16_t>(directory, 32);
  if (total > directory.size()) throw directory_cut_short();
  refuse_disks(load_le<std::uint16_t>(directory, 34) != 0);

  ZipEntry entry;
  entry.name = as_text(directory.subspan(kEntryBytes, name_bytes));
  check_name(entry.name);
  entry.encrypted = (load_le<std::uint16_t>(directory, 8) & kUnreadableFlags) != 0;
  entry.method = load_le<std::uint16_t>(directory, 10);
  entry.crc32 = load_le<std::uint32_t>(directory, 16);
  entry.compressed_bytes = load_le<std::uint32_t>(directory, 20);
  entry.bytes = load_le<std::uint32_t>(directory, 24);
  entry.header_offset = load_le<std::uint32_t>(directory, 42);
  widen(entry, directory.subspan(kEntryBytes + name_bytes, extra_bytes));
  directory = directory.subspan(total);
  return entry;
}

std::vector<ZipEntry> parse_entries(Bytes directory, std::uint64_t count) {
  std::vector<ZipEntry> entries;
  entries.reserve(count);
  while (entries.size() < count) entries.push_back(take_entry(directory));
  if (!directory.empty()) {
    throw format_error("the central directory is larger than its records")
        .needed(count_text(count, "records"))
        .found(count_text(directory.size(), "bytes after them"));
  }
  return entries;
}

std::vector<std::uint32_t> sorted_by_name(const std::vector<ZipEntry>& entries) {
  const auto name = [&](std::uint32_t i) -> const std::string& { return entries[i].name; };
  std::vector<std::uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return name(a) < name(b); });
  const auto twice =
      std::adjacent_find(order.begin(), order.end(), [&](auto a, auto b) { return name(a) == name(b); });
  if (twice != order.end()) throw format_error("the archive has two records named " + name(*twice));
  return order;
}

Error bad_record(const ZipEntry& entry, const char* problem) {
  return format_error("the record " + entry.name + " " + problem).at_offset(entry.header_offset);
}

void check_local_header(Bytes header, const ZipEntry& entry) {
  if (load_le<std::uint32_t>(header, 0) != kLocalSignature) {
    throw bad_record(entry, "has no header where the directory says");
  }
  if (load_le<std::uint16_t>(header, 8) != entry.method) {
    throw bad_record(entry, "is compressed otherwise than the directory says");
  }
  if (load_le<std::uint16_t>(header, 26) != entry.name.size() ||
      as_text(header.subspan(kLocalBytes)) != entry.name) {
    throw bad_record(entry, "has another name in its own header");
  }
}

}  // namespace

const ZipEntry* ZipDirectory::find(std::string_view name) const noexcept {
  const auto at = std::lower_bound(by_name.begin(), by_name.end(), name,
                                   [&](std::uint32_t i, std::string_view n) { return entries[i].name < n; });
  return at != by_name.end() && entries[*at].name == name ? &entries[*at] : nullptr;
}

ZipDirectory parse_zip_directory(const ByteSource& file) {
  const Trailer trailer = read_trailer(file);
  const auto bytes = file.read(trailer.directory_offset, trailer.directory_bytes);
  ZipDirectory directory;
  directory.directory_offset = trailer.directory_offset;
  directory.entries = parse_entries(bytes, trailer.entries);
  directory.by_name = sorted_by_name(directory.entries);
  return directory;
}

std::uint64_t zip_data_offset(const ByteSource& file, const ZipDirectory& directory, const ZipEntry& entry) {
  const std::uint64_t end = std::min(directory.directory_offset, file.size());
  const std::uint64_t header_bytes = kLocalBytes + entry.name.size();
  if (!in_bounds(end, entry.header_offset, header_bytes)) {
    throw bad_record(entry, "begins outside the archive");
  }
  const auto header = file.read(entry.header_offset, header_bytes);
  check_local_header(header, entry);
  const std::uint64_t data = entry.header_offset + header_bytes + load_le<std::uint16_t>(header, 28);
  if (!in_bounds(end, data, entry.compressed_bytes)) {
    throw bad_record(entry, "does not lie inside the archive")
        .needed(count_text(entry.compressed_bytes, "bytes from offset ") + std::to_string(data))
        .found("records end at offset " + std::to_string(end));
  }
  return data;
}

void refuse_overlaps(std::vector<ZipRecord> records) {
  const auto end = [](const ZipRecord& record) { return record.begin + record.entry->compressed_bytes; };
  std::erase_if(records, [](const ZipRecord& record) { return record.entry->compressed_bytes == 0; });
  std::sort(records.begin(), records.end(),
            [](const ZipRecord& a, const ZipRecord& b) { return a.begin < b.begin; });
  const auto clash =
      std::adjacent_find(records.begin(), records.end(),
                         [&](const ZipRecord& a, const ZipRecord& b) { return b.begin < end(a); });
  if (clash == records.end()) return;
  const ZipRecord& next = *(clash + 1);
  throw format_error("the records " + clash->entry->name + " and " + next.entry->name + " overlap")
      .at_offset(next.begin);
}

}  // namespace penstock
