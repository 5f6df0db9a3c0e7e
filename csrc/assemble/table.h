#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "assemble/source.h"
#include "index/column.h"

namespace penstock {

/// The fields of a dataset, whose rows belong together: row i of each is sample i.
///
/// Immutable; thread-safe.
class Table : public std::enable_shared_from_this<Table> {
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

  /// These rows as they come in one batch: see Source. Behind the fields the lengths of the ragged ones (of
  /// images height and width), int64 and as they are in the batch. Itself where no field is ragged.
  ///
  /// \param paddings  one per field
  /// \pre every row is in [0, num_rows())
  [[nodiscard]] std::shared_ptr<Table> in_batch(std::span<const std::int64_t> rows,
                                                const RaggedLayout& layout,
                                                std::span<const Padding> paddings);

  [[nodiscard]] bool is_ragged() const noexcept;

  /// Of a field's buffer in a batch of so many rows.
  [[nodiscard]] std::vector<std::int64_t> batch_shape(std::size_t field, std::int64_t rows) const;

  /// How large that buffer is.
  ///
  /// \throws std::bad_alloc when no memory can be that large
  [[nodiscard]] std::size_t batch_bytes(std::size_t field, std::int64_t rows) const;

  /// Assembles a batch: the given rows of every field, each into its own buffer. Cut into slices for the
  /// pool's threads when it is large enough to pay for waking them.
  ///
  /// \param outs  one per field, of batch_bytes each
  /// \pre every row is in [0, num_rows()); a ragged table comes from `in_batch`, of these rows
  /// \throws Error as Source::gather
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) const;

  /// The same for positions [begin, end) of the batch, by this thread.
  void gather(std::span<const std::int64_t> rows, std::int64_t begin, std::int64_t end,
              std::span<std::byte* const> outs) const;

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

  /// The source of a field, and the field's number in it. \pre it exists
  [[nodiscard]] std::pair<Source*, std::size_t> source_of(std::size_t field) const noexcept;

  /// Whether a source is: see Source.
  [[nodiscard]] bool is_random() const noexcept;

  /// The same table with what is random drawn anew: see Source.
  [[nodiscard]] std::shared_ptr<Table> in_epoch(std::uint64_t key) const;

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
