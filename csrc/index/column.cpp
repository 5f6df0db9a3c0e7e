#include "index/column.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fork.h"
#include "formats/layout.h"
#include "storage/available_memory.h"

namespace penstock {
namespace {

std::int64_t checked_row_bytes(const std::string& name, DType dtype,
                               const std::vector<std::int64_t>& row_shape) {
  auto bytes = static_cast<std::uint64_t>(item_bytes(dtype));
  for (const std::int64_t length : row_shape) {
    const auto product =
        length < 0 ? std::nullopt : checked_multiply(bytes, static_cast<std::uint64_t>(length));
    if (!product) {
      throw Error(ErrorKind::kSchema, "a row of this shape is impossible")
          .in_field(name)
          .found(shape_text(row_shape));
    }
    bytes = *product;
  }
  return static_cast<std::int64_t>(bytes);
}

/// Sequential when most rows follow the one before them.
AccessPattern pattern_of(std::span<const std::int64_t> rows) {
  std::size_t following = 0;
  for (std::size_t i = 1; i < rows.size(); ++i) following += rows[i] == rows[i - 1] + 1 ? 1 : 0;
  return 2 * following >= rows.size() ? AccessPattern::kSequential : AccessPattern::kRandom;
}

/// Rows of more bytes cost so much that the walk through the page tables to theirs cannot be seen.
constexpr std::int64_t kMostWalked = std::int64_t{4} << 10U;

/// Of more data, a first batch of random rows would wait too long for the large units around them.
constexpr std::uint64_t kMostResident = std::uint64_t{4} << 30U;

/// Fewer scattered bytes are not worth a call of the system.
constexpr std::int64_t kWorthACall = std::int64_t{64} << 10U;

std::uint64_t bytes_of(std::span<const std::shared_ptr<Storage>> storages) {
  std::uint64_t bytes = 0;
  for (const auto& storage : storages) bytes += storage->size();
  return bytes;
}

/// The one lock for making views: it happens once per column and process.
ForkSafeMutex& viewing = *new ForkSafeMutex;

}  // namespace

Column::Column(Parts parts)
    : name_(std::move(parts.name)),
      dtype_(parts.dtype),
      row_shape_(std::move(parts.row_shape)),
      row_bytes_(checked_row_bytes(name_, dtype_, row_shape_)),
      storages_(std::move(parts.storages)),
      layouts_(std::move(parts.layouts)),
      shards_(std::move(parts.shards)),
      index_(parts.rows) {
  require_consistent();
  for (std::size_t shard = 0; shard < shards_.size(); ++shard) require_in_storage(shard);
}

void Column::require_consistent() const {
  const bool counts_agree = static_cast<std::size_t>(index_.num_shards()) == shards_.size();
  const bool layouts_fit = std::all_of(layouts_.begin(), layouts_.end(), [this](const RowLayout& layout) {
    return layout.strides.size() == row_shape_.size();
  });
  const bool references_exist = std::all_of(shards_.begin(), shards_.end(), [this](const Shard& shard) {
    return shard.storage < storages_.size() && shard.layout < layouts_.size();
  });
  if (!counts_agree || !layouts_fit || !references_exist) {
    throw Error(ErrorKind::kSchema, "the column's parts do not fit together").in_field(name_);
  }
}

void Column::require_in_storage(std::size_t shard) const {
  const auto number = static_cast<std::int64_t>(shard);
  const RowLayout& layout = layout_of(number);
  std::vector<std::int64_t> shape = {index_.rows_of(number)};
  std::vector<std::int64_t> strides = {layout.row_stride};
  shape.insert(shape.end(), row_shape_.begin(), row_shape_.end());
  strides.insert(strides.end(), layout.strides.begin(), layout.strides.end());
  const auto spanned = spanned_bytes(shape, strides, item_bytes(dtype_));
  if (spanned && in_bounds(storage_of(number).size(), shards_[shard].offset, *spanned)) return;
  if (spanned && *spanned == 0) return;
  throw Error(ErrorKind::kSchema, "rows would lie outside the file")
      .in_file(storage_of(number).path())
      .in_field(name_)
      .needed(shape_text(shape) + " from byte " + std::to_string(shards_[shard].offset))
      .found(std::to_string(storage_of(number).size()) + " bytes");
}

Storage& Column::storage_of(std::int64_t shard) const noexcept {
  return *storages_[shards_[static_cast<std::size_t>(shard)].storage];
}

const RowLayout& Column::layout_of(std::int64_t shard) const noexcept {
  return layouts_[shards_[static_cast<std::size_t>(shard)].layout];
}

bool Column::is_contiguous(const RowLayout& layout) const {
  const bool is_native = !layout.byte_swapped || swap_bytes(dtype_) == 1;
  return is_native && lie_end_to_end(row_shape_, layout.strides, item_bytes(dtype_));
}

std::span<const ShardView> Column::views() {
  if (!opened_.load(std::memory_order_acquire)) {
    use_storages(0, storages_.size(), [](Storage& storage) { (void)storage.data(); });
    const std::scoped_lock lock(viewing);
    if (!opened_.load(std::memory_order_relaxed)) open();
  }
  return views_;
}

/// Calls use(storage) for so many, beginning again behind the last. What fails is of its first row.
template <typename Use>
void Column::use_storages(std::size_t first, std::size_t count, const Use& use) const {
  std::size_t number = first;
  try {
    for (std::size_t i = 0; i < count; ++i) {
      number = (first + i) % storages_.size();
      use(*storages_[number]);
    }
  } catch (Error& error) {
    error.in_field(name_);
    const auto shard =
        std::ranges::find(shards_, number, [](const Shard& each) { return std::size_t{each.storage}; });
    if (shard != shards_.end()) error.at_row(index_.first_row(shard - shards_.begin()));
    throw;
  }
}

void Column::open() {
  views_.resize(shards_.size());
  bool mapped = true;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    const std::byte* data = storages_[shard.storage]->data();
    mapped = mapped && data != nullptr;
    views_[i] = {data == nullptr ? nullptr : data + shard.offset, layouts_[shard.layout].row_stride};
  }
  plain_ = mapped && std::all_of(layouts_.begin(), layouts_.end(),
                                 [this](const RowLayout& layout) { return is_contiguous(layout); });
  strided_rows_.reserve(layouts_.size());
  for (const RowLayout& layout : layouts_) strided_rows_.emplace_back(layout, row_shape_, dtype_);
  const std::uint64_t bytes = bytes_of(storages_);
  fits_in_memory_ = bytes < available_memory() / 2;
  if (fits_in_memory_ && bytes <= kMostResident && row_bytes_ <= kMostWalked) {
    for (const auto& storage : storages_) storage->advise(AccessPattern::kResident);
  }
  next_check_ns_.store(now_ns(), std::memory_order_relaxed);
  opened_.store(true, std::memory_order_release);
}

