#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/image_steps.h"
#include "assemble/source.h"
#include "image/pipeline.h"
#include "image/samples.h"

namespace penstock {

/// Rows of a column that are images of one size, 8 bits a sample, transformed straight into a batch.
///
/// A row is read where it lies, and only its part that the sample needs. What is random depends on the key
/// and the row alone: see `in_epoch`.
class ArrayImageSource final : public Source {
 public:
  struct Parts {
    std::shared_ptr<Column> rows;                   ///< of uint8: (height, width), or also channels, 1 to 4
    Layout layout = Layout::kChannelsFirst;         ///< of a row with channels
    std::shared_ptr<const ImagePipeline> pipeline;  ///< of which nothing is decoded
    std::shared_ptr<const ImageSteps> steps;
    std::uint8_t fill = 0;     ///< of a border
    bool has_channels = true;  ///< false: samples are (height, width)
    std::uint64_t key = 0;     ///< of what is random
  };

  /// \throws Error kSchema when the rows are no such images, or have other channels than the pipeline;
  /// kArgument as ImageSteps::plan
  explicit ArrayImageSource(Parts parts);

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return {&field_, 1}; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return rows_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override { return rows_->rows_per_shard(); }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return rows_->num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return row_work_; }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
  [[nodiscard]] bool asks_ahead() const noexcept override { return rows_->asks_ahead(); }
  void will_need(std::int64_t first, std::int64_t count) override { rows_->will_need(first, count); }
  void will_need(std::span<const std::int64_t> rows) override { rows_->will_need(rows); }
  void will_not_need(std::span<const std::int64_t> rows) const noexcept override {
    rows_->will_not_need(rows);
  }
  [[nodiscard]] std::uint64_t fingerprint() const override;
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t field) override;
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;
  [[nodiscard]] bool is_random() const noexcept override { return parts_.steps->is_random(); }
  [[nodiscard]] std::shared_ptr<Source> in_epoch(std::uint64_t key) override;

 private:
  struct Job;
  class Slice;

  [[nodiscard]] SamplePlan plan(std::int64_t row) const;
  [[nodiscard]] Job job_of(std::int64_t row, std::byte* out) const;
  [[nodiscard]] SampleView image_of(std::int64_t row, bool& is_buffered) const;
  [[nodiscard]] SampleView resized(std::int64_t row, const SampleView& image, const SamplePlan& plan,
                                   const Rect& seen) const;
  void copy_guarded(std::int64_t row, const SampleView& from, const PixelView& to) const;
  void run(const Slice& slice, std::span<const Job> jobs) const;

  Parts parts_;
  std::shared_ptr<ColumnSource> rows_;
  std::int32_t channels_;
  ImagePlan::Size in_size_;
  ImagePlan::Size size_{0, 0};  ///< of a sample
  Field field_;
  std::int64_t row_work_ = 0;
};

}  // namespace penstock
