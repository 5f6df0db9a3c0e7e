#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "assemble/arrangement.h"
#include "assemble/batch_buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "bindings/array_views.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/layouts.h"
#include "bindings/tensors.h"
#include "index/strided.h"

namespace py = pybind11;

namespace penstock {
namespace {

constexpr std::size_t kWorthTheGil = 1 << 18;  ///< bytes: a copy that takes some 30 us

/// Contiguous bytes that are to be copied.
struct Piece {
  std::byte* to;
  const std::byte* from;
  std::size_t bytes;
};

DType bits_of(std::int64_t item_bytes) {
  switch (item_bytes) {
    case 1: return DType::kInt8;
    case 2: return DType::kInt16;
    case 4: return DType::kInt32;
    case 8: return DType::kInt64;
    default: return DType::kComplex128;
  }
}

/// A tuple of what is in a list or tuple: looking at it may run Python code, which could change a list.
///
/// \throws Error kSchema unless there is something in it
py::tuple as_items(const py::object& values) {
  const bool is_sequence = PyList_CheckExact(values.ptr()) != 0 || PyTuple_CheckExact(values.ptr()) != 0;
  if (is_sequence && PySequence_Fast_GET_SIZE(values.ptr()) > 0) return {values};
  throw Error(ErrorKind::kSchema, "there is nothing to put together").needed("a list with something in it");
}

std::int64_t bytes_of(std::span<const std::int64_t> shape, std::int64_t item_bytes) noexcept {
  return std::accumulate(shape.begin(), shape.end(), item_bytes, std::multiplies<>());
}

/// A list or tuple of arrays, and the tensor that they are copied into, one after another.
class Assembly {
 public:
  /// \throws Error kSchema unless `values` is a list or tuple with something in it and `out` is contiguous
  Assembly(const py::object& values, const py::capsule& out)
      : values_(as_items(values)),
        out_(out),
        viewer_(PyTuple_GET_ITEM(values_.ptr(), 0)),
        total_bytes_(bytes_of(out_.shape(), out_.item_bytes())),
        row_bytes_(out_.shape().empty() || out_.shape()[0] == 0 ? 0 : total_bytes_ / out_.shape()[0]),
        to_(out_.require_contiguous(total_bytes_)) {}

  /// Copies every value as one row. \returns how many fit before the first that does not
  std::size_t stack() {
    if (out_.shape().empty() || out_.shape()[0] != static_cast<std::int64_t>(values_.size())) misfit();
    pieces_.reserve(values_.size());
    return each([this](const ArrayView& view) {
      if (!fits(view.shape())) return false;
      add(view, 1);
      return true;
    });
  }

  /// Copies the rows of all values, the first `begin` left out, until the tensor is full.
  /// \returns how many values fit before the first that does not
  std::size_t concatenate(std::int64_t begin) {
    if (out_.shape().empty() || begin < 0) misfit();
    std::int64_t skip = begin;
    std::int64_t wanted = out_.shape()[0];
    const std::size_t done = each([&](ArrayView& view) {
      if (view.num_dims == 0 || view.lengths[0] < skip || !fits(view.shape().subspan(1))) return false;
      view.data += skip * view.strides[0];
      view.lengths[0] = std::min(view.lengths[0] - skip, wanted);
      wanted -= view.lengths[0];
      skip = 0;
      add(view, view.lengths[0]);
      return true;
    });
    if (done == values_.size() && wanted != 0) misfit();
    return done;
  }

 private:
  [[noreturn]] static void misfit() { throw Error(ErrorKind::kSchema, "the output tensor does not fit"); }

  [[nodiscard]] bool fits(std::span<const std::int64_t> row_shape) const {
    const std::span<const std::int64_t> expected = std::span(out_.shape()).subspan(1);
    return viewer_.item_bytes() == out_.item_bytes() && std::ranges::equal(row_shape, expected);
  }

  template <typename Take>
  std::size_t each(Take&& take) {
    ArrayView view;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled as far as it is used
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (!viewer_.view(PyTuple_GET_ITEM(values_.ptr(), i), view) || !take(view)) return i;
    }
    copy_pieces();
    return values_.size();
  }

  /// So many rows. What does not lie end to end is copied at once.
  void add(const ArrayView& view, std::int64_t rows) {
    const auto bytes = static_cast<std::size_t>(rows * row_bytes_);
    if (lies_end_to_end(view, viewer_.item_bytes())) {
      pieces_.push_back({to_, view.data, bytes});
    } else {
      copy_strided(view);
    }
    to_ += bytes;
  }

  void copy_strided(const ArrayView& view) const {
    const RowLayout layout{0, {view.strides.begin(), view.strides.begin() + view.num_dims}, false};
    StridedRow(layout, view.shape(), bits_of(viewer_.item_bytes())).copy(to_, view.data);
  }

