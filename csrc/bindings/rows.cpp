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

/// Written so that it vectorises: a row is in range when, as an unsigned number, it is below num_rows.
bool all_in_range(std::span<const std::int64_t> rows, std::int64_t num_rows) noexcept {
  const auto end = static_cast<std::uint64_t>(num_rows);
  std::uint64_t outside = 0;
  for (const std::int64_t row : rows) outside |= static_cast<std::uint64_t>(row) >= end ? 1U : 0U;
  return outside == 0;
}

void require_whole_numbers(const py::array& array) {
  const char kind = array.dtype().kind();
  if ((kind != 'i' && kind != 'u') || array.ndim() != 1) {
    throw not_whole("an array of " + py::str(array.dtype()).cast<std::string>() + " with " +
                    std::to_string(array.ndim()) + " dimensions");
  }
  const bool may_not_fit = kind == 'u' && array.itemsize() == 8 && array.size() > 0;
  if (may_not_fit && array.attr("max")().cast<std::uint64_t>() > INT64_MAX) {
    throw Error(ErrorKind::kIndex, "a row number does not fit in 63 bits");
  }
}

}  // namespace

Rows::Rows(const py::object& indices, std::int64_t num_rows) {
  if (py::isinstance<py::array>(indices)) {
    take_array(py::array(indices));
  } else {
    take_sequence(indices);
  }
  if (!all_in_range(span(), num_rows)) normalize_rows({numbers_.get(), size_}, num_rows);
}

std::span<std::int64_t> Rows::make_room(std::size_t count) {
  numbers_ = std::make_unique_for_overwrite<std::int64_t[]>(count);  // NOLINT(modernize-avoid-c-arrays)
  size_ = count;
  return {numbers_.get(), count};
}

/// The hot path of the stock DataLoader, whose samplers give lists of ints.
void Rows::take_sequence(const py::object& sequence) {
  if (PySequence_Check(sequence.ptr()) == 0 || py::isinstance<py::str>(sequence)) {
    throw not_whole(Py_TYPE(sequence.ptr())->tp_name);
  }
  const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(sequence.ptr(), "not a sequence"));
  if (!items) throw py::error_already_set();
  Py_ssize_t i = 0;
  for (std::int64_t& row : make_room(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr())))) {
    if (i >= PySequence_Fast_GET_SIZE(items.ptr())) throw not_whole("a list that shrank meanwhile");
    PyObject* item = PySequence_Fast_GET_ITEM(items.ptr(), i++);
    int overflow = 0;
    if (PyLong_CheckExact(item)) row = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (!PyLong_CheckExact(item) || overflow != 0) row = to_row(item);
  }
}

void Rows::take_array(const py::array& array) {
  require_whole_numbers(array);
  const auto numbers = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>::ensure(array);
  if (!numbers) throw py::error_already_set();
  const std::span<std::int64_t> rows = make_room(static_cast<std::size_t>(numbers.size()));
  if (!rows.empty()) std::memcpy(rows.data(), numbers.data(), rows.size_bytes());
}

py::array_t<std::int64_t> array_of(std::span<const std::int64_t> numbers) {
  return py::array_t<std::int64_t>(static_cast<py::ssize_t>(numbers.size()), numbers.data());
}

}  // namespace penstock
