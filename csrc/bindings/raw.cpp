#include "bindings/raw.h"

#include "base/error.h"

namespace py = pybind11;

namespace penstock {

DType dtype_named(const std::string& name) {
  const auto dtype = dtype_from_name(name);
  if (!dtype) throw Error(ErrorKind::kSchema, "there is no such dtype").found("'" + name + "'");
  return *dtype;
}

FileAccess access_named(const std::string& name) {
  if (name == "auto") return FileAccess::kAuto;
  if (name == "map") return FileAccess::kMap;
  if (name == "read") return FileAccess::kRead;
  throw Error(ErrorKind::kSchema, "there is no such access")
      .needed("auto, map or read")
      .found("'" + name + "'");
}

std::optional<RawFormat> raw_format(const std::optional<RawTuple>& raw) {
  if (!raw) return std::nullopt;
  return RawFormat{dtype_named(std::get<0>(*raw)), std::get<1>(*raw), std::get<2>(*raw)};
}

const char* container_name(Container container) noexcept {
  switch (container) {
    case Container::kArray: return "array";
    case Container::kSequence: return "sequence";
    case Container::kMapping: return "mapping";
  }
  return "";
}

py::object left_out_in_python(const LeftOut& left_out) {
  if (left_out.values.empty()) return py::none();
  py::list values;
  for (const OtherValue& each : left_out.values) values.append(py::make_tuple(each.name, each.kind));
  return py::make_tuple(py::bytes(left_out.path), values);
}

}  // namespace penstock