  void copy_pieces() const {
    if (total_bytes_ < static_cast<std::int64_t>(kWorthTheGil)) return copy_now();
    const GilReleased unlocked;
    copy_now();
  }

  void copy_now() const noexcept {
    for (const Piece& piece : pieces_) {
      if (piece.bytes > 0) std::memcpy(piece.to, piece.from, piece.bytes);
    }
  }

  py::tuple values_;
  BorrowedTensor out_;
  ArrayViewer viewer_;
  std::int64_t total_bytes_;
  std::int64_t row_bytes_;
  std::byte* to_;
  std::vector<Piece> pieces_;
};

std::size_t stack_rows(const py::object& values, const py::capsule& out) {
  return Assembly(values, out).stack();
}

std::size_t concatenate_rows(const py::object& chunks, std::int64_t begin, const py::capsule& out) {
  return Assembly(chunks, out).concatenate(begin);
}

/// Arrays that differ in their first dimension, laid out as one batch.
class Arranging {
 public:
  explicit Arranging(const py::object& values)
      : values_(as_items(values)), viewer_(PyTuple_GET_ITEM(values_.ptr(), 0)) {}

  /// \returns whether all are arrays of one kind that lie end to end
  bool look() {
    starts_.reserve(values_.size());
    lengths_.reserve(values_.size());
    ArrayView view;  // NOLINT(cppcoreguidelines-pro-type-member-init): filled as far as it is used
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (!viewer_.view(PyTuple_GET_ITEM(values_.ptr(), i), view) || !fits(view, i == 0)) return false;
      starts_.push_back(view.data);
      lengths_.push_back(view.lengths[0]);
    }
    return true;
  }

  py::tuple arrange(const RaggedLayout& layout, const Padding& padding) {
    const std::int64_t value_bytes = bytes_of(value_shape_, viewer_.item_bytes());
    const Field field{"", bits_of(viewer_.item_bytes()), value_shape_, value_bytes, true};
    const Arrangement arrangement(field, lengths_, layout, padding);
    const std::vector<std::int64_t> shape = arrangement.shape();
    BatchBuffer buffer(bytes_of_rows(1, bytes_of(shape, viewer_.item_bytes())));
    {
      const GilReleased unlocked;
      put(arrangement, buffer.data());
    }
    for (std::int64_t& length : lengths_) length = arrangement.kept(length);
    const py::array_t<std::int64_t> lengths(static_cast<py::ssize_t>(lengths_.size()), lengths_.data());
    return py::make_tuple(to_capsule(std::move(buffer), field.dtype, shape), lengths);
  }

 private:
  /// The first says what the others must be.
  bool fits(const ArrayView& view, bool is_first) {
    if (view.num_dims == 0 || !lies_end_to_end(view, viewer_.item_bytes())) return false;
    const std::span<const std::int64_t> shape = view.shape().subspan(1);
    if (is_first) value_shape_.assign(shape.begin(), shape.end());
    return std::ranges::equal(shape, value_shape_);
  }

  void put(const Arrangement& arrangement, std::byte* place) const noexcept {
    const std::int64_t value_bytes = arrangement.value_bytes();
    for (std::size_t i = 0; i < starts_.size(); ++i) {
      const std::byte* from = starts_[i] + arrangement.first_kept(lengths_[i]) * value_bytes;
      place = arrangement.put(place, from, arrangement.kept(lengths_[i]));
    }
  }

  py::tuple values_;
  ArrayViewer viewer_;
  std::vector<std::int64_t> value_shape_;
  std::vector<const std::byte*> starts_;
  std::vector<std::int64_t> lengths_;
};

/// The batch, its elements as whole numbers of their size, and the lengths in it; None: the values are no
/// such arrays.
py::object arrange_rows(const py::object& values, const LayoutTuple& layout, const std::string& padding) {
  Arranging arranging(values);
  if (!arranging.look()) return py::none();
  const Bytes element = as_bytes(padding);
  return arranging.arrange(layout_from(layout), Padding(element.begin(), element.end()));
}

/// Writes a float as float64, and an int as well. \returns whether it is one of them that fits
bool write_float(PyObject* number, std::byte* to) {
  if (PyFloat_CheckExact(number) == 0 && PyLong_CheckExact(number) == 0) return false;
  const double value = PyFloat_AsDouble(number);
  if (value == -1.0 && PyErr_Occurred() != nullptr) {  // an int beyond them
    PyErr_Clear();
    return false;
  }
  std::memcpy(to, &value, sizeof(value));
  return true;
}

/// Writes an int as int64. \returns whether it is one that fits
bool write_int(PyObject* number, std::byte* to) {
  if (PyLong_CheckExact(number) == 0) return false;
  int overflow = 0;
  const std::int64_t value = PyLong_AsLongLongAndOverflow(number, &overflow);
  if (overflow == 0) std::memcpy(to, &value, sizeof(value));
  return overflow == 0;
}

