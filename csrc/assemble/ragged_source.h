#pragma once

#include <memory>
#include <optional>
#include <span>

#include "assemble/arrangement.h"
#include "assemble/source.h"
#include "index/column.h"
#include "index/offsets.h"

namespace penstock {

/// Rows of different lengths: row i is a run of a column's values.
///
/// A row is found by two searches, in the offsets and in the column's index; values are copied once, into the
/// batch.
class RaggedSource final : public Source {
 public:
  RaggedSource(std::shared_ptr<Column> values, Offsets offsets);

  [[nodiscard]] const Column& values() const noexcept { return *values_; }
  [[nodiscard]] const Offsets& offsets() const noexcept { return offsets_; }

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return {&field_, 1}; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return offsets_.num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override;
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return values_->index().num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override;
  [[nodiscard]] std::int64_t length_of(std::size_t field, std::int64_t row) const noexcept override;
  [[nodiscard]] std::shared_ptr<Source> in_batch(std::span<const std::int64_t> rows,
                                                 const RaggedLayout& layout,
                                                 std::span<const Padding> paddings) override;

  /// Never: rows have no place before `in_batch`. \throws Error kSchema
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;

  /// The same, arranged for one batch.
  void gather(std::span<const std::int64_t> rows, const Arrangement& arrangement, std::byte* place);

  [[nodiscard]] bool asks_ahead() const noexcept override { return values_->exceeds_memory(); }
  void will_need(std::int64_t first, std::int64_t count) override;
  void will_need(std::span<const std::int64_t> rows) override;
  void will_not_need(std::span<const std::int64_t> rows) const noexcept override;
  [[nodiscard]] std::uint64_t fingerprint() const override;
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t field) override;
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  [[nodiscard]] bool is_one_run(std::int64_t row) const noexcept;
  void gather_piecewise(std::span<const std::int64_t> rows, const Arrangement& arrangement, std::byte* place);
  std::byte* gather_runs(std::span<const std::int64_t> rows, const Arrangement& arrangement,
                         std::byte* place);
  std::byte* gather_through_copies(std::span<const std::int64_t> rows, const Arrangement& arrangement,
                                   std::byte* place);
  [[nodiscard]] std::optional<std::int64_t> row_at(const void* address, std::span<const std::int64_t> rows,
                                                   const Arrangement& arrangement) const noexcept;

  std::shared_ptr<Column> values_;
  Offsets offsets_;
  Field field_;
  bool have_values_end_to_end_;  ///< in each file
  bool are_within_shards_;       ///< no row has values in two files
};

}  // namespace penstock
