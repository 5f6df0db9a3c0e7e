#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "assemble/row_cache.h"
#include "assemble/slow_reads.h"
#include "assemble/source.h"
#include "formats/raw.h"
#include "index/file_index.h"

namespace penstock {

/// Rows that are files: row i is what file i of an index holds, an array to a field.
///
/// A row takes one open, a look whether the file is the one that was indexed, one read a field straight into
/// the batch, one close. A file that has been replaced since is taken as it is now, after its header has been
/// read again. No descriptor is kept.
class FileSource final : public Source {
 public:
  /// Files of one index.
  struct Part {
    std::shared_ptr<const FileIndex> index;
    std::optional<RawFormat> raw;
    std::shared_ptr<RowCache> cache;  ///< none: every row is read every time
    std::vector<std::size_t> chosen;  ///< which of the index's fields; none: all
  };

  explicit FileSource(const Part& part);

  [[nodiscard]] std::span<const Part> parts() const noexcept { return parts_; }

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return fields_; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return first_rows_.back(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override;
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return num_rows(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override;
  [[nodiscard]] std::int64_t length_of(std::size_t field, std::int64_t row) const noexcept override;
  [[nodiscard]] std::shared_ptr<Source> in_batch(std::span<const std::int64_t> rows,
                                                 const RaggedLayout& layout,
                                                 std::span<const Padding> paddings) override;
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> places) override;

  /// One row: each field as it is in the file, into a buffer of its own.
  ///
  /// \param outs  one per field, of `bytes_of` this row
  /// \throws Error as gather
  void take_row(std::int64_t row, std::span<std::byte* const> outs);

  /// Of a field in this row. \pre in range
  [[nodiscard]] std::int64_t bytes_of(std::size_t field, std::int64_t row) const noexcept;

  [[nodiscard]] bool asks_ahead() const noexcept override { return slow_reads_.lately(); }
  void will_need(std::int64_t first, std::int64_t count) override;
  void will_need(std::span<const std::int64_t> rows) override;
  void will_not_need(std::span<const std::int64_t> rows) const noexcept override;
  [[nodiscard]] std::uint64_t fingerprint() const override;
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t field) override;
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;

 private:
  using Outs = std::vector<std::byte*>;

  explicit FileSource(std::vector<Part> parts);

  [[nodiscard]] std::int64_t most_bytes(std::size_t field) const noexcept;
  [[nodiscard]] std::size_t part_of(std::int64_t row) const noexcept;
  void take_cached(const Part& part, std::int64_t file, std::span<std::byte* const> outs);
  void read_file(const Part& part, std::int64_t number, std::span<std::byte* const> outs);

  std::vector<Part> parts_;
  std::vector<std::int64_t> first_rows_;  ///< of each part, and the number of all rows
  std::vector<Field> fields_;
  std::int64_t row_bytes_ = 0;
  SlowReads slow_reads_;
};

}  // namespace penstock
