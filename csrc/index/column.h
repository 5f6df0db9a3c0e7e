#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "index/cumulative.h"
#include "index/strided.h"
#include "storage/storage.h"

namespace penstock {

/// An extent: where the rows of one shard lie. Their number is the index's business.
struct Shard {
  std::uint64_t offset = 0;   ///< of row 0 in the storage
  std::uint32_t storage = 0;  ///< which of the column's storages
  std::uint32_t layout = 0;   ///< which of the column's layouts
};

/// A shard as the gather sees it once its storage is open.
struct ShardView {
  const std::byte* first_row = nullptr;  ///< nullptr: the storage must be read
  std::int64_t row_stride = 0;
};

/// One field over all its shards: a virtual array of rows of one dtype and shape.
///
/// Holds nothing of the data. Everything a file said has been checked against the storage's size by
/// the time the constructor returns.
///
/// Immutable but for the views, which are made once per process; thread-safe.
class Column {
 public:
  /// What a column is made of, and what a pickle carries.
  struct Parts {
    std::string name;
    DType dtype = DType::kUInt8;
    std::vector<std::int64_t> row_shape;
    std::vector<std::shared_ptr<Storage>> storages;
    std::vector<RowLayout> layouts;
    std::vector<Shard> shards;
    std::vector<std::int64_t> rows;  ///< per shard
  };

  /// \throws Error kSchema when the parts do not fit together or a row would lie outside its storage
  explicit Column(Parts parts);

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] DType dtype() const noexcept { return dtype_; }
  [[nodiscard]] const std::vector<std::int64_t>& row_shape() const noexcept { return row_shape_; }
  [[nodiscard]] std::int64_t row_bytes() const noexcept { return row_bytes_; }
  [[nodiscard]] std::int64_t num_rows() const noexcept { return index_.num_rows(); }
  [[nodiscard]] const CumulativeIndex& index() const noexcept { return index_; }
  [[nodiscard]] std::span<const Shard> shards() const noexcept { return shards_; }
  [[nodiscard]] std::span<const RowLayout> layouts() const noexcept { return layouts_; }
  [[nodiscard]] std::span<const std::shared_ptr<Storage>> storages() const noexcept { return storages_; }
  [[nodiscard]] Storage& storage_of(std::int64_t shard) const noexcept;
  [[nodiscard]] const RowLayout& layout_of(std::int64_t shard) const noexcept;

  /// The shards' addresses. The first call in a process opens every storage.
  ///
  /// \throws Error kShard, with the first row of the file that cannot be opened
  [[nodiscard]] std::span<const ShardView> views();

  /// How to copy a row of each layout. \pre views() was called
  [[nodiscard]] std::span<const StridedRow> strided_rows() const noexcept { return strided_rows_; }

  /// The same for a shard's rows. \pre views() was called
  [[nodiscard]] const StridedRow& strided_row_of(std::int64_t shard) const noexcept {
    return strided_rows_[shards_[static_cast<std::size_t>(shard)].layout];
  }

  /// True when every row is contiguous, in native byte order and mapped. \pre views() was called
  [[nodiscard]] bool is_plain() const noexcept { return plain_; }

  /// The same for the rows of one shard. \pre views() was called
  [[nodiscard]] bool is_plain(std::int64_t shard) const noexcept {
    return views_[static_cast<std::size_t>(shard)].first_row != nullptr && strided_row_of(shard).is_plain();
  }

  /// Tells the storages how these rows will be touched, when they are more than memory can hold and the
  /// pattern has changed. \pre views() was called
  void advise_for(std::span<const std::int64_t> rows);

  /// Whether its files are known to be more than memory can hold; false before views() was called.
  [[nodiscard]] bool exceeds_memory() const noexcept {
    return opened_.load(std::memory_order_acquire) && !fits_in_memory_;
  }

  /// Asks the system to read these rows soon, when all rows are more than memory can hold (the rest it reads
  /// ahead as well by itself). Only rows that lie end to end, overlap, or are asked for one by one. \pre in
  /// range
  ///
  /// \throws Error kShard
  void will_need(std::int64_t first, std::int64_t count);

  /// The same for single rows. \pre every row is in range
  void will_need(std::span<const std::int64_t> rows);

  /// Says that these rows will not be needed soon: those that lie end to end in their files or overlap, and
  /// follow one another or are large. \pre every row is in range
  void will_not_need(std::span<const std::int64_t> rows) const noexcept;

  /// The same for rows that follow one another, when they are large together. \pre in range
  void will_not_need(std::int64_t first, std::int64_t count) const noexcept;

  /// Looks, at most once a second and at a thousand files at a time, whether files have changed.
  ///
  /// \throws Error kShard, with the first row of the file that has
  void check_now_and_then();

  /// Turns the address at which a copy of these rows failed into an error that names file, field and row.
  /// When the file is found changed that is what it says. \pre views() was called
  [[noreturn]] void raise_fault(const void* address, std::span<const std::int64_t> rows) const;

  /// The same where it is known which row was copied, if any.
  [[noreturn]] void raise_fault(const void* address, std::optional<std::int64_t> row) const;

 private:
  void require_consistent() const;
  void require_in_storage(std::size_t shard) const;
  [[nodiscard]] bool is_contiguous(const RowLayout& layout) const;
  [[nodiscard]] bool has_byte(std::int64_t row, const std::byte* address) const noexcept;
  [[nodiscard]] Error failure_at(const std::byte* address) const;
  template <typename Use>
  void use_storages(std::size_t first, std::size_t count, const Use& use) const;
  void open();
  template <typename Advise>
  void for_each_extent(std::int64_t first, std::int64_t count, const Advise& advise) const;

  std::string name_;
  DType dtype_;
  std::vector<std::int64_t> row_shape_;
  std::int64_t row_bytes_ = 0;
  std::vector<std::shared_ptr<Storage>> storages_;
  std::vector<RowLayout> layouts_;
  std::vector<Shard> shards_;
  CumulativeIndex index_;

  std::atomic<bool> opened_{false};
  std::vector<ShardView> views_;          ///< written once, before opened_
  std::vector<StridedRow> strided_rows_;  ///< likewise
  bool plain_ = false;

  bool fits_in_memory_ = true;  ///< likewise
  std::atomic<AccessPattern> advised_{AccessPattern::kSequential};

  std::atomic<std::int64_t> next_check_ns_{0};
  std::atomic<std::size_t> next_checked_{0};
};

/// `a` and then `b`, of the same dtype and row shape.
///
/// \throws Error kSchema naming both
[[nodiscard]] std::shared_ptr<Column> concatenate(const Column& a, const Column& b);

}  // namespace penstock