void Column::advise_for(std::span<const std::int64_t> rows) {
  if (fits_in_memory_) return;
  const AccessPattern pattern = pattern_of(rows);
  if (advised_.exchange(pattern, std::memory_order_relaxed) == pattern) return;
  for (const auto& storage : storages_) storage->advise(pattern);
}

/// Calls advise(storage, offset, bytes) for each part of these rows that lies end to end, or overlaps.
template <typename Advise>
void Column::for_each_extent(std::int64_t first, std::int64_t count, const Advise& advise) const {
  while (count > 0) {
    const Location found = index_.locate(first);
    const std::int64_t rows = std::min(count, index_.first_row(found.shard + 1) - first);
    const std::int64_t stride = layout_of(found.shard).row_stride;
    if (is_contiguous(layout_of(found.shard)) && (stride <= row_bytes_ || rows == 1)) {
      const std::uint64_t offset = shards_[static_cast<std::size_t>(found.shard)].offset;
      advise(storage_of(found.shard), offset + static_cast<std::uint64_t>(found.row * stride),
             static_cast<std::uint64_t>((rows - 1) * stride + row_bytes_));
    }
    first += rows;
    count -= rows;
  }
}

void Column::will_need(std::int64_t first, std::int64_t count) {
  (void)views();
  if (fits_in_memory_) return;
  for_each_extent(first, count, [](const Storage& storage, std::uint64_t offset, std::uint64_t size) {
    storage.will_need(offset, size);
  });
}

void Column::will_need(std::span<const std::int64_t> rows) {
  (void)views();
  if (fits_in_memory_) return;
  for (const std::int64_t row : rows) will_need(row, 1);
}

