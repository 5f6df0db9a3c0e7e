#include "assemble/batch_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <new>
#include <optional>
#include <utility>
#include <vector>

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

/// What has been given back. Leaky and fork-safe.
class Recycler {
 public:
  /// \returns memory of at least `capacity` (updated to what it is), or nullptr
  std::byte* take(std::size_t& capacity) {
    takes_.fetch_add(1, std::memory_order_relaxed);
    const std::scoped_lock lock(mutex_);
    forget_old_takes();
    largest_ = std::max(largest_, capacity);
    const auto found = best_for(capacity);
    if (found == kept_.rend()) return nullptr;
    const Kept taken = *found;
    kept_.erase(std::next(found).base());
    kept_bytes_ -= taken.capacity;
    capacity = taken.capacity;
    return taken.data;
  }

  /// Small buffers are not kept here, but what is must not stay for ever because only they are asked for.
  void note_small() noexcept {
    if (takes_.fetch_add(1, std::memory_order_relaxed) % kRecent == 0)
      unmap_beyond_bound(take_oldest_beyond_bound());
  }

  void give(std::byte* data, std::size_t capacity) noexcept { unmap_beyond_bound(keep({data, capacity})); }

  std::size_t kept_bytes() {
    const std::scoped_lock lock(mutex_);
    return kept_bytes_;
  }

 private:
  struct Kept {
    std::byte* data;
    std::size_t capacity;
  };

  static constexpr std::uint64_t kRecent = 64;

  /// The smallest that is large enough and not far too large; of those the one that came back last, whose
  /// lines are still in a cache. Batches of one size find theirs at once.
  std::vector<Kept>::reverse_iterator best_for(std::size_t capacity) noexcept {
    auto best = kept_.rend();
    std::size_t most = capacity + capacity / 4 + 1;
    for (auto each = kept_.rbegin(); each != kept_.rend() && most > capacity; ++each) {
      if (each->capacity < capacity || each->capacity >= most) continue;
      best = each;
      most = each->capacity;
    }
    return best;
  }

  void forget_old_takes() noexcept {
    const std::uint64_t period = takes_.load(std::memory_order_relaxed) / kRecent;
    if (period == period_) return;
    largest_before_ = period == period_ + 1 ? largest_ : 0;
    largest_ = 0;
    period_ = period;
  }

  std::size_t bound() noexcept {
    forget_old_takes();
    return std::max(kKeptAtLeast, 2 * std::max(largest_, largest_before_));
  }

  /// \returns what has no room: this one, or the oldest of them
  std::optional<Kept> keep(const Kept& back) noexcept {
    const std::scoped_lock lock(mutex_);
    if (back.capacity > bound()) return back;
    try {
      kept_.push_back(back);
    } catch (const std::bad_alloc&) {
      return back;
    }
    kept_bytes_ += back.capacity;
    return oldest_beyond_bound();
  }

  /// Under the lock.
  std::optional<Kept> oldest_beyond_bound() noexcept {
    if (kept_bytes_ <= bound()) return std::nullopt;
    const Kept oldest = kept_.front();
    kept_.erase(kept_.begin());
    kept_bytes_ -= oldest.capacity;
    return oldest;
  }

  std::optional<Kept> take_oldest_beyond_bound() noexcept {
    const std::scoped_lock lock(mutex_);
    return oldest_beyond_bound();
  }

  /// One at a time, without the lock: to give large memory back takes long.
  void unmap_beyond_bound(std::optional<Kept> old) noexcept {
    for (; old; old = take_oldest_beyond_bound()) ::munmap(old->data, old->capacity);
  }

  std::atomic<std::uint64_t> takes_{0};
  ForkSafeMutex& mutex_ = *new ForkSafeMutex;  // guards all below
  std::vector<Kept> kept_;                     // the oldest first
  std::size_t kept_bytes_ = 0;
  std::uint64_t period_ = 0;        // of kRecent takes
  std::size_t largest_ = 0;         // of the takes in it,
  std::size_t largest_before_ = 0;  // and in the one before
};

Recycler& recycler = *new Recycler;

}  // namespace

BatchBuffer::BatchBuffer(std::size_t bytes) : capacity_(capacity_for(bytes)) {
  if (capacity_ < kSmallest) {
    data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity_));
    if (data_ == nullptr) throw std::bad_alloc();
    recycler.note_small();
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
