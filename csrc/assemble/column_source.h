#pragma once

#include <memory>

#include "assemble/source.h"
#include "index/column.h"

namespace penstock {

/// The rows of a column.
class ColumnSource final : public Source {
 public:
  explicit ColumnSource(std::shared_ptr<Column> column);

  [[nodiscard]] const Column& column() const noexcept { return *column_; }
  [[nodiscard]] const std::shared_ptr<Column>& shared_column() const noexcept { return column_; }

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return {&field_, 1}; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return column_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override {
    return column_->index().rows_per_shard();
  }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return column_->index().num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return field_.row_bytes; }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
  [[nodiscard]] bool asks_ahead() const noexcept override { return column_->exceeds_memory(); }
  void will_need(std::int64_t first, std::int64_t count) override { column_->will_need(first, count); }
  void will_need(std::span<const std::int64_t> rows) override { column_->will_need(rows); }
  void will_not_need(std::span<const std::int64_t> rows) const noexcept override {
    column_->will_not_need(rows);
  }
  [[nodiscard]] std::uint64_t fingerprint() const override;
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t field) override;
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  std::shared_ptr<Column> column_;
  Field field_;
};

}  // namespace penstock
