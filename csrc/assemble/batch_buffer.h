#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock {

/// Memory for one field of one batch, recycled: when it is given back, the next batch of about that
/// size gets it, its pages already there. (A fresh page costs a fault every 4 KiB, more than the copy
/// into it.) Large new memory is aligned for huge pages and asks for them.
///
/// What is given back is kept up to max(256 MiB, twice the largest of the last hundred or so that were asked
/// for); beyond that what has lain longest goes to the system. Buffers under 64 KiB are plain heap memory of
/// the exact size.
///
/// Aligned to 64 bytes. single-owner; giving back is thread-safe and needs no lock of Python's.
class BatchBuffer {
 public:
  BatchBuffer() = default;

  /// \throws std::bad_alloc
  explicit BatchBuffer(std::size_t bytes);
  BatchBuffer(BatchBuffer&& other) noexcept;
  BatchBuffer& operator=(BatchBuffer&& other) noexcept;
  BatchBuffer(const BatchBuffer&) = delete;
  BatchBuffer& operator=(const BatchBuffer&) = delete;
  ~BatchBuffer();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
};

/// Bytes of so many rows.
///
/// \throws std::bad_alloc when no memory can be that large
[[nodiscard]] std::size_t bytes_of_rows(std::size_t rows, std::int64_t row_bytes);

/// Bytes kept for coming batches at this moment.
[[nodiscard]] std::size_t recycled_bytes();

}  // namespace penstock
