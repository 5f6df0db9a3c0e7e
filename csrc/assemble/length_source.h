#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "assemble/batch_numbers.h"

namespace penstock {

/// The lengths of a ragged field's rows, no more than `max_length`: int64 numbers, known without reading
/// anything.
class LengthSource final : public BatchNumbers {
 public:
  LengthSource(std::shared_ptr<const Source> source, std::size_t field, std::int64_t max_length);

  [[nodiscard]] std::int64_t num_rows() const noexcept override { return source_->num_rows(); }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
  [[nodiscard]] std::uint64_t fingerprint() const override { return source_->fingerprint(); }
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  std::shared_ptr<const Source> source_;
  std::size_t number_;
  std::int64_t max_length_;
};

}  // namespace penstock
