#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "assemble/filler.h"
#include "assemble/ragged_layout.h"
#include "assemble/source.h"

namespace penstock {

/// Where the rows of one ragged field go in one batch.
///
/// Immutable; thread-safe.
class Arrangement {
 public:
  /// \param lengths  of the batch's rows, before they are cut
  /// \throws Error kArgument when the layout or the padding is impossible; std::bad_alloc when no memory can
  /// hold the batch
  Arrangement(const Field& field, std::span<const std::int64_t> lengths, const RaggedLayout& layout,
              const Padding& padding);

  [[nodiscard]] std::int64_t value_bytes() const noexcept { return value_bytes_; }

  /// Of the batch's buffer: (rows, width, ...), (width, rows, ...), or (values, ...).
  [[nodiscard]] std::vector<std::int64_t> shape() const;

  /// Where the row at this position goes: bytes from the buffer's start.
  [[nodiscard]] std::int64_t place(std::int64_t position) const noexcept;

  /// What a row takes of the buffer, on average.
  [[nodiscard]] std::int64_t bytes_per_row() const noexcept { return bytes_per_row_; }

  /// Values that are left of a row of so many.
  [[nodiscard]] std::int64_t kept(std::int64_t length) const noexcept {
    return length < layout_.max_length ? length : layout_.max_length;
  }

  /// The first of them.
  [[nodiscard]] std::int64_t first_kept(std::int64_t length) const noexcept {
    return layout_.cuts_front ? length - kept(length) : 0;
  }

  /// Puts the values of a row, which are no more than `kept`, at its place, and fills the rest. Owns nothing
  /// and allocates nothing: safe under the fault guard.
  ///
  /// \returns the place of the next row
  std::byte* put(std::byte* place, const std::byte* values, std::int64_t count) const noexcept;

 private:
  std::byte* put_across(std::byte* place, const std::byte* values, std::int64_t count) const noexcept;
  void lay_out(std::span<const std::int64_t> lengths);

  RaggedLayout layout_;
  std::int64_t value_bytes_;
  std::vector<std::int64_t> value_shape_;
  Filler filler_;
  std::int64_t rows_ = 0;
  std::int64_t bytes_per_row_ = 0;
  std::int64_t width_ = 0;            ///< padded
  std::vector<std::int64_t> firsts_;  ///< packed: of each row's values, and the number of all
};

}  // namespace penstock
