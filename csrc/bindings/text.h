#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "bindings/rows.h"

namespace penstock {

/// Text as Python has it. Names of files are any bytes, and so are messages that name them: decoded as the
/// system's names are, so that whatever Python makes of it can be encoded back.
[[nodiscard]] inline pybind11::str text_of(std::string_view text) {
  PyObject* decoded = PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  if (decoded == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(decoded);
}

/// The text of some rows, or of all of so many.
///
/// \param text  gives that of a row
/// \throws py::index_error
template <typename Text>
[[nodiscard]] pybind11::list texts_of(const std::optional<Int64Array>& rows, std::int64_t num_rows,
                                      const Text& text) {
  const std::int64_t count = rows ? rows->size() : num_rows;
  pybind11::list texts(static_cast<pybind11::ssize_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = rows ? rows->data()[i] : i;
    if (row < 0 || row >= num_rows) throw pybind11::index_error();
    PyList_SET_ITEM(texts.ptr(), static_cast<Py_ssize_t>(i), text_of(text(row)).release().ptr());
  }
  return texts;
}

}  // namespace penstock
