#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"

namespace penstock {

/// How the elements of one row lie, when they do not simply lie end to end.
struct RowLayout {
  std::int64_t row_stride = 0;        ///< bytes from one row to the next
  std::vector<std::int64_t> strides;  ///< bytes, one per dimension of a row
  bool byte_swapped = false;          ///< elements are of the other byte order

  friend bool operator==(const RowLayout&, const RowLayout&) = default;
};

/// How to copy one row whose elements do not lie end to end, or are of the other byte order: runs of
/// contiguous elements under nested strides. Prepared once per layout.
///
/// Dimensions that lie end to end are merged; the innermost contiguous ones form the run.
class StridedRow {
 public:
  /// \throws Error kSchema when more than 64 dimensions remain
  StridedRow(const RowLayout& layout, std::span<const std::int64_t> row_shape, DType dtype);

  /// Copies the row at `from`, element [0, ..., 0], in row-major order to `out`.
  /// Owns nothing and allocates nothing: safe under the fault guard.
  void copy(std::byte* out, const std::byte* from) const noexcept;

  /// True when a row is one run with nothing to swap.
  [[nodiscard]] bool is_plain() const noexcept { return num_dims_ == 0 && swap_bytes_ == 1; }

  /// Whether one of a row's bytes is this one, counted from its first element.
  [[nodiscard]] bool has_byte(std::int64_t offset) const noexcept;

  /// Calls `fetch(byte offset from the row's first element, where to)` for each run, then swaps.
  /// For rows that must be read. `fetch` may throw.
  template <typename Fetch>
  void copy_runs(std::byte* out, Fetch&& fetch) const {
    std::byte* to = out;
    std::array<std::int64_t, kMostDims> position{};
    std::int64_t offset = 0;
    do {
      fetch(offset, std::span(to, static_cast<std::size_t>(run_bytes_)));
      to += run_bytes_;
    } while (advance(position, offset));
    swap_in_place(out, to);
  }

 private:
  static constexpr std::size_t kMostDims = 64;

  [[nodiscard]] bool advance(std::array<std::int64_t, kMostDims>& position,
                             std::int64_t& offset) const noexcept;
  void swap_in_place(std::byte* begin, std::byte* end) const noexcept;

  std::int64_t run_bytes_;
  std::int64_t swap_bytes_;  ///< 1: nothing to swap
  bool empty_ = false;
  std::size_t num_dims_ = 0;
  std::array<std::int64_t, kMostDims> lengths_{};
  std::array<std::int64_t, kMostDims> strides_{};
};

}  // namespace penstock
