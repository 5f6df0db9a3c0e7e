#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "assemble/batch_buffer.h"
#include "assemble/table.h"

namespace penstock {

/// Hands a filled buffer to Python as a DLPack capsule; whoever drops the tensor gives the buffer back,
/// from any thread and without the GIL.
///
/// The capsule has this dtype and shape, or, for the dtypes that DLPack cannot name in every torch we support
/// (`is_dlpack_dtype`), is one flat array of bytes.
[[nodiscard]] pybind11::capsule to_capsule(BatchBuffer buffer, DType dtype, std::vector<std::int64_t> shape);

[[nodiscard]] bool is_dlpack_dtype(DType dtype) noexcept;

/// A tensor in host memory that came as a capsule. Holds it until destroyed.
class BorrowedTensor {
 public:
  /// \throws Error kSchema unless it is in host memory
  explicit BorrowedTensor(const pybind11::capsule& capsule);

  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] const std::vector<std::int64_t>& shape() const noexcept { return shape_; }
  [[nodiscard]] const std::vector<std::int64_t>& strides() const noexcept { return strides_; }  ///< in bytes
  [[nodiscard]] std::int64_t item_bytes() const noexcept { return item_bytes_; }
  [[nodiscard]] const std::shared_ptr<void>& owner() const noexcept { return owner_; }

  /// Its memory, when it is contiguous and of that size.
  ///
  /// \throws Error kSchema otherwise
  [[nodiscard]] std::byte* require_contiguous(std::int64_t bytes) const;

 private:
  std::shared_ptr<void> owner_;  ///< the DLManagedTensor
  std::vector<std::int64_t> shape_;
  std::vector<std::int64_t> strides_;
  std::int64_t item_bytes_ = 0;
};

/// The tensors that a batch shall be assembled in, one per field. Holds them until destroyed.
class OutputTensors {
 public:
  OutputTensors() = default;

  /// \throws Error kSchema unless each is contiguous, in host memory, and of its field's bytes for so many
  /// rows
  OutputTensors(const Table& table, std::size_t num_rows, const std::vector<pybind11::capsule>& capsules);

  [[nodiscard]] const std::vector<std::byte*>& addresses() const noexcept { return addresses_; }

 private:
  std::vector<BorrowedTensor> tensors_;
  std::vector<std::byte*> addresses_;
};

}  // namespace penstock
