#pragma once

#include <memory>
#include <utility>

#include "assemble/source.h"

namespace penstock {

/// What `Source::in_batch` makes: the rows of a whole source, arranged for one batch. Everything but where
/// rows go is the whole's.
class BatchSource : public Source {
 public:
  explicit BatchSource(std::shared_ptr<Source> whole) : whole_(std::move(whole)) {}

  [[nodiscard]] std::span<const Field> fields() const noexcept final { return whole_->fields(); }
  [[nodiscard]] std::int64_t num_rows() const noexcept final { return whole_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const final { return whole_->rows_per_shard(); }
  [[nodiscard]] std::int64_t num_shards() const noexcept final { return whole_->num_shards(); }
  [[nodiscard]] std::int64_t length_of(std::size_t field, std::int64_t row) const noexcept final {
    return whole_->length_of(field, row);
  }
  [[nodiscard]] bool asks_ahead() const noexcept final { return whole_->asks_ahead(); }
  void will_need(std::int64_t first, std::int64_t count) final { whole_->will_need(first, count); }
  void will_need(std::span<const std::int64_t> rows) final { whole_->will_need(rows); }
  void will_not_need(std::span<const std::int64_t> rows) const noexcept final { whole_->will_not_need(rows); }
  [[nodiscard]] std::uint64_t fingerprint() const final { return whole_->fingerprint(); }
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t /*field*/) final { return shared_from_this(); }

  /// Never. \throws Error kSchema
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& /*other*/) const final {
    throw Error(ErrorKind::kSchema, "a batch is complete").in_field(fields().front().name);
  }

 private:
  std::shared_ptr<Source> whole_;
};

}  // namespace penstock