void Column::will_not_need(std::span<const std::int64_t> rows) const noexcept {
  const AccessPattern pattern = pattern_of(rows);
  if (pattern == AccessPattern::kRandom && row_bytes_ < kWorthACall) return;
  for (std::size_t begin = 0, end = 1; begin < rows.size(); begin = end++) {
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    for_each_extent(rows[begin], static_cast<std::int64_t>(end - begin),
                    [pattern](const Storage& storage, std::uint64_t offset, std::uint64_t size) {
                      storage.will_not_need(offset, size, pattern);
                    });
  }
}

void Column::will_not_need(std::int64_t first, std::int64_t count) const noexcept {
  if (count * row_bytes_ < kWorthACall) return;
  for_each_extent(first, count, [](const Storage& storage, std::uint64_t offset, std::uint64_t size) {
    storage.will_not_need(offset, size, AccessPattern::kRandom);
  });
}

void Column::check_now_and_then() {
  constexpr std::int64_t kIntervalNs = 1'000'000'000;
  constexpr std::size_t kFilesAtATime = 1000;
  const std::int64_t now = now_ns();
  std::int64_t due = next_check_ns_.load(std::memory_order_relaxed);
  if (now < due || !next_check_ns_.compare_exchange_strong(due, now + kIntervalNs)) return;
  const std::size_t count = std::min(kFilesAtATime, storages_.size());
  const std::size_t first = next_checked_.fetch_add(count);
  use_storages(first, count, [](const Storage& storage) { storage.check(); });
}

void Column::raise_fault(const void* address, std::span<const std::int64_t> rows) const {
  const auto* fault = static_cast<const std::byte*>(address);
  const auto row = std::ranges::find_if(rows, [&](std::int64_t each) { return has_byte(each, fault); });
  raise_fault(address, row == rows.end() ? std::nullopt : std::optional(*row));
}

void Column::raise_fault(const void* address, std::optional<std::int64_t> row) const {
  Error error = failure_at(static_cast<const std::byte*>(address));
  error.in_field(name_);
  if (row) error.at_row(*row);
  throw error;
}

bool Column::has_byte(std::int64_t row, const std::byte* address) const noexcept {
  const Location at = index_.locate(row);
  const ShardView& view = views_[static_cast<std::size_t>(at.shard)];
  if (view.first_row == nullptr) return false;
  return strided_row_of(at.shard).has_byte(address - (view.first_row + at.row * view.row_stride));
}

Error Column::failure_at(const std::byte* address) const {
  for (const auto& storage : storages_) {
    const std::byte* data = storage->data();
    if (data == nullptr || address < data || address >= data + storage->size()) continue;
    try {
      storage->check();
    } catch (const Error& changed) {
      return changed;
    }
    return Error(ErrorKind::kShard, "the system could not read a mapped page of the file")
        .in_file(storage->path())
        .at_offset(static_cast<std::uint64_t>(address - data))
        .hint("The disk or the network file system reported an error.");
  }
  return {ErrorKind::kShard, "bus error outside any shard: the output buffer is not usable"};
}

std::shared_ptr<Column> concatenate(const Column& a, const Column& b) {
  if (a.dtype() != b.dtype() || a.row_shape() != b.row_shape()) {
    const auto text = [](const Column& column) {
      return std::string(dtype_name(column.dtype())) + " rows of " + shape_text(column.row_shape());
    };
    throw Error(ErrorKind::kSchema, "the datasets disagree")
        .in_field(a.name())
        .needed(text(a))
        .found(text(b));
  }
  Column::Parts parts{a.name(), a.dtype(), a.row_shape(), {}, {}, {}, {}};
  for (const Column* each : {&a, &b}) {
    const auto first_storage = static_cast<std::uint32_t>(parts.storages.size());
    const auto first_layout = static_cast<std::uint32_t>(parts.layouts.size());
    parts.storages.insert(parts.storages.end(), each->storages().begin(), each->storages().end());
    parts.layouts.insert(parts.layouts.end(), each->layouts().begin(), each->layouts().end());
    for (std::int64_t i = 0; i < each->index().num_shards(); ++i) {
      const Shard& shard = each->shards()[static_cast<std::size_t>(i)];
      parts.shards.push_back({shard.offset, shard.storage + first_storage, shard.layout + first_layout});
      parts.rows.push_back(each->index().rows_of(i));
    }
  }
  return std::make_shared<Column>(std::move(parts));
}

}  // namespace penstock
