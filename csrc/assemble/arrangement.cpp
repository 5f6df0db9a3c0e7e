#include "assemble/arrangement.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/bytes.h"
#include "base/error.h"

namespace penstock {
namespace {

/// \throws std::bad_alloc
std::int64_t product(std::int64_t a, std::int64_t b) {
  const auto product = checked_multiply(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b));
  if (!product) throw std::bad_alloc();
  return static_cast<std::int64_t>(*product);
}

/// \throws std::bad_alloc
std::int64_t sum(std::int64_t a, std::int64_t b) {
  const auto sum = checked_add(static_cast<std::uint64_t>(a), static_cast<std::uint64_t>(b));
  if (!sum) throw std::bad_alloc();
  return static_cast<std::int64_t>(*sum);
}

std::int64_t rounded_up(std::int64_t length, std::int64_t multiple) {
  const auto most = checked_add(static_cast<std::uint64_t>(length), static_cast<std::uint64_t>(multiple - 1));
  if (!most) throw Error(ErrorKind::kArgument, "no row can be padded to such a multiple");
  return static_cast<std::int64_t>(*most) / multiple * multiple;
}

}  // namespace

Arrangement::Arrangement(const Field& field, std::span<const std::int64_t> lengths,
                         const RaggedLayout& layout, const Padding& padding)
    : layout_(layout),
      value_bytes_(field.row_bytes),
      value_shape_(field.row_shape),
      filler_(padding),
      rows_(static_cast<std::int64_t>(lengths.size())) {
  if (layout.max_length < 0 || layout.multiple < 1 ||
      padding.size() != static_cast<std::size_t>(item_bytes(field.dtype))) {
    throw Error(ErrorKind::kArgument, "rows cannot be laid out like this").in_field(field.name);
  }
  lay_out(lengths);
}

void Arrangement::lay_out(std::span<const std::int64_t> lengths) {
  if (!layout_.is_packed) {
    for (const std::int64_t length : lengths) width_ = std::max(width_, kept(length));
    width_ = rounded_up(width_, layout_.multiple);
    bytes_per_row_ = product(width_, value_bytes_);
    (void)product(bytes_per_row_, rows_);
    return;
  }
  firsts_.reserve(lengths.size() + 1);
  firsts_.push_back(0);
  for (const std::int64_t length : lengths) firsts_.push_back(sum(firsts_.back(), kept(length)));
  if (rows_ > 0) bytes_per_row_ = product(firsts_.back(), value_bytes_) / rows_ + 1;
}

std::vector<std::int64_t> Arrangement::shape() const {
  std::vector<std::int64_t> shape;
  if (layout_.is_packed) {
    shape = {firsts_.back()};
  } else if (layout_.batch_first) {
    shape = {rows_, width_};
  } else {
    shape = {width_, rows_};
  }
  shape.insert(shape.end(), value_shape_.begin(), value_shape_.end());
  return shape;
}

std::int64_t Arrangement::place(std::int64_t position) const noexcept {
  if (layout_.is_packed) return firsts_[static_cast<std::size_t>(position)] * value_bytes_;
  return position * (layout_.batch_first ? width_ : std::min<std::int64_t>(width_, 1)) * value_bytes_;
}

std::byte* Arrangement::put(std::byte* place, const std::byte* values, std::int64_t count) const noexcept {
  const std::int64_t bytes = count * value_bytes_;
  if (!layout_.is_packed && !layout_.batch_first) return put_across(place, values, count);
  const std::int64_t rest = layout_.is_packed ? 0 : (width_ - count) * value_bytes_;
  const std::int64_t front = layout_.pads_front ? rest : 0;
  if (front > 0) filler_.fill(place, front);
  if (bytes > 0) std::memcpy(place + front, values, static_cast<std::size_t>(bytes));
  if (rest > front) filler_.fill(place + bytes, rest);
  return place + bytes + rest;
}

/// Values of a row lie as far apart as there are rows.
std::byte* Arrangement::put_across(std::byte* place, const std::byte* values,
                                   std::int64_t count) const noexcept {
  const std::int64_t step = rows_ * value_bytes_;
  const std::int64_t front = layout_.pads_front ? width_ - count : 0;
  for (std::int64_t i = 0; i < width_; ++i) {
    const bool is_value = i >= front && i < front + count;
    if (!is_value) {
      filler_.fill(place + i * step, value_bytes_);
    } else if (value_bytes_ > 0) {
      std::memcpy(place + i * step, values + (i - front) * value_bytes_,
                  static_cast<std::size_t>(value_bytes_));
    }
  }
  return width_ == 0 ? place : place + value_bytes_;
}

}  // namespace penstock
