#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace penstock {

/// Row numbers as Python gave them: checked, and ours (an array could change under us once the GIL is
/// released). single-owner
class Rows {
 public:
  /// \param indices  a list or tuple of ints, or an integer array of any width; negative ones count from the
  /// end
  /// \throws Error kSchema for anything that is no whole number (bool and float too), kIndex outside
  ///         [-num_rows, num_rows)
  Rows(const pybind11::object& indices, std::int64_t num_rows);

  [[nodiscard]] std::span<const std::int64_t> span() const noexcept { return {numbers_.get(), size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  void take_sequence(const pybind11::object& sequence);
  void take_array(const pybind11::array& array);
  std::span<std::int64_t> make_room(std::size_t count);

  std::unique_ptr<std::int64_t[]> numbers_;  // NOLINT(modernize-avoid-c-arrays): not to be zeroed first
  std::size_t size_ = 0;
};

using Int64Array = pybind11::array_t<std::int64_t, pybind11::array::c_style | pybind11::array::forcecast>;

/// A copy of what an array holds. What is checked and then used must be ours: others may write to the array
/// in between, as they may without the GIL.
template <typename T, int kFlags>
[[nodiscard]] std::vector<T> vector_of(const pybind11::array_t<T, kFlags>& array) {
  static_assert((kFlags & pybind11::array::c_style) != 0);
  return {array.data(), array.data() + array.size()};
}

/// A copy, shape (n,), int64.
[[nodiscard]] pybind11::array_t<std::int64_t> array_of(std::span<const std::int64_t> numbers);

}  // namespace penstock
