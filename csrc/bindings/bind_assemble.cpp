#include <pybind11/stl.h>

#include <pybind11/numpy.h>

#include <memory>
#include <string>
#include <vector>

#include "assemble/batch_buffer.h"
#include "assemble/column_source.h"
#include "assemble/table.h"
#include "assemble/thread_pool.h"
#include "base/error.h"
#include "base/processors.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/rows.h"
#include "bindings/state.h"
#include "bindings/tensors.h"

namespace py = pybind11;

namespace penstock {
namespace {

void gather_unlocked(const Table& table, const Rows& rows, const std::vector<std::byte*>& outs) {
  const GilReleased unlocked;
  table.gather(rows.span(), outs);
}

std::vector<py::capsule> gather(const Table& table, const py::object& indices) {
  const Rows rows(indices, table.num_rows());
  std::vector<BatchBuffer> buffers;
  std::vector<std::byte*> outs;
  for (const Field& field : table.fields()) {
    buffers.emplace_back(bytes_of_rows(rows.size(), field.row_bytes));
    outs.push_back(buffers.back().data());
  }
  gather_unlocked(table, rows, outs);
  std::vector<py::capsule> capsules;
  capsules.reserve(buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    capsules.push_back(
        to_capsule(std::move(buffers[i]), table.fields()[i], static_cast<std::int64_t>(rows.size())));
  }
  return capsules;
}

void gather_into(const Table& table, const py::object& indices, const std::vector<py::capsule>& capsules) {
  const Rows rows(indices, table.num_rows());
  const OutputTensors outs(table, rows.size(), capsules);
  gather_unlocked(table, rows, outs.addresses());
}

using Int64Array = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

void will_need(const Table& table, const Int64Array& first, const Int64Array& count) {
  if (first.ndim() != 1 || first.size() != count.size()) throw py::value_error("one count per first row");
  for (py::ssize_t i = 0; i < first.size(); ++i) {
    const std::int64_t rows = table.num_rows();
    if (first.at(i) >= 0 && count.at(i) >= 0 && first.at(i) <= rows && count.at(i) <= rows - first.at(i))
      continue;
    throw Error(ErrorKind::kIndex, "outside the dataset of " + std::to_string(rows) + " rows")
        .at_row(first.at(i));
  }
  const GilReleased unlocked;
  for (py::ssize_t i = 0; i < first.size(); ++i) table.will_need(first.data()[i], count.data()[i]);
}

/// Shards and files of one sample each, as Python hands them over.
std::shared_ptr<Table> table_of(const py::sequence& sources) {
  std::vector<std::shared_ptr<Source>> all;
  for (const py::handle each : sources) {
    if (py::isinstance<Column>(each)) {
      all.push_back(std::make_shared<ColumnSource>(each.cast<std::shared_ptr<Column>>()));
    } else {
      all.push_back(each.cast<std::shared_ptr<Source>>());
    }
  }
  return std::make_shared<Table>(std::move(all));
}

const Source& source_of(const Table& table, std::size_t field) {
  for (const auto& source : table.sources()) {
    if (field < source->fields().size()) return *source;
    field -= source->fields().size();
  }
  throw py::index_error("no such field");
}

py::array_t<std::int64_t> rows_per_shard(const Table& table, std::size_t field) {
  const std::vector<std::int64_t> rows = source_of(table, field).rows_per_shard();
  return py::array_t<std::int64_t>(static_cast<py::ssize_t>(rows.size()), rows.data());
}

std::shared_ptr<Table> select(const Table& table, std::size_t field) {
  (void)source_of(table, field);
  return table.select(field);
}

void bind_field(py::module_& module) {
  py::class_<Field>(module, "Field")
      .def_readonly("name", &Field::name)
      .def_property_readonly("dtype", [](const Field& self) { return std::string(dtype_name(self.dtype)); })
      .def_property_readonly("row_shape",
                             [](const Field& self) { return py::tuple(py::cast(self.row_shape)); })
      .def_readonly("row_bytes", &Field::row_bytes)
      .def_property_readonly("is_dlpack", [](const Field& self) { return is_dlpack_dtype(self.dtype); });
}

}  // namespace

void bind_assemble(py::module_& module) {
  bind_field(module);
  const py::class_<Source, std::shared_ptr<Source>> source(module, "Source");
  py::class_<Table, std::shared_ptr<Table>>(module, "Table")
      .def(py::init(&table_of), py::arg("sources"))
      .def_property_readonly("num_rows", &Table::num_rows)
      .def_property_readonly("row_work", &Table::row_work)
      .def_property_readonly("fingerprint", &Table::fingerprint)
      .def_property_readonly(
          "fields", [](const Table& self) { return std::vector(self.fields().begin(), self.fields().end()); })
      .def(
          "num_shards",
          [](const Table& self, std::size_t field) { return source_of(self, field).num_shards(); },
          py::arg("field"))
      .def("rows_per_shard", &rows_per_shard, py::arg("field"))
      .def("select", &select, py::arg("field"))
      .def("gather", &gather, py::arg("indices"))
      .def("gather_into", &gather_into, py::arg("indices"), py::arg("outs"))
      .def("will_need", &will_need, py::arg("first"), py::arg("count"))
      .def(
          "concatenate", [](const Table& self, const Table& other) { return concatenate(self, other); },
          py::arg("other"))
      .def(py::pickle(&table_to_state, &table_from_state));
  module.def("num_processors", &num_processors);
  module.def("num_threads", &num_threads);
  module.def("set_num_threads", &set_num_threads, py::arg("count"));
  module.def("set_default_num_threads", &set_default_num_threads, py::arg("count"));
  module.def("recycled_bytes", &recycled_bytes);
}

}  // namespace penstock
