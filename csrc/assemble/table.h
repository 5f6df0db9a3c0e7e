#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "assemble/source.h"
#include "index/column.h"

namespace penstock {

/// The fields of a dataset, whose rows belong together: row i of each is sample i.
///
/// Immutable; thread-safe.
class Table {
 public:
  /// \throws Error kSchema when there is no source or two disagree in their number of rows
  explicit Table(std::vector<std::shared_ptr<Source>> sources);

  /// The same, of columns.
  explicit Table(const std::vector<std::shared_ptr<Column>>& columns);

  [[nodiscard]] std::int64_t num_rows() const noexcept { return sources_.front()->num_rows(); }
  [[nodiscard]] std::span<const std::shared_ptr<Source>> sources() const noexcept { return sources_; }

  /// Of all sources, in their order.
  [[nodiscard]] std::span<const Field> fields() const noexcept { return fields_; }

  /// What a row costs now: see Source.
  [[nodiscard]] std::int64_t row_work() const noexcept;

  /// Assembles a batch: the given rows of every field, each into its own buffer.
  ///
  /// \param outs  one per field, rows.size() * row_bytes bytes each
  /// \pre every row is in [0, num_rows())
  /// \throws Error as Source::gather
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) const;

  /// Asks the system to read these rows soon. \pre in range
  ///
  /// \throws Error kShard
  void will_need(std::int64_t first, std::int64_t count) const;
  void will_need(std::span<const std::int64_t> rows) const;

  /// Says that these rows will not be needed soon.
  void will_not_need(std::span<const std::int64_t> rows) const noexcept;

  /// Whether rows are better asked for before they are read: see Source.
  [[nodiscard]] bool asks_ahead() const noexcept;

  /// Tells it from others: see Source.
  [[nodiscard]] std::uint64_t fingerprint() const;

  /// One field alone. \pre it exists
  [[nodiscard]] std::shared_ptr<Table> select(std::size_t field) const;

 private:
  std::vector<std::shared_ptr<Source>> sources_;
  std::vector<Field> fields_;
};

/// The rows of `a` and then those of `b`.
///
/// \throws Error kSchema when their fields disagree
[[nodiscard]] std::shared_ptr<Table> concatenate(const Table& a, const Table& b);

/// Makes negative row numbers count from the end, in place.
///
/// \throws Error kIndex naming the first number outside [-num_rows, num_rows)
void normalize_rows(std::span<std::int64_t> rows, std::int64_t num_rows);

}  // namespace penstock
