#include "assemble/batch_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/fork.h"

namespace penstock {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kSmallest = std::size_t{64} << 10U;  // recycled from here
constexpr std::size_t kHugePage = std::size_t{2} << 20U;
constexpr std::size_t kKeptAtLeast = std::size_t{256} << 20U;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::size_t capacity_for(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  if (bytes < kSmallest) return rounded_up(std::max<std::size_t>(bytes, 1), kAlignment);
  return rounded_up(bytes, bytes < kHugePage ? kSmallest : kHugePage);
}

std::byte* map_fresh(std::size_t capacity) {
  const bool huge = capacity >= kHugePage;
  const std::size_t slack = huge ? kHugePage : 0;
  void* mapped =
      ::mmap(nullptr, capacity + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* data = static_cast<std::byte*>(mapped);
  if (!huge) return data;
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(data) % kHugePage) % kHugePage;
  if (before > 0) ::munmap(data, before);
  if (slack > before) ::munmap(data + before + capacity, slack - before);
  data += before;
#ifdef MADV_HUGEPAGE
  ::madvise(data, capacity, MADV_HUGEPAGE);
#endif
  return data;
}

/// What has been given back, by capacity. Leaky and fork-safe.
class Recycler {
 public:
  /// \returns memory of at least `capacity` (updated to what it is), or nullptr
  std::byte* take(std::size_t& capacity) {
    const std::scoped_lock lock(mutex_);
    largest_ = std::max(largest_, capacity);
    const auto found = kept_.lower_bound(capacity);
    const std::size_t most = capacity + capacity / 4;
    if (found == kept_.end() || found->first > most) return nullptr;
    capacity = found->first;
    std::byte* data = found->second;
    kept_bytes_ -= capacity;
    kept_.erase(found);
    return data;
  }

  void give(std::byte* data, std::size_t capacity) noexcept {
    if (!keep(data, capacity)) ::munmap(data, capacity);
  }

  std::size_t kept_bytes() {
    const std::scoped_lock lock(mutex_);
    return kept_bytes_;
  }

 private:
  bool keep(std::byte* data, std::size_t capacity) noexcept {
    const std::scoped_lock lock(mutex_);
    if (kept_bytes_ + capacity > std::max(kKeptAtLeast, 2 * largest_)) return false;
    try {
      kept_.emplace_hint(kept_.lower_bound(capacity), capacity,
                         data);  // the first of its size: still in cache
    } catch (const std::bad_alloc&) {
      return false;
    }
    kept_bytes_ += capacity;
    return true;
  }

  ForkSafeMutex& mutex_ = *new ForkSafeMutex;  // guards all below
  std::multimap<std::size_t, std::byte*> kept_;
  std::size_t kept_bytes_ = 0;
  std::size_t largest_ = 0;
};

Recycler& recycler = *new Recycler;

}  // namespace

BatchBuffer::BatchBuffer(std::size_t bytes) : capacity_(capacity_for(bytes)) {
  if (capacity_ < kSmallest) {
    data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity_));
    if (data_ == nullptr) throw std::bad_alloc();
    return;
  }
  data_ = recycler.take(capacity_);
  if (data_ == nullptr) data_ = map_fresh(capacity_);
}

BatchBuffer::BatchBuffer(BatchBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}

BatchBuffer& BatchBuffer::operator=(BatchBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(capacity_, other.capacity_);
  return *this;
}

BatchBuffer::~BatchBuffer() {
  if (data_ == nullptr) return;
  if (capacity_ < kSmallest) {
    std::free(data_);
  } else {
    recycler.give(data_, capacity_);
  }
}

std::size_t bytes_of_rows(std::size_t rows, std::int64_t row_bytes) {
  const auto bytes = checked_multiply(rows, static_cast<std::uint64_t>(row_bytes));
  if (!bytes) throw std::bad_alloc();
  return static_cast<std::size_t>(*bytes);
}

std::size_t recycled_bytes() { return recycler.kept_bytes(); }

}  // namespace penstock
