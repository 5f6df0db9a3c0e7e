#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "assemble/batch_numbers.h"
#include "assemble/image_batch.h"

namespace penstock {

/// Height and width of the images of a batch: rows of two int64 numbers. Gathered after the images.
class SizeSource final : public BatchNumbers {
 public:
  explicit SizeSource(std::shared_ptr<const ImageBatch> batch);

  [[nodiscard]] std::int64_t num_rows() const noexcept override { return batch_->num_rows(); }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
  [[nodiscard]] std::uint64_t fingerprint() const override { return batch_->fingerprint(); }
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  std::shared_ptr<const ImageBatch> batch_;
};

}  // namespace penstock
