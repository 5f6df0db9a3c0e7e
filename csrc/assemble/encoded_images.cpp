#include "assemble/encoded_images.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/random.h"
#include "base/text.h"
#include "storage/file.h"

namespace penstock {
namespace {

constexpr std::size_t kMostKept = std::size_t{16} << 20U;  ///< bytes of a thread's buffer between images

/// The calling thread's buffer for an image.
std::vector<std::byte>& thread_buffer() {
  thread_local std::vector<std::byte> buffer;
  return buffer;
}

}  // namespace

std::size_t EncodedImages::Wanted::of(std::uint64_t size) const {
  if (size <= most || may_be_cut) return static_cast<std::size_t>(std::min(size, most));
  throw format_error("this file is too large to be an image")
      .needed(bytes_text(most) + " or fewer")
      .found(bytes_text(size))
      .hint("Raise max_pixels if you trust where the file comes from.");
}

Bytes EncodedImages::read(std::int64_t row, std::uint64_t largest) const {
  return read(row, Wanted{largest, false});
}

Bytes EncodedImages::read_front(std::int64_t row, std::uint64_t most) const {
  return read(row, Wanted{most, true});
}

Bytes EncodedImages::read(std::int64_t row, Wanted wanted) const {
  std::vector<std::byte>& buffer = thread_buffer();
  if (buffer.capacity() > kMostKept) std::vector<std::byte>().swap(buffer);
  const std::int64_t start = now_ns();
  fetch(row, wanted, buffer);
  slow_reads_.note(now_ns() - start);
  return buffer;
}

ImageFiles::ImageFiles(std::shared_ptr<const FileIndex> files) : files_(std::move(files)) {}

std::vector<std::int64_t> ImageFiles::rows_per_shard() const {
  return std::vector<std::int64_t>(static_cast<std::size_t>(num_rows()), 1);
}

void ImageFiles::locate(Error& error, std::int64_t row) const { error.in_file(files_->path(row)); }

void ImageFiles::will_need(std::int64_t row) const { ask_for_file(files_->path(row)); }

void ImageFiles::fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const {
  const OpenFile file(files_->path(row));
  buffer.resize(wanted.of(file.size()));
  file.read(0, buffer);
}

JoinedImages::JoinedImages(std::shared_ptr<const EncodedImages> first,
                           std::shared_ptr<const EncodedImages> second)
    : first_(std::move(first)), second_(std::move(second)) {}

std::int64_t JoinedImages::num_rows() const noexcept { return first_->num_rows() + second_->num_rows(); }

std::vector<std::int64_t> JoinedImages::rows_per_shard() const {
  std::vector<std::int64_t> rows = first_->rows_per_shard();
  const std::vector<std::int64_t> more = second_->rows_per_shard();
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

std::int64_t JoinedImages::num_shards() const noexcept {
  return first_->num_shards() + second_->num_shards();
}

void JoinedImages::fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const {
  const std::int64_t begin = first_->num_rows();
  row < begin ? first_->fetch(row, wanted, buffer) : second_->fetch(row - begin, wanted, buffer);
}

void JoinedImages::locate(Error& error, std::int64_t row) const {
  const std::int64_t begin = first_->num_rows();
  row < begin ? first_->locate(error, row) : second_->locate(error, row - begin);
}

void JoinedImages::will_need(std::int64_t row) const {
  const std::int64_t begin = first_->num_rows();
  row < begin ? first_->will_need(row) : second_->will_need(row - begin);
}

std::uint64_t JoinedImages::fingerprint() const {
  return mix64(first_->fingerprint() ^ mix64(second_->fingerprint()));
}

}  // namespace penstock
