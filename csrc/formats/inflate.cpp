#include "formats/inflate.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/fork.h"

#ifdef PENSTOCK_HAVE_ZLIB
#include <zlib.h>
#endif

namespace penstock {
namespace {

#ifdef PENSTOCK_HAVE_ZLIB

/// A raw deflate stream being inflated. single-owner
class Inflater {
 public:
  Inflater() {
    if (::inflateInit2(&stream_, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { ::inflateEnd(&stream_); }

  /// Feeds `input`; writes what it gives behind what was written before, never past `out`.
  int feed(std::span<std::byte> input, std::span<std::byte> out) {
    stream_.next_in = reinterpret_cast<Bytef*>(input.data());
    stream_.avail_in = static_cast<uInt>(input.size());
    int result = Z_OK;
    while (result == Z_OK) {
      const std::size_t room = std::min<std::size_t>(out.size() - written_, kMostPerCall);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + written_);
      stream_.avail_out = static_cast<uInt>(room);
      result = ::inflate(&stream_, Z_NO_FLUSH);
      written_ += room - stream_.avail_out;
      if (stream_.avail_in == 0 && stream_.avail_out > 0) break;
      if (written_ == out.size() && result == Z_OK && stream_.avail_out == 0) break;
    }
    return result;
  }

  [[nodiscard]] std::size_t written() const noexcept { return written_; }

 private:
  static constexpr std::size_t kMostPerCall = std::size_t{1} << 30U;
  z_stream stream_{};
  std::size_t written_ = 0;
};

Error broken(const Storage& file, const Deflated& deflated, const char* problem) {
  Error error = format_error(problem);
  error.in_file(file.path()).at_offset(deflated.offset);
  return error;
}

void inflate_into(Storage& file, const Deflated& deflated, std::span<std::byte> out) {
  constexpr std::uint64_t kChunk = 1U << 20U;
  std::vector<std::byte> input(static_cast<std::size_t>(std::min(kChunk, deflated.compressed_bytes)));
  Inflater inflater;
  int result = Z_OK;
  for (std::uint64_t at = 0; at < deflated.compressed_bytes && result != Z_STREAM_END; at += kChunk) {
    const std::span piece(input.data(), std::min(kChunk, deflated.compressed_bytes - at));
    file.read(deflated.offset + at, piece);
    result = inflater.feed(piece, out);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
      throw broken(file, deflated, "the compressed data is corrupt");
    }
  }
  if (inflater.written() != out.size()) {
    throw broken(file, deflated, "the compressed data ends early")
        .needed(std::to_string(out.size()) + " inflated bytes")
        .found(std::to_string(inflater.written()));
  }
}

void require_checksum(const Storage& file, const Deflated& deflated, std::span<const std::byte> bytes) {
  const auto sum = ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  if (sum == deflated.crc32) return;
  throw broken(file, deflated, "the inflated data fails its CRC-32")
      .needed(std::to_string(deflated.crc32))
      .found(std::to_string(sum));
}

void inflate_and_check(Storage& file, const Deflated& deflated, std::span<std::byte> out) {
  inflate_into(file, deflated, out);
  require_checksum(file, deflated, out);
}

#else

void inflate_and_check(Storage& file, const Deflated&, std::span<std::byte>) {
  throw format_error("this build has no zlib, so compressed arrays cannot be read")
      .in_file(file.path())
      .hint("Save with numpy.savez instead of savez_compressed, or build with zlib's headers installed.");
}

#endif

/// The one lock for inflating: it happens once per array.
ForkSafeMutex& inflating() {
  static ForkSafeMutex& mutex = *new ForkSafeMutex;
  return mutex;
}

}  // namespace

InflatedStorage::InflatedStorage(std::shared_ptr<FileStorage> file, const Deflated& deflated)
    : file_(std::move(file)), deflated_(deflated) {}

const std::byte* InflatedStorage::data() {
  if (!ready_.load(std::memory_order_acquire)) {
    (void)file_->data();  // takes a lock of its own, never inside ours
    const std::lock_guard lock(inflating());
    if (!ready_.load(std::memory_order_relaxed)) inflate_now();
  }
  return bytes_.data();
}

void InflatedStorage::read(std::uint64_t offset, std::span<std::byte> out) {
  std::memcpy(out.data(), data() + offset, out.size());
}

void InflatedStorage::inflate_now() {
  std::vector<std::byte> bytes(deflated_.inflated_bytes);
  inflate_and_check(*file_, deflated_, bytes);
  bytes_ = std::move(bytes);
  ready_.store(true, std::memory_order_release);
}

}  // namespace penstock
