#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bindings/dlpack.h"

namespace penstock {

/// How an array lies in memory.
struct ArrayView {
  static constexpr std::size_t kMostDims = 64;

  const std::byte* data;
  std::size_t num_dims;
  std::array<std::int64_t, kMostDims> lengths;
  std::array<std::int64_t, kMostDims> strides;  ///< in bytes

  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept { return {lengths.data(), num_dims}; }
};

/// Whether its elements lie in row-major order with nothing between them.
[[nodiscard]] bool lies_end_to_end(const ArrayView& view, std::int64_t item_bytes) noexcept;

/// Looks at arrays that are all of the first one's type and dtype: numpy's, or tensors of a type that has
/// DLPack's table of functions, which is as fast. Nothing is copied and no reference is taken.
///
/// single-owner, under the GIL
class ArrayViewer {
 public:
  /// \param first  any object; one that is no such array makes every `view` false
  explicit ArrayViewer(PyObject* first);

  /// Bytes of one element; 0: `first` is no such array.
  [[nodiscard]] std::int64_t item_bytes() const noexcept { return item_bytes_; }

  /// Where an array lies, as long as it lives and nobody resizes it.
  ///
  /// \returns false, and leaves `view` undefined, for what is not of the first one's type and dtype, in host
  /// memory, and just its bytes: no objects, no other byte order, no tensor that wants its gradient or is
  /// negated when read
  [[nodiscard]] bool view(PyObject* object, ArrayView& view) const;

 private:
  void open_array(const pybind11::array& first);
  void open_tensor(PyObject* first);
  [[nodiscard]] bool view_array(PyObject* object, ArrayView& view) const;
  [[nodiscard]] bool view_tensor(PyObject* object, ArrayView& view) const;
  [[nodiscard]] bool may_be_negated(const ArrayView& view) const;
  [[nodiscard]] bool borrow(PyObject* object, DLTensor& tensor) const;

  PyTypeObject* type_;
  std::int64_t item_bytes_ = 0;
  pybind11::dtype descr_;                            ///< of numpy's arrays
  const DLPackExchangeAPI* exchange_api_ = nullptr;  ///< nullptr: they are numpy's
  DLDataType dtype_{};
  const PyGetSetDescrObject* requires_grad_ = nullptr;  ///< the type's: half the time of asking by name
  pybind11::str is_neg_;
};

}  // namespace penstock
