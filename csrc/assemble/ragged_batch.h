#pragma once

#include <memory>
#include <utility>

#include "assemble/arrangement.h"
#include "assemble/batch_source.h"
#include "assemble/ragged_source.h"

namespace penstock {

/// Rows of different lengths as they come in one batch.
class RaggedBatch final : public BatchSource {
 public:
  RaggedBatch(std::shared_ptr<RaggedSource> source, Arrangement arrangement)
      : BatchSource(source), source_(std::move(source)), arrangement_(std::move(arrangement)) {}

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

 private:
  std::shared_ptr<RaggedSource> source_;
  Arrangement arrangement_;
};

}  // namespace penstock
