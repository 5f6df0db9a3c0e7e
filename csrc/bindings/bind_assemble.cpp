#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "assemble/batch_buffer.h"
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
  for (const auto& column : table.columns()) {
    buffers.emplace_back(rows.size() * static_cast<std::size_t>(column->row_bytes()));
    outs.push_back(buffers.back().data());
  }
  gather_unlocked(table, rows, outs);
  std::vector<py::capsule> capsules;
  capsules.reserve(buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    capsules.push_back(
        to_capsule(std::move(buffers[i]), *table.columns()[i], static_cast<std::int64_t>(rows.size())));
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

}  // namespace

void bind_assemble(py::module_& module) {
  py::class_<Table, std::shared_ptr<Table>>(module, "Table")
      .def(py::init<std::vector<std::shared_ptr<Column>>>(), py::arg("columns"))
      .def_property_readonly("num_rows", &Table::num_rows)
      .def_property_readonly(
          "columns",
          [](const Table& self) { return std::vector(self.columns().begin(), self.columns().end()); })
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
