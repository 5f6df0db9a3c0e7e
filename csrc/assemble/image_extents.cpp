#include "assemble/image_extents.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/random.h"
#include "base/text.h"

namespace penstock {
namespace {

std::size_t at(std::int64_t row) { return static_cast<std::size_t>(row); }

}  // namespace

ImageExtents::ImageExtents(Parts parts) : parts_(std::move(parts)) {
  const std::size_t count = parts_.offsets.size();
  bool fit = parts_.shards.size() == parts_.rows.size() && parts_.sizes.size() == count &&
             parts_.names.size() == count;
  first_rows_.push_back(0);
  for (const std::int64_t rows : parts_.rows) {
    const std::int64_t left = static_cast<std::int64_t>(count) - first_rows_.back();
    fit = fit && 0 <= rows && rows <= left;
    first_rows_.push_back(first_rows_.back() + std::clamp<std::int64_t>(rows, 0, left));
  }
  if (!fit || at(num_rows()) != count)
    throw Error(ErrorKind::kSchema, "the index of images does not fit together");
  require_inside();
}

void ImageExtents::require_inside() const {
  for (std::int64_t row = 0; row < num_rows(); ++row) {
    const FileStorage& shard = shard_of(row);
    if (in_bounds(shard.size(), parts_.offsets[at(row)], parts_.sizes[at(row)])) continue;
    Error error(ErrorKind::kSchema, "an image does not lie inside its file");
    locate(error, row);
    throw error;
  }
}

FileStorage& ImageExtents::shard_of(std::int64_t row) const noexcept {
  const auto next = std::upper_bound(first_rows_.begin(), first_rows_.end(), row);
  return *parts_.shards[static_cast<std::size_t>(next - first_rows_.begin()) - 1];
}

std::string ImageExtents::path(std::int64_t row) const {
  return shard_of(row).path() + "/" + std::string(parts_.names[at(row)]);
}

void ImageExtents::fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const {
  FileStorage& shard = shard_of(row);
  buffer.resize(wanted.of(parts_.sizes[at(row)]));
  shard.read(parts_.offsets[at(row)], buffer);
  shard.check();
}

void ImageExtents::locate(Error& error, std::int64_t row) const {
  error.in_file(shard_of(row).path());
  if (error.kind() != ErrorKind::kShard) error.of("image " + quoted_text(parts_.names[at(row)]));
}

void ImageExtents::will_need(std::int64_t row) const {
  shard_of(row).will_need(parts_.offsets[at(row)], parts_.sizes[at(row)]);
}

std::uint64_t ImageExtents::fingerprint() const {
  const std::uint64_t names = mix64(checksum(as_bytes(parts_.names.text())));
  const std::uint64_t ends = mix64(names ^ checksum(std::as_bytes(parts_.names.ends())));
  return mix64(ends ^ checksum(std::as_bytes(std::span(parts_.sizes))));
}

}  // namespace penstock
