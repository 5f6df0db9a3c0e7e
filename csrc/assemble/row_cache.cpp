#include "assemble/row_cache.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "base/error.h"

namespace penstock {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int32_t kNowhere = 0;
constexpr std::int32_t kComing = -1;

/// At the front of the memory.
struct Header {
  std::int64_t next_place = 0;
  std::int64_t num_rows = 0;
  std::int64_t row_bytes = 0;
};

constexpr std::int64_t padded(std::int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::int64_t index_bytes(std::int64_t num_rows) {
  return kAlignment + padded(num_rows * static_cast<std::int64_t>(sizeof(std::int32_t)));
}

std::int64_t capacity_for(std::int64_t num_rows, std::int64_t row_bytes, std::uint64_t budget_bytes) {
  constexpr std::uint64_t kMostPlaces = std::numeric_limits<std::int32_t>::max() - 1;
  const std::uint64_t places =
      budget_bytes / static_cast<std::uint64_t>(std::max<std::int64_t>(row_bytes, 1));
  return static_cast<std::int64_t>(std::min({places, kMostPlaces, static_cast<std::uint64_t>(num_rows)}));
}

}  // namespace

RowCache::RowCache(std::int64_t num_rows, std::int64_t row_bytes, std::uint64_t budget_bytes)
    : RowCache(std::make_shared<SharedMemory>(
                   static_cast<std::size_t>(index_bytes(num_rows) +
                                            capacity_for(num_rows, row_bytes, budget_bytes) * row_bytes),
                   SharedMemory::With::kAnyone),
               num_rows, row_bytes) {}

RowCache::RowCache(std::shared_ptr<SharedMemory> memory, std::int64_t num_rows, std::int64_t row_bytes)
    : memory_(std::move(memory)), row_bytes_(row_bytes) {
  const std::int64_t room = static_cast<std::int64_t>(memory_->size()) - index_bytes(num_rows);
  if (room < 0) throw Error(ErrorKind::kSchema, "this is no cache of so many rows");
  capacity_ = std::min(room / std::max<std::int64_t>(row_bytes, 1), num_rows);
  auto* const header = reinterpret_cast<Header*>(memory_->data());
  if (header->num_rows == 0 && header->row_bytes == 0) *header = {0, num_rows, row_bytes};  // new
  if (header->num_rows != num_rows || header->row_bytes != row_bytes) {
    throw Error(ErrorKind::kSchema, "this is no cache of such rows");
  }
  next_place_ = &header->next_place;
  place_of_ = reinterpret_cast<std::int32_t*>(memory_->data() + kAlignment);
  places_ = memory_->data() + index_bytes(num_rows);
}

const std::byte* RowCache::find(std::int64_t row) const noexcept {
  const std::int32_t place = std::atomic_ref(place_of_[row]).load(std::memory_order_acquire);
  return place > kNowhere && place <= capacity_ ? places_ + (place - 1) * row_bytes_ : nullptr;
}

std::byte* RowCache::begin(std::int64_t row) noexcept {
  if (std::atomic_ref(*next_place_).load(std::memory_order_relaxed) >= capacity_) return nullptr;
  std::int32_t nowhere = kNowhere;
  if (!std::atomic_ref(place_of_[row]).compare_exchange_strong(nowhere, kComing)) return nullptr;
  const std::int64_t place = std::atomic_ref(*next_place_).fetch_add(1);
  if (place < capacity_) {
    populate(place);
    return places_ + place * row_bytes_;
  }
  give_up(row);
  return nullptr;
}

/// Whoever gets the first place of a chunk takes the chunk's memory.
void RowCache::populate(std::int64_t place) const noexcept {
  constexpr std::int64_t kChunk = std::int64_t{4} << 20U;
  const std::int64_t begin = place * row_bytes_;
  const std::int64_t chunk = (begin + kChunk - 1) / kChunk * kChunk;
  if (chunk >= begin + row_bytes_) return;  // none begins in this row
  memory_->populate(static_cast<std::size_t>(places_ - memory_->data() + chunk), kChunk);
}

void RowCache::done(std::int64_t row, const std::byte* place) noexcept {
  const std::int64_t number = row_bytes_ == 0 ? 0 : (place - places_) / row_bytes_;
  std::atomic_ref(place_of_[row]).store(static_cast<std::int32_t>(number + 1), std::memory_order_release);
}

void RowCache::give_up(std::int64_t row) noexcept {
  std::atomic_ref(place_of_[row]).store(kNowhere, std::memory_order_release);
}

void RowCache::prefetch_place(std::int64_t row) const noexcept { __builtin_prefetch(place_of_ + row); }

std::int64_t RowCache::rows_kept() const noexcept {
  return std::min(std::atomic_ref(*next_place_).load(std::memory_order_relaxed), capacity_);
}

}  // namespace penstock
