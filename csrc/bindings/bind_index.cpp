#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/raw.h"
#include "bindings/rows.h"
#include "bindings/tensors.h"
#include "index/column.h"
#include "index/cumulative.h"
#include "index/open.h"

namespace py = pybind11;

namespace penstock {
namespace {

std::unique_ptr<FileSet> open_files(const std::vector<std::string>& paths, const std::optional<RawTuple>& raw,
                                    const std::string& access, bool same_arrays) {
  const std::optional<RawFormat> format = raw_format(raw);
  const FileAccess how = access_named(access);
  const GilReleased unlocked;
  return std::make_unique<FileSet>(paths, format, how, same_arrays);
}

std::shared_ptr<Column> column_in_memory(const std::string& name, const std::string& dtype,
                                         const py::capsule& capsule) {
  const BorrowedTensor tensor(capsule);
  const DType type = dtype_named(dtype);
  if (tensor.shape().empty() || tensor.item_bytes() != item_bytes(type)) {
    throw Error(ErrorKind::kSchema, "the tensor has no rows").in_field(name).needed("one dimension or more");
  }
  const auto spanned = spanned_bytes(tensor.shape(), tensor.strides(), item_bytes(type));
  if (!spanned) throw Error(ErrorKind::kSchema, "the tensor has negative strides").in_field(name);
  Column::Parts parts;
  parts.name = name;
  parts.dtype = type;
  parts.row_shape.assign(tensor.shape().begin() + 1, tensor.shape().end());
  parts.storages.push_back(memory_storage({tensor.data(), *spanned}, tensor.owner()));
  parts.layouts.push_back(
      {tensor.strides().front(), {tensor.strides().begin() + 1, tensor.strides().end()}, false});
  parts.shards.push_back({});
  parts.rows.push_back(tensor.shape().front());
  return std::make_shared<Column>(std::move(parts));
}

py::array_t<std::int64_t> row_numbers(const py::object& indices, std::int64_t num_rows) {
  const Rows rows(indices, num_rows);
  return array_of(rows.span());
}

py::tuple locate_rows(const CumulativeIndex& index, const py::object& indices) {
  const Rows rows(indices, index.num_rows());
  py::array_t<std::int64_t> shards(static_cast<py::ssize_t>(rows.size()));
  py::array_t<std::int64_t> inside(static_cast<py::ssize_t>(rows.size()));
  index.locate(rows.span(), {shards.mutable_data(), rows.size()}, {inside.mutable_data(), rows.size()});
  return py::make_tuple(shards, inside);
}

void bind_index_class(py::module_& module) {
  py::class_<CumulativeIndex>(module, "CumulativeIndex")
      .def(py::init([](const py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>& rows) {
             return CumulativeIndex(vector_of(rows));
           }),
           py::arg("rows_per_shard"))
      .def_property_readonly("num_rows", &CumulativeIndex::num_rows)
      .def_property_readonly("num_shards", &CumulativeIndex::num_shards)
      .def_property_readonly("memory_bytes", &CumulativeIndex::memory_bytes)
      .def("locate", &locate_rows, py::arg("rows"));
}

void bind_column_class(py::module_& module) {
  py::class_<Column, std::shared_ptr<Column>>(module, "Column")
      .def_static("in_memory", &column_in_memory, py::arg("name"), py::arg("dtype"), py::arg("capsule"))
      .def_property_readonly("num_rows", &Column::num_rows)
      .def_property_readonly("rows_per_shard",
                             [](const Column& self) { return array_of(self.index().rows_per_shard()); });
}

}  // namespace

void bind_index(py::module_& module) {
  bind_index_class(module);
  bind_column_class(module);
  py::class_<FileSet>(module, "FileSet")
      .def(py::init(&open_files), py::arg("paths"), py::arg("raw") = py::none(), py::arg("access") = "auto",
           py::arg("same_arrays") = true)
      .def_property_readonly("container",
                             [](const FileSet& self) { return container_name(self.container()); })
      .def_property_readonly("names", &FileSet::names)
      .def_property_readonly("left_out",
                             [](const FileSet& self) { return left_out_in_python(self.left_out()); })
      .def("column", &FileSet::column, py::arg("array"), py::arg("field"))
      .def(
          "columns",
          [](const FileSet& self, const std::vector<std::string>& arrays) { return self.columns(arrays); },
          py::arg("arrays"))
      .def("values", &FileSet::values, py::arg("field"))
      .def("require_all_usable", &FileSet::require_all_usable);
  module.def("row_numbers", &row_numbers, py::arg("indices"), py::arg("num_rows"));
}

}  // namespace penstock
