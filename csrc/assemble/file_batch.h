#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "assemble/arrangement.h"
#include "assemble/batch_source.h"
#include "assemble/file_source.h"

namespace penstock {

/// Rows that are files of different lengths, as they come in one batch.
class FileBatch final : public BatchSource {
 public:
  /// \param arrangements  of the ragged fields
  FileBatch(std::shared_ptr<FileSource> source, std::vector<std::optional<Arrangement>> arrangements);

  [[nodiscard]] std::int64_t row_work() const noexcept override { return source_->row_work(); }
  [[nodiscard]] std::vector<std::int64_t> batch_shape(std::size_t field, std::int64_t rows) const override;
  [[nodiscard]] std::int64_t place(std::size_t field, std::int64_t position) const noexcept override;
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;

 private:
  [[nodiscard]] std::size_t most_bytes(std::span<const std::int64_t> rows) const noexcept;
  [[nodiscard]] std::byte* put(std::size_t field, std::byte* to, const std::byte* values,
                               std::int64_t row) const noexcept;

  std::shared_ptr<FileSource> source_;
  std::vector<std::optional<Arrangement>> arrangements_;
};

}  // namespace penstock
