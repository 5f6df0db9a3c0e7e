#include "index/strided.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace penstock {
namespace {

template <typename T>
T byte_swapped(T value) noexcept {
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <typename T>
void swap_all(std::byte* begin, const std::byte* end) noexcept {
  for (std::byte* at = begin; at != end; at += sizeof(T)) {
    T value;
    std::memcpy(&value, at, sizeof(T));
    value = byte_swapped(value);
    std::memcpy(at, &value, sizeof(T));
  }
}

template <int Bytes>
void copy_elements(std::byte* out, const std::byte* from, std::int64_t count, std::int64_t stride) noexcept {
  for (std::int64_t i = 0; i < count; ++i, out += Bytes, from += stride) {
    std::memcpy(out, from, static_cast<std::size_t>(Bytes));
  }
}

void copy_run(std::byte* out, const std::byte* from, std::int64_t bytes) noexcept {
  switch (bytes) {
    case 1: return copy_elements<1>(out, from, 1, 0);
    case 2: return copy_elements<2>(out, from, 1, 0);
    case 4: return copy_elements<4>(out, from, 1, 0);
    case 8: return copy_elements<8>(out, from, 1, 0);
    default: std::memcpy(out, from, static_cast<std::size_t>(bytes));
  }
}

/// The innermost loop with its size known at compile time: elements `stride` apart.
void copy_line(std::byte* out, const std::byte* from, std::int64_t run_bytes, std::int64_t count,
               std::int64_t stride) noexcept {
  switch (run_bytes) {
    case 1: return copy_elements<1>(out, from, count, stride);
    case 2: return copy_elements<2>(out, from, count, stride);
    case 4: return copy_elements<4>(out, from, count, stride);
    case 8: return copy_elements<8>(out, from, count, stride);
    default: break;
  }
  for (std::int64_t i = 0; i < count; ++i) copy_run(out + i * run_bytes, from + i * stride, run_bytes);
}

}  // namespace

StridedRow::StridedRow(const RowLayout& layout, std::span<const std::int64_t> row_shape, DType dtype)
    : run_bytes_(item_bytes(dtype)), swap_bytes_(layout.byte_swapped ? penstock::swap_bytes(dtype) : 1) {
  std::size_t inner = row_shape.size();
  for (; inner > 0 && (row_shape[inner - 1] == 1 || layout.strides[inner - 1] == run_bytes_); --inner) {
    run_bytes_ *= row_shape[inner - 1];
  }
  empty_ = std::find(row_shape.begin(), row_shape.end(), 0) != row_shape.end();
  for (std::size_t i = 0; i < inner; ++i) {
    if (row_shape[i] == 1) continue;
    const bool merges = num_dims_ > 0 && strides_[num_dims_ - 1] == layout.strides[i] * row_shape[i];
    if (!merges && num_dims_ == kMostDims) throw Error(ErrorKind::kSchema, "more than 64 dimensions");
    num_dims_ += merges ? 0 : 1;
    lengths_[num_dims_ - 1] = merges ? lengths_[num_dims_ - 1] * row_shape[i] : row_shape[i];
    strides_[num_dims_ - 1] = layout.strides[i];
  }
}

bool StridedRow::advance(std::array<std::int64_t, kMostDims>& position, std::int64_t& offset) const noexcept {
  for (std::size_t i = num_dims_; i-- > 0;) {
    offset += strides_[i];
    if (++position[i] < lengths_[i]) return true;
    offset -= strides_[i] * lengths_[i];
    position[i] = 0;
  }
  return false;
}

bool StridedRow::has_byte(std::int64_t offset) const noexcept {
  if (empty_) return false;
  std::array<std::int64_t, kMostDims> position{};
  std::int64_t run = 0;
  do {
    if (offset >= run && offset < run + run_bytes_) return true;
  } while (advance(position, run));
  return false;
}

void StridedRow::copy(std::byte* out, const std::byte* from) const noexcept {
  if (empty_) return;
  if (num_dims_ == 0) {
    std::memcpy(out, from, static_cast<std::size_t>(run_bytes_));
    return swap_in_place(out, out + run_bytes_);
  }
  const std::size_t inner = num_dims_ - 1;
  std::byte* to = out;
  std::array<std::int64_t, kMostDims> position{};
  std::int64_t offset = 0;
  do {
    copy_line(to, from + offset, run_bytes_, lengths_[inner], strides_[inner]);
    to += run_bytes_ * lengths_[inner];
    position[inner] = lengths_[inner] - 1;
    offset += strides_[inner] * (lengths_[inner] - 1);
  } while (advance(position, offset));
  swap_in_place(out, to);
}

void StridedRow::swap_in_place(std::byte* begin, std::byte* end) const noexcept {
  switch (swap_bytes_) {
    case 2: return swap_all<std::uint16_t>(begin, end);
    case 4: return swap_all<std::uint32_t>(begin, end);
    case 8: return swap_all<std::uint64_t>(begin, end);
    default: return;
  }
}

}  // namespace penstock