/// Writes a bool as a byte. \returns whether it is one
bool write_bool(PyObject* number, std::byte* to) {
  if (!PyBool_Check(number)) return false;
  *to = static_cast<std::byte>(number == Py_True);
  return true;
}

using Write = bool (*)(PyObject*, std::byte*);

Write writer_of(const std::string& kind) noexcept {
  if (kind == "float") return &write_float;
  return kind == "int" ? &write_int : &write_bool;
}

/// Writes Python's own numbers: as float64 ("float": floats and ints), as int64 ("int") or as bytes ("bool").
/// \returns how many fit before the first that does not
std::size_t stack_numbers(const py::object& values, const std::string& kind, const py::capsule& capsule) {
  const py::tuple numbers = as_items(values);
  const BorrowedTensor out(capsule);
  const Write write = writer_of(kind);
  const std::size_t size = kind == "bool" ? sizeof(bool) : sizeof(std::int64_t);
  std::byte* to = out.require_contiguous(static_cast<std::int64_t>(numbers.size() * size));
  for (std::size_t i = 0; i < numbers.size(); ++i, to += size) {
    if (!write(PyTuple_GET_ITEM(numbers.ptr(), i), to)) return i;
  }
  return numbers.size();
}

/// The columns of samples that are all tuples, or all lists, of one length; None: they are not.
py::object columns(const py::object& values) {
  const py::tuple samples = as_items(values);
  PyObject* first = PyTuple_GET_ITEM(samples.ptr(), 0);
  const auto size_of = [first](PyObject* sample) -> Py_ssize_t {
    const bool is_known = PyTuple_CheckExact(first) != 0 || PyList_CheckExact(first) != 0;
    return is_known && Py_TYPE(sample) == Py_TYPE(first) ? PySequence_Fast_GET_SIZE(sample) : -1;
  };
  const Py_ssize_t width = size_of(first);
  std::vector<py::tuple> found;
  found.reserve(static_cast<std::size_t>(std::max<Py_ssize_t>(width, 0)));
  for (Py_ssize_t k = 0; k < width; ++k) found.emplace_back(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    PyObject* sample = PyTuple_GET_ITEM(samples.ptr(), i);
    if (width < 0 || size_of(sample) != width) return py::none();
    for (Py_ssize_t k = 0; k < width; ++k) {
      PyObject* part = PySequence_Fast_GET_ITEM(sample, k);
      PyTuple_SET_ITEM(found[static_cast<std::size_t>(k)].ptr(), i, Py_NewRef(part));
    }
  }
  return py::cast(found);
}

/// Appends each sample to the list that `lists` has for its label, `sample[key]`.
/// \returns how many come before the first whose label is no int, bool or string, and how many of these have
///          labels without a list
std::pair<std::size_t, std::size_t> sort_by_label(const py::object& values, const py::object& key,
                                                  const py::dict& lists) {
  const py::tuple samples = as_items(values);
  std::size_t others = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    PyObject* sample = PyTuple_GET_ITEM(samples.ptr(), i);
    const auto label = py::reinterpret_steal<py::object>(PyObject_GetItem(sample, key.ptr()));
    if (!label) throw py::error_already_set();
    const PyTypeObject* type = Py_TYPE(label.ptr());
    if (type != &PyLong_Type && type != &PyUnicode_Type && type != &PyBool_Type) return {i, others};
    PyObject* list = PyDict_GetItemWithError(lists.ptr(), label.ptr());
    if (list == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
    others += static_cast<std::size_t>(list == nullptr);
    if (list != nullptr && PyList_Append(list, sample) != 0) throw py::error_already_set();
  }
  return {samples.size(), others};
}

py::capsule batch_bytes(std::size_t count) {
  return to_capsule(BatchBuffer(count), DType::kUInt8, {static_cast<std::int64_t>(count)});
}

}  // namespace

void bind_samples(py::module_& module) {
  module.def("stack_rows", &stack_rows, py::arg("values"), py::arg("out"));
  module.def("concatenate_rows", &concatenate_rows, py::arg("chunks"), py::arg("begin"), py::arg("out"));
  module.def("arrange_rows", &arrange_rows, py::arg("values"), py::arg("layout"), py::arg("padding"));
  module.def("stack_numbers", &stack_numbers, py::arg("values"), py::arg("kind"), py::arg("out"));
  module.def("columns", &columns, py::arg("samples"));
  module.def("sort_by_label", &sort_by_label, py::arg("samples"), py::arg("key"), py::arg("lists"));
  module.def("batch_bytes", &batch_bytes, py::arg("count"));
}

}  // namespace penstock
