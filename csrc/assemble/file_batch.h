#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "assemble/arrangement.h"
#include "assemble/file_source.h"

namespace penstock {

/// Rows that are files of different lengths, as they come in one batch.
class FileBatch final : public Source {
 public:
  /// \param arrangements  of the ragged fields
  FileBatch(std::shared_ptr<FileSource> source, std::vector<std::optional<Arrangement>> arrangements);

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return source_->fields(); }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return source_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override {
    return source_->rows_per_shard();
  }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return source_->num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return source_->row_work(); }
  [[nodiscard]] std::vector<std::int64_t> batch_shape(std::size_t field, std::int64_t rows) const override;
  [[nodiscard]] std::int64_t place(std::size_t field, std::int64_t position) const noexcept override;
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
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
  [[nodiscard]] std::byte* put(std::size_t field, std::byte* to, const std::byte* values,
                               std::int64_t row) const noexcept;

  std::shared_ptr<FileSource> source_;
  std::vector<std::optional<Arrangement>> arrangements_;
};

}  // namespace penstock
