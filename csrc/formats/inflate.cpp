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
#include "formats/deflate.h"

namespace penstock {
namespace {

Error broken(const Deflated& deflated, const char* problem) {
  Error error = format_error(problem);
  error.at_offset(deflated.offset);
  return error;
}

void inflate_into(const ReadAt& read, const Deflated& deflated, std::span<std::byte> out) {
  constexpr std::uint64_t kChunk = 1U << 20U;
  std::vector<std::byte> input(static_cast<std::size_t>(std::min(kChunk, deflated.compressed_bytes)));
  Inflater inflater;
  auto state = Inflater::State::kWantsMore;
  for (std::uint64_t at = 0; at < deflated.compressed_bytes && state != Inflater::State::kEnded;
       at += kChunk) {
    const std::span piece(input.data(), std::min(kChunk, deflated.compressed_bytes - at));
    read(deflated.offset + at, piece);
    state = inflater.feed(piece, out);
    if (state == Inflater::State::kBroken) throw broken(deflated, "the compressed data is corrupt");
  }
  if (inflater.written() != out.size()) {
    throw broken(deflated, "the compressed data ends early")
        .needed(std::to_string(out.size()) + " inflated bytes")
        .found(std::to_string(inflater.written()));
  }
}

void require_checksum(const Deflated& deflated, std::span<const std::byte> bytes) {
  const auto sum = crc32_of(bytes);
  if (!sum || *sum == deflated.crc32) return;
  throw broken(deflated, "the inflated data fails its CRC-32")
      .needed(std::to_string(deflated.crc32))
      .found(std::to_string(*sum));
}

/// The one lock for inflating: it happens once per array.
ForkSafeMutex& inflating = *new ForkSafeMutex;

}  // namespace

std::vector<std::byte> inflated(const Deflated& deflated, const ReadAt& read) {
  std::vector<std::byte> bytes(deflated.inflated_bytes);
  inflate_into(read, deflated, bytes);
  require_checksum(deflated, bytes);
  return bytes;
}

InflatedStorage::InflatedStorage(std::shared_ptr<FileStorage> file, const Deflated& deflated)
    : file_(std::move(file)), deflated_(deflated) {}

const std::byte* InflatedStorage::data() {
  if (!ready_.load(std::memory_order_acquire)) {
    (void)file_->data();  // takes a lock of its own, never inside ours
    const std::scoped_lock lock(inflating);
    if (!ready_.load(std::memory_order_relaxed)) inflate_now();
  }
  return bytes_.data();
}

void InflatedStorage::read(std::uint64_t offset, std::span<std::byte> out) {
  std::memcpy(out.data(), data() + offset, out.size());
}

void InflatedStorage::inflate_now() {
  try {
    bytes_ = inflated(deflated_,
                      [this](std::uint64_t offset, std::span<std::byte> out) { file_->read(offset, out); });
  } catch (Error& error) {
    error.in_file(file_->path());
    throw;
  }
  ready_.store(true, std::memory_order_release);
}

}  // namespace penstock
