#include "formats/npz.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "formats/deflate.h"
#include "formats/npy.h"

namespace penstock {
namespace {

constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kDeflated = 8;
constexpr std::uint64_t kMaxRatio = 1100;         // deflate reaches 1032
constexpr std::uint64_t kPrefixBytes = 16384;     // numpy's longest header is 10,012 bytes
constexpr std::uint64_t kMaxPrefixInput = 32768;  // more than 16 KiB ever deflate to
constexpr std::string_view kSuffix = ".npy";

/// The bytes of one stored entry, as a file of their own.
class EntrySource final : public ByteSource {
 public:
  EntrySource(const ByteSource& file, std::uint64_t begin, std::uint64_t bytes)
      : file_(file), begin_(begin), bytes_(bytes) {}
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_; }

 private:
  void copy(std::uint64_t offset, std::span<std::byte> out) const override {
    file_.read(begin_ + offset, out);
  }
  const ByteSource& file_;
  std::uint64_t begin_;
  std::uint64_t bytes_;
};

std::string array_name(const ZipEntry& entry) {
  return entry.name.substr(0, entry.name.size() - kSuffix.size());
}

std::vector<std::byte> inflate_prefix(Bytes input, std::uint64_t wanted) {
  std::vector<std::byte> prefix(wanted);
  Inflater inflater;
  if (inflater.feed(input, prefix) == Inflater::State::kBroken) {
    throw format_error("the entry is no deflate stream");
  }
  if (inflater.written() < wanted) {
    throw format_error("the entry inflates to less than the archive says")
        .needed(std::to_string(wanted) + " bytes")
        .found(std::to_string(inflater.written()) + " bytes");
  }
  return prefix;
}

FileLayout parse_stored(const ByteSource& file, const ZipEntry& entry, std::uint64_t data) {
  if (entry.compressed_bytes != entry.bytes) {
    throw format_error("the entry is stored, but its two sizes differ")
        .needed(std::to_string(entry.bytes) + " bytes")
        .found(std::to_string(entry.compressed_bytes) + " bytes");
  }
  FileLayout npy;
  try {
    npy = parse_npy(EntrySource(file, data, entry.bytes));
  } catch (Error& error) {
    if (error.offset()) error.at_offset(data + *error.offset());
    throw;
  }
  for (ArrayLayout& array : npy.arrays) array.offset += data;
  return npy;
}

void check_ratio(const ZipEntry& entry) {
  const auto most = checked_multiply(entry.compressed_bytes, kMaxRatio);
  if (!most || entry.bytes <= *most) return;
  throw format_error("the entry claims a compression that deflate cannot reach")
      .needed("at most " + std::to_string(kMaxRatio) + " bytes for each compressed byte")
      .found(std::to_string(entry.bytes) + " bytes from " + std::to_string(entry.compressed_bytes));
}

FileLayout parse_deflated(const ByteSource& file, const ZipEntry& entry, std::uint64_t data) {
  check_ratio(entry);
  const auto input = file.read(data, std::min(entry.compressed_bytes, kMaxPrefixInput));
  const auto prefix = inflate_prefix(input, std::min(entry.bytes, kPrefixBytes));
  FileLayout npy = parse_npy_header(prefix, entry.bytes);
  for (ArrayLayout& array : npy.arrays) {
    array.deflated = Deflated{data, entry.compressed_bytes, entry.bytes, entry.crc32};
  }
  return npy;
}

ZipRecord record_of(const ByteSource& file, const ZipDirectory& directory, const ZipEntry& entry) {
  if (entry.encrypted) throw format_error("the entry is encrypted");
  return {&entry, zip_data_offset(file, directory, entry)};
}

FileLayout parse_record(const ByteSource& file, const ZipRecord& record) {
  const ZipEntry& entry = *record.entry;
  if (entry.method == kStored) return parse_stored(file, entry, record.begin);
  if (entry.method == kDeflated) return parse_deflated(file, entry, record.begin);
  throw format_error("the entry is compressed by a method that numpy does not write")
      .needed("method 0 (stored) or 8 (deflated)")
      .found("method " + std::to_string(entry.method));
}

/// Moves what was found in one entry into the whole, under the entry's name.
template <typename Named>
void append(std::vector<Named>& all, std::vector<Named>&& found, const std::string& name) {
  for (Named& each : found) {
    each.name = each.name.empty() ? name : name + "." + each.name;
    all.push_back(std::move(each));
  }
}

void refuse_duplicates(const FileLayout& layout) {
  std::vector<std::string_view> names;
  names.reserve(layout.arrays.size() + layout.refused.size());
  for (const ArrayLayout& array : layout.arrays) names.emplace_back(array.name);
  for (const RefusedArray& array : layout.refused) names.emplace_back(array.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw format_error("two arrays have the same name").in_field(*twice);
}

}  // namespace

FileLayout parse_npz(const ByteSource& file, const ZipDirectory& directory) {
  FileLayout layout;
  layout.format = "npz";
  layout.container = Container::kMapping;
  std::vector<ZipRecord> records;
  for (const ZipEntry& entry : directory.entries) {
    if (!entry.name.ends_with(kSuffix)) continue;
    const std::string name = array_name(entry);
    try {
      records.push_back(record_of(file, directory, entry));
      FileLayout npy = parse_record(file, records.back());
      append(layout.arrays, std::move(npy.arrays), name);
      append(layout.refused, std::move(npy.refused), name);
    } catch (Error& error) {
      error.in_field(name);
      throw;
    }
  }
  refuse_overlaps(std::move(records));
  refuse_duplicates(layout);
  if (layout.arrays.empty() && layout.refused.empty()) {
    throw format_error("the archive holds no .npy entry, so it is no .npz file");
  }
  return layout;
}

}  // namespace penstock
