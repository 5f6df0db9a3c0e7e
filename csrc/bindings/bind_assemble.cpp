#include <pybind11/stl.h>

#include <memory>
#include <vector>

#include "assemble/batch_buffer.h"
#include "assemble/table.h"
#include "assemble/thread_pool.h"
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
  if (capsules.size() != table.columns().size()) throw py::value_error("one output per field");
  std::vector<BorrowedTensor> tensors;
  std::vector<std::byte*> outs;
  for (std::size_t i = 0; i < capsules.size(); ++i) {
    tensors.emplace_back(capsules[i]);
    const auto bytes = static_cast<std::int64_t>(rows.size()) * table.columns()[i]->row_bytes();
    outs.push_back(tensors.back().require_contiguous(bytes));
  }
  gather_unlocked(table, rows, outs);
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
      .def(
          "concatenate", [](const Table& self, const Table& other) { return concatenate(self, other); },
          py::arg("other"))
      .def(py::pickle(&table_to_state, &table_from_state));
  module.def("num_threads", &num_threads);
  module.def("set_num_threads", &set_num_threads, py::arg("count"));
  module.def("set_default_num_threads", &set_default_num_threads, py::arg("count"));
  module.def("recycled_bytes", &recycled_bytes);
}

}  // namespace penstock
