#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "assemble/ragged_layout.h"
#include "base/dtype.h"
#include "base/error.h"

namespace penstock {

/// One named part of every sample.
struct Field {
  std::string name;
  DType dtype = DType::kUInt8;
  std::vector<std::int64_t> row_shape;
  std::int64_t row_bytes = 0;
  bool is_ragged = false;  ///< rows are any number of values, each of row_shape and row_bytes
  bool is_image = false;   ///< ragged ones: rows are images of any size, -1 in row_shape; row_bytes: a pixel
};

/// Where rows come from: of one field, or of several that are read together.
///
/// Thread-safe; immutable but for what it keeps open.
class Source : public std::enable_shared_from_this<Source> {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  [[nodiscard]] virtual std::span<const Field> fields() const noexcept = 0;
  [[nodiscard]] virtual std::int64_t num_rows() const noexcept = 0;

  /// Rows of each of its files, or arrays in them.
  [[nodiscard]] virtual std::vector<std::int64_t> rows_per_shard() const = 0;
  [[nodiscard]] virtual std::int64_t num_shards() const noexcept = 0;

  /// What a row costs: its bytes, and for other work as many as could be copied meanwhile.
  [[nodiscard]] virtual std::int64_t row_work() const noexcept = 0;

  /// Values of a row of a ragged field. \pre in range
  [[nodiscard]] virtual std::int64_t length_of(std::size_t field, std::int64_t row) const noexcept;

  /// These rows as they come in one batch, to be gathered: itself where no field is ragged, else a source for
  /// this batch alone, whose ragged fields have found their place and shape.
  ///
  /// \param paddings  one per field
  /// \pre every row is in [0, num_rows())
  [[nodiscard]] virtual std::shared_ptr<Source> in_batch(std::span<const std::int64_t> rows,
                                                         const RaggedLayout& layout,
                                                         std::span<const Padding> paddings);

  /// The lengths of a ragged field's rows, as a source with one field: of rows of values one number each, no
  /// more than `max_length`; of images height and width. \pre made by `in_batch`
  [[nodiscard]] virtual std::shared_ptr<Source> lengths(std::size_t field, std::int64_t max_length);

  /// Of a field's buffer in a batch of so many rows.
  [[nodiscard]] virtual std::vector<std::int64_t> batch_shape(std::size_t field, std::int64_t rows) const;

  /// Where in its buffer the row goes that has this position in the batch: bytes from the start.
  [[nodiscard]] virtual std::int64_t place(std::size_t field, std::int64_t position) const noexcept;

  /// Copies rows that follow one another in a batch, each field into its own buffer.
  ///
  /// \param outs  one per field: the place of the first of these rows
  /// \pre every row is in [0, num_rows()); ragged ones come from `in_batch`
  /// \throws Error kShard, kFormat, kSchema when a file can no longer be read, or is not what it was
  virtual void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) = 0;

  /// Whether its rows are better asked for before they are read: it is in use, and reading them waits for a
  /// disk.
  [[nodiscard]] virtual bool asks_ahead() const noexcept = 0;

  /// Asks the system to read rows soon, where that may help. \pre in range
  ///
  /// \throws Error kShard
  virtual void will_need(std::int64_t first, std::int64_t count) = 0;
  virtual void will_need(std::span<const std::int64_t> rows) = 0;

  /// Says that rows will not be needed soon. \pre in range
  virtual void will_not_need(std::span<const std::int64_t> rows) const noexcept = 0;

  /// Tells it from others: by its fields, its shards' lengths, its files' sizes; not by where they lie, nor
  /// by their contents.
  [[nodiscard]] virtual std::uint64_t fingerprint() const = 0;

  /// One of its fields alone.
  [[nodiscard]] virtual std::shared_ptr<Source> select(std::size_t field) = 0;

  /// Its rows and then those of `other`.
  ///
  /// \throws Error kSchema when they are of different kinds, or disagree in dtype or row shape
  [[nodiscard]] virtual std::shared_ptr<Source> followed_by(const Source& other) const = 0;

  /// Whether reading a row twice may give two things, in two epochs.
  [[nodiscard]] virtual bool is_random() const noexcept { return false; }

  /// The same rows with what is random drawn anew, by this key: itself where nothing is.
  [[nodiscard]] virtual std::shared_ptr<Source> in_epoch(std::uint64_t /*key*/) { return shared_from_this(); }
};

/// What `followed_by` throws when the other source is not like it.
[[nodiscard]] Error different_kinds(const Field& field);

/// Of names, dtypes and row shapes.
[[nodiscard]] std::uint64_t fingerprint_of(std::span<const Field> fields);

}  // namespace penstock
