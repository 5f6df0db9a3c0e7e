#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/source.h"
#include "assemble/widen.h"

namespace penstock {

/// Windows of tokens, widened to int64: of a window of n + 1 tokens, field "x" is the first n and "y" the
/// last n.
///
/// Rows of a column are the windows, and lie as the column says; they may overlap. Each is read once, widened
/// and checked in the same pass.
class TokenSource final : public Source {
 public:
  /// What it is made of, and what a pickle carries.
  struct Parts {
    std::shared_ptr<Column> windows;         ///< rows of n + 1 tokens
    std::optional<std::int64_t> vocab_size;  ///< given: every token must be in [0, vocab_size)
    std::vector<std::int64_t> shifts;        ///< one per field: 0 is "x", 1 is "y"
  };

  /// \throws Error kSchema when the rows are no windows of tokens, or the parts do not fit together
  explicit TokenSource(Parts parts);

  [[nodiscard]] const Parts& parts() const noexcept { return parts_; }

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return fields_; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return windows_->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override {
    return windows_->rows_per_shard();
  }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return windows_->num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return row_work_; }

  /// \throws Error kFormat for a token outside the vocabulary, with its file and place
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;
  [[nodiscard]] bool asks_ahead() const noexcept override { return windows_->asks_ahead(); }
  void will_need(std::int64_t first, std::int64_t count) override { windows_->will_need(first, count); }
  void will_need(std::span<const std::int64_t> rows) override { windows_->will_need(rows); }
  void will_not_need(std::span<const std::int64_t> rows) const noexcept override {
    windows_->will_not_need(rows);
  }
  [[nodiscard]] std::uint64_t fingerprint() const override;
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t field) override;
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  struct Slice;

  [[nodiscard]] std::size_t widen_mapped(const Slice& slice);
  [[nodiscard]] std::size_t widen_read(const Slice& slice);
  [[noreturn]] void raise_outside(std::int64_t row);

  Parts parts_;
  std::shared_ptr<ColumnSource> windows_;
  TokenKernels kernels_;
  std::uint64_t limit_ = 0;  ///< 0: any token will do
  std::vector<Field> fields_;
  std::int64_t row_work_ = 0;
};

}  // namespace penstock
