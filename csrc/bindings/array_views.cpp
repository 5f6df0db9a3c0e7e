#include "bindings/array_views.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace py = pybind11;

namespace penstock {
namespace {

constexpr std::string_view kPlainKinds = "biufc";
constexpr std::string_view kNativeOrders = "=|";
constexpr std::uint8_t kFloatCode = 2;
constexpr std::uint8_t kComplexCode = 5;  ///< may be conjugated when read
constexpr std::int32_t kHostDevices[] = {1, 3, 11};
constexpr std::uint32_t kExchangeMajor = 1;

const DLPackExchangeAPI* exchange_api_of(PyTypeObject* type) {
  const py::object capsule =
      py::getattr(py::handle(reinterpret_cast<PyObject*>(type)), "__dlpack_c_exchange_api__", py::none());
  if (PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api") == 0) return nullptr;
  const auto* api =
      static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  const bool known = api->header.version.major == kExchangeMajor;
  return known && api->dltensor_from_py_object_no_sync != nullptr ? api : nullptr;
}

bool is_in_host_memory(const DLTensor& tensor) noexcept {
  return std::ranges::find(kHostDevices, tensor.device.device_type) != std::end(kHostDevices);
}

bool operator==(const DLDataType& a, const DLDataType& b) noexcept {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

/// An attribute's or a method's answer; an exception is no.
bool is_false(PyObject* answer) noexcept {
  if (answer == nullptr) PyErr_Clear();
  const bool result = answer == Py_False;
  Py_XDECREF(answer);
  return result;
}

}  // namespace

bool lies_end_to_end(const ArrayView& view, std::int64_t item_bytes) noexcept {
  std::int64_t expected = item_bytes;
  for (std::size_t i = view.num_dims; i-- > 0;) {
    if (view.lengths[i] != 1 && view.strides[i] != expected) return false;
    expected *= view.lengths[i];
  }
  return true;
}

ArrayViewer::ArrayViewer(PyObject* first)
    : type_(Py_TYPE(first)), descr_(py::dtype::of<std::uint8_t>()), is_neg_("is_neg") {
  if (py::isinstance<py::array>(first)) {
    open_array(py::reinterpret_borrow<py::array>(first));
  } else {
    open_tensor(first);
  }
}

void ArrayViewer::open_array(const py::array& first) {
  descr_ = first.dtype();
  const bool is_plain = kPlainKinds.find(descr_.kind()) != std::string_view::npos &&
                        kNativeOrders.find(descr_.byteorder()) != std::string_view::npos;
  if (is_plain) item_bytes_ = descr_.itemsize();
}

void ArrayViewer::open_tensor(PyObject* first) {
  exchange_api_ = exchange_api_of(type_);
  if (exchange_api_ == nullptr) return;
  const py::object property = py::getattr(reinterpret_cast<PyObject*>(type_), "requires_grad", py::none());
  DLTensor tensor{};
  if (Py_TYPE(property.ptr()) != &PyGetSetDescr_Type || !borrow(first, tensor)) return;
  requires_grad_ = reinterpret_cast<const PyGetSetDescrObject*>(property.ptr());
  dtype_ = tensor.dtype;
  const std::int64_t bits = std::int64_t{tensor.dtype.bits} * tensor.dtype.lanes;
  if (bits % 8 == 0 && dtype_.code != kComplexCode) item_bytes_ = bits / 8;
}

/// Only the imaginary part of what is conjugated when read is negated when read: every other number of
/// something, or a single one. (To ask a tensor takes as long as to copy a short row.)
bool ArrayViewer::may_be_negated(const ArrayView& view) const {
  if (dtype_.code != kFloatCode) return false;
  std::int64_t elements = 1;
  for (std::size_t i = 0; i < view.num_dims; ++i) elements *= view.lengths[i];
  return elements == 1 || !lies_end_to_end(view, item_bytes_);
}

bool ArrayViewer::borrow(PyObject* object, DLTensor& tensor) const {
  if (exchange_api_->dltensor_from_py_object_no_sync(object, &tensor) == 0) return true;
  PyErr_Clear();
  return false;
}

bool ArrayViewer::view(PyObject* object, ArrayView& view) const {
  if (item_bytes_ == 0 || Py_TYPE(object) != type_) return false;
  return exchange_api_ == nullptr ? view_array(object, view) : view_tensor(object, view);
}

bool ArrayViewer::view_array(PyObject* object, ArrayView& view) const {
  const auto array = py::reinterpret_borrow<py::array>(object);
  const py::dtype descr = array.dtype();
  if (descr.ptr() != descr_.ptr() && !descr.equal(descr_)) return false;
  view.data = static_cast<const std::byte*>(array.data());
  view.num_dims = static_cast<std::size_t>(array.ndim());
  if (view.num_dims > ArrayView::kMostDims) return false;
  for (std::size_t i = 0; i < view.num_dims; ++i) {
    view.lengths[i] = array.shape()[i];
    view.strides[i] = array.strides()[i];
  }
  return true;
}

bool ArrayViewer::view_tensor(PyObject* object, ArrayView& view) const {
  DLTensor tensor{};
  if (!is_false(requires_grad_->d_getset->get(object, requires_grad_->d_getset->closure))) return false;
  if (!borrow(object, tensor) || !is_in_host_memory(tensor) || !(tensor.dtype == dtype_)) return false;
  view.data = static_cast<const std::byte*>(tensor.data) + tensor.byte_offset;
  view.num_dims = static_cast<std::size_t>(tensor.ndim);
  if (view.num_dims > ArrayView::kMostDims || (view.num_dims > 0 && tensor.strides == nullptr)) return false;
  for (std::size_t i = 0; i < view.num_dims; ++i) {
    view.lengths[i] = tensor.shape[i];
    view.strides[i] = tensor.strides[i] * item_bytes_;
  }
  return !may_be_negated(view) || is_false(PyObject_CallMethodNoArgs(object, is_neg_.ptr()));
}

}  // namespace penstock
