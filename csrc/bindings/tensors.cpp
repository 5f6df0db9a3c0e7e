#include "bindings/tensors.h"

#include <functional>
#include <numeric>
#include <utility>

#include "base/dtype.h"
#include "base/error.h"
#include "bindings/dlpack.h"
#include "formats/layout.h"

namespace py = pybind11;

namespace penstock {
namespace {

enum DLPackCode : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBFloat = 4, kComplex = 5, kBool = 6 };
enum DLPackDevice : std::int32_t { kCpu = 1, kCudaHost = 3, kRocmHost = 11 };

constexpr const char* kFresh = "dltensor";
constexpr const char* kUsed = "used_dltensor";

/// nothing: torch 2.4 cannot import it
struct NamedType {
  DType dtype;
  DLPackCode code;
};
constexpr NamedType kNamed[] = {
    {DType::kBool, kBool},       {DType::kUInt8, kUInt},        {DType::kInt8, kInt},
    {DType::kInt16, kInt},       {DType::kInt32, kInt},         {DType::kInt64, kInt},
    {DType::kFloat16, kFloat},   {DType::kFloat32, kFloat},     {DType::kFloat64, kFloat},
    {DType::kBFloat16, kBFloat}, {DType::kComplex64, kComplex}, {DType::kComplex128, kComplex},
};

const NamedType* find_named(DType dtype) noexcept {
  for (const NamedType& each : kNamed) {
    if (each.dtype == dtype) return &each;
  }
  return nullptr;
}

/// What the consumer's deleter gives back.
struct Exported {
  DLManagedTensor managed{};
  BatchBuffer buffer;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
};

void give_back(DLManagedTensor* managed) { delete static_cast<Exported*>(managed->manager_ctx); }

/// For a capsule that nobody consumed.
void drop_unused(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, kFresh) == 0) return;
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, kFresh));
  managed->deleter(managed);
}

void describe(Exported& exported, DType dtype, std::vector<std::int64_t> shape) {
  DLTensor& tensor = exported.managed.dl_tensor;
  const NamedType* named = find_named(dtype);
  if (named != nullptr) {
    exported.shape = std::move(shape);
    tensor.dtype = {named->code, static_cast<std::uint8_t>(8 * item_bytes(dtype)), 1};
  } else {
    exported.shape = {std::accumulate(shape.begin(), shape.end(), item_bytes(dtype), std::multiplies<>())};
    tensor.dtype = {kUInt, 8, 1};
  }
  exported.strides.resize(exported.shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = exported.shape.size(); i-- > 0;) {
    exported.strides[i] = stride;
    stride *= exported.shape[i];
  }
}

}  // namespace

bool is_dlpack_dtype(DType dtype) noexcept { return find_named(dtype) != nullptr; }

py::capsule to_capsule(BatchBuffer buffer, DType dtype, std::vector<std::int64_t> shape) {
  auto exported = std::make_unique<Exported>();
  exported->buffer = std::move(buffer);
  describe(*exported, dtype, std::move(shape));
  DLTensor& tensor = exported->managed.dl_tensor;
  tensor.data = exported->buffer.data();
  tensor.device = {kCpu, 0};
  tensor.ndim = static_cast<std::int32_t>(exported->shape.size());
  tensor.shape = exported->shape.data();
  tensor.strides = exported->strides.data();
  exported->managed.manager_ctx = exported.get();
  exported->managed.deleter = &give_back;
  PyObject* capsule = PyCapsule_New(&exported->managed, kFresh, &drop_unused);
  if (capsule == nullptr) throw py::error_already_set();
  (void)exported.release();  // NOLINT(bugprone-unused-return-value): the capsule has it
  return py::reinterpret_steal<py::capsule>(capsule);
}

BorrowedTensor::BorrowedTensor(const py::capsule& capsule) {
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kFresh));
  if (managed == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), kUsed);
  owner_ = std::shared_ptr<void>(managed, [](void* pointer) {
    auto* tensor = static_cast<DLManagedTensor*>(pointer);
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  });
  const DLTensor& tensor = managed->dl_tensor;
  const std::int32_t device = tensor.device.device_type;
  if (device != kCpu && device != kCudaHost && device != kRocmHost) {
    throw Error(ErrorKind::kSchema, "the tensor is not in host memory");
  }
  item_bytes_ = tensor.dtype.bits * tensor.dtype.lanes / 8;
  const auto ndim = static_cast<std::size_t>(tensor.ndim);
  shape_.assign(tensor.shape, tensor.shape + ndim);
  strides_.resize(ndim);
  std::int64_t stride = item_bytes_;
  for (std::size_t i = ndim; i-- > 0;) {
    strides_[i] = tensor.strides == nullptr ? stride : tensor.strides[i] * item_bytes_;
    stride *= shape_[i];
  }
}

std::byte* BorrowedTensor::data() const noexcept {
  const DLTensor& tensor = static_cast<DLManagedTensor*>(owner_.get())->dl_tensor;
  return static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
}

std::byte* BorrowedTensor::require_contiguous(std::int64_t bytes) const {
  std::int64_t expected = item_bytes_;
  bool contiguous = true;
  for (std::size_t i = shape_.size(); i-- > 0;) {
    contiguous = contiguous && (shape_[i] == 1 || strides_[i] == expected);
    expected *= shape_[i];
  }
  if (expected == bytes && (contiguous || bytes == 0)) return data();
  throw Error(ErrorKind::kSchema, "the output tensor does not fit")
      .needed(std::to_string(bytes) + " contiguous bytes")
      .found(shape_text(shape_) + (contiguous ? "" : ", not contiguous"));
}

OutputTensors::OutputTensors(const Table& table, std::size_t num_rows,
                             const std::vector<py::capsule>& capsules) {
  if (capsules.size() != table.fields().size()) throw py::value_error("one output per field");
  for (std::size_t i = 0; i < capsules.size(); ++i) {
    tensors_.emplace_back(capsules[i]);
    const auto bytes = static_cast<std::int64_t>(table.batch_bytes(i, static_cast<std::int64_t>(num_rows)));
    addresses_.push_back(tensors_.back().require_contiguous(bytes));
  }
}

}  // namespace penstock
