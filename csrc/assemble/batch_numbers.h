#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "assemble/source.h"

namespace penstock {

/// What stands behind a ragged field in a batch: int64 numbers of every row, without reading a file.
class BatchNumbers : public Source {
 public:
  /// \param shape  of a row's numbers
  BatchNumbers(const Source& rows, std::size_t field, std::vector<std::int64_t> shape)
      : field_{rows.fields()[field].name + "_lengths", DType::kInt64, std::move(shape),
               sizeof(std::int64_t)} {
    for (const std::int64_t side : field_.row_shape) field_.row_bytes *= side;
  }

  [[nodiscard]] std::span<const Field> fields() const noexcept final { return {&field_, 1}; }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const final { return {num_rows()}; }
  [[nodiscard]] std::int64_t num_shards() const noexcept final { return 1; }
  [[nodiscard]] std::int64_t row_work() const noexcept final { return field_.row_bytes; }
  [[nodiscard]] bool asks_ahead() const noexcept final { return false; }
  void will_need(std::int64_t /*first*/, std::int64_t /*count*/) final {}
  void will_need(std::span<const std::int64_t> /*rows*/) final {}
  void will_not_need(std::span<const std::int64_t> /*rows*/) const noexcept final {}
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t /*field*/) final { return shared_from_this(); }

 private:
  Field field_;
};

}  // namespace penstock
