#include "bindings/rows.h"

#include <cstring>
#include <string>

#include "assemble/table.h"
#include "base/error.h"

namespace py = pybind11;

namespace penstock {
namespace {

Error not_whole(const std::string& what) {
  Error error(ErrorKind::kSchema, "row numbers must be whole numbers");
  error.needed("ints, or an integer array of one dimension").found(what);
  return error;
}

std::int64_t to_row(PyObject* item) {
  if (PyBool_Check(item)) throw not_whole("a bool");
  if (!PyIndex_Check(item)) throw not_whole(Py_TYPE(item)->tp_name);
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item));
  if (!number) throw py::error_already_set();
  int overflow = 0;
  const long long row = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow != 0)
    throw Error(ErrorKind::kIndex, "row " + py::str(number).cast<std::string>() + " is outside any dataset");
  if (row == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return row;
}

/// The hot path of the stock DataLoader, whose samplers give lists of ints.
std::vector<std::int64_t> from_sequence(const py::object& sequence) {
  if (PySequence_Check(sequence.ptr()) == 0 || py::isinstance<py::str>(sequence)) {
    throw not_whole(Py_TYPE(sequence.ptr())->tp_name);
  }
  const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(sequence.ptr(), "not a sequence"));
  if (!items) throw py::error_already_set();
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr()));
  std::vector<std::int64_t> rows(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(items.ptr(), static_cast<Py_ssize_t>(i));
    int overflow = 0;
    if (PyLong_CheckExact(item)) rows[i] = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (!PyLong_CheckExact(item) || overflow != 0) rows[i] = to_row(item);
  }
  return rows;
}

std::vector<std::int64_t> from_array(const py::array& array) {
  const char kind = array.dtype().kind();
  if ((kind != 'i' && kind != 'u') || array.ndim() != 1) {
    throw not_whole("an array of " + py::str(array.dtype()).cast<std::string>() + " with " +
                    std::to_string(array.ndim()) + " dimensions");
  }
  if (kind == 'u' && array.itemsize() == 8 && array.size() > 0 &&
      array.attr("max")().cast<std::uint64_t>() > INT64_MAX) {
    throw Error(ErrorKind::kIndex, "a row number does not fit in 63 bits");
  }
  const auto numbers = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!numbers) throw py::error_already_set();
  std::vector<std::int64_t> rows(static_cast<std::size_t>(numbers.size()));
  if (!rows.empty()) std::memcpy(rows.data(), numbers.data(), rows.size() * sizeof(std::int64_t));
  return rows;
}

}  // namespace

std::vector<std::int64_t> to_rows(const py::object& indices, std::int64_t num_rows) {
  const bool is_array = py::isinstance<py::array>(indices);
  std::vector<std::int64_t> rows = is_array ? from_array(py::array(indices)) : from_sequence(indices);
  normalize_rows(rows, num_rows);
  return rows;
}

}  // namespace penstock
