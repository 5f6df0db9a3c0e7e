#pragma once

#include <memory>

#include "assemble/arrangement.h"
#include "assemble/ragged_source.h"

namespace penstock {

/// Rows of different lengths as they come in one batch.
class RaggedBatch final : public Source {
 public:
  RaggedBatch(std::shared_ptr<RaggedSource> source, Arrangement arrangement);

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return {&field_, 1}; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return source_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override {
    return source_->rows_per_shard();
  }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return source_->num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return arrangement_.bytes_per_row(); }
  [[nodiscard]] std::vector<std::int64_t> batch_shape(std::size_t /*field*/,
                                                      std::int64_t /*rows*/) const override {
    return arrangement_.shape();
  }
  [[nodiscard]] std::int64_t place(std::size_t /*field*/, std::int64_t position) const noexcept override {
    return arrangement_.place(position);
  }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override {
    source_->gather(rows, arrangement_, outs.front());
  }
  [[nodiscard]] bool asks_ahead() const noexcept override { return source_->asks_ahead(); }
  void will_need(std::int64_t first, std::int64_t count) override { source_->will_need(first, count); }
  void will_need(std::span<const std::int64_t> rows) override { source_->will_need(rows); }
  void will_not_need(std::span<const std::int64_t> rows) const noexcept override {
    source_->will_not_need(rows);
  }
  [[nodiscard]] std::uint64_t fingerprint() const override { return source_->fingerprint(); }
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t /*field*/) override { return shared_from_this(); }
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  std::shared_ptr<RaggedSource> source_;
  Arrangement arrangement_;
  Field field_;
};

}  // namespace penstock
