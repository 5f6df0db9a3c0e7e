#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "storage/shared_memory.h"

namespace penstock {

/// Rows that have been read once, kept in memory that forked children, and whoever has the descriptor, share.
///
/// Room for so many rows, first come first kept; nothing is ever given up. Memory is taken as rows come.
///
/// thread-safe, also between processes
class RowCache {
 public:
  /// \throws Error kShard when the system has no such memory
  RowCache(std::int64_t num_rows, std::int64_t row_bytes, std::uint64_t budget_bytes);

  /// One that another process made with the same numbers.
  ///
  /// \throws Error kSchema when it is none
  RowCache(std::shared_ptr<SharedMemory> memory, std::int64_t num_rows, std::int64_t row_bytes);

  /// Row `row`, or nullptr. \pre in range
  [[nodiscard]] const std::byte* find(std::int64_t row) const noexcept;

  /// A place for a row that is not there yet; nullptr when there is no room, or another thread brings it.
  [[nodiscard]] std::byte* begin(std::int64_t row) noexcept;

  /// The row has been written to its place: from now on it is found.
  void done(std::int64_t row, const std::byte* place) noexcept;

  /// The row could not be read: whoever is next may try again; the place is lost.
  void give_up(std::int64_t row) noexcept;

  /// Asks the processor for what `find` will look at.
  void prefetch_place(std::int64_t row) const noexcept;

  [[nodiscard]] std::int64_t rows_kept() const noexcept;
  [[nodiscard]] const SharedMemory& memory() const noexcept { return *memory_; }

 private:
  void populate(std::int64_t place) const noexcept;

  std::shared_ptr<SharedMemory> memory_;
  std::int64_t row_bytes_;
  std::int64_t capacity_ = 0;
  std::int64_t* next_place_ = nullptr;  ///< places given out
  std::int32_t* place_of_ = nullptr;    ///< per row: 0 nowhere, -1 being read, otherwise its place + 1
  std::byte* places_ = nullptr;
};

}  // namespace penstock
