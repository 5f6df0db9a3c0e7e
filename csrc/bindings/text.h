#pragma once

#include <pybind11/pybind11.h>

#include <string_view>

namespace penstock {

/// Text as Python has it. Names of files are any bytes, and so are messages that name them: decoded as the
/// system's names are, so that whatever Python makes of it can be encoded back.
[[nodiscard]] inline pybind11::str text_of(std::string_view text) {
  PyObject* decoded = PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
  if (decoded == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(decoded);
}

}  // namespace penstock
