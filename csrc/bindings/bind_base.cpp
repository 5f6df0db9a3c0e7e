#include <cerrno>
#include <exception>
#include <string>

#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/text.h"
#include "image/jpeg.h"
#include "image/png.h"

namespace py = pybind11;

namespace penstock {
namespace {

const char* class_name(const Error& error) noexcept {
  switch (error.kind()) {
    case ErrorKind::kFormat: return "FormatError";
    case ErrorKind::kShard: return error.system_code() == ENOENT ? "MissingFileError" : "ShardError";
    case ErrorKind::kSchema: return "SchemaError";
    case ErrorKind::kIndex: return "RowError";
    case ErrorKind::kArgument: return "ArgumentError";
  }
  return "PenstockError";
}

py::object text_or_none(const std::string& text) {
  return text.empty() ? py::object(py::none()) : text_of(text);
}

/// The classes are plain Python, so that they pickle; they also compose the message.
void raise_in_python(const Error& error) {
  const py::object type = py::module_::import("penstock.errors").attr(class_name(error));
  py::dict facts;
  facts["path"] = text_or_none(error.path());
  facts["field"] = text_or_none(error.field());
  facts["row"] = error.row() ? py::object(py::int_(*error.row())) : py::object(py::none());
  facts["offset"] = error.offset() ? py::object(py::int_(*error.offset())) : py::object(py::none());
  facts["expected"] = text_or_none(error.needed());
  facts["actual"] = text_or_none(error.found());
  facts["hint"] = text_or_none(error.hint());
  if (error.system_code() != 0) facts["errno"] = error.system_code();
  const py::object exception = type(text_of(error.problem()), **facts);
  PyErr_SetObject(type.ptr(), exception.ptr());
}

void translate(std::exception_ptr pointer) {
  if (!pointer) return;
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    try {
      raise_in_python(error);
    } catch (py::error_already_set& failure) {
      failure.restore();
    }
  }
}

py::dict build_facts() {
  py::dict build;
#if defined(__clang__)
  build["compiler"] = "clang " __clang_version__;
#else
  build["compiler"] = "gcc " __VERSION__;
#endif
  build["build_type"] = PENSTOCK_BUILD_TYPE;
  build["sanitizers"] = PENSTOCK_SANITIZERS;
#ifdef PENSTOCK_HAVE_ZLIB
  build["zlib"] = true;
#else
  build["zlib"] = false;
#endif
  build["jpeg"] = jpeg_library();
  build["png"] = png_library();
  return build;
}

}  // namespace

void bind_base(py::module_& module) {
  py::register_exception_translator(&translate);
  module.attr("BUILD") = build_facts();
}

}  // namespace penstock
