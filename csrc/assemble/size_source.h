#pragma once

#include <memory>
#include <utility>

#include "assemble/image_batch.h"
#include "assemble/source.h"

namespace penstock {

/// Height and width of the images of a batch: rows of two int64 numbers. Gathered after the images.
class SizeSource final : public Source {
 public:
  explicit SizeSource(std::shared_ptr<const ImageBatch> batch);

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return {&field_, 1}; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return batch_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override { return {num_rows()}; }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return 1; }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return field_.row_bytes; }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
  [[nodiscard]] bool asks_ahead() const noexcept override { return false; }
  void will_need(std::int64_t /*first*/, std::int64_t /*count*/) override {}
  void will_need(std::span<const std::int64_t> /*rows*/) override {}
  void will_not_need(std::span<const std::int64_t> /*rows*/) const noexcept override {}
  [[nodiscard]] std::uint64_t fingerprint() const override { return batch_->fingerprint(); }
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t /*field*/) override { return shared_from_this(); }
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  std::shared_ptr<const ImageBatch> batch_;
  Field field_;
};

}  // namespace penstock
