#include <pybind11/stl.h>

#include <pybind11/numpy.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "assemble/batch_buffer.h"
#include "assemble/column_source.h"
#include "assemble/ragged_source.h"
#include "assemble/table.h"
#include "assemble/thread_pool.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/processors.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/layouts.h"
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
  const auto count = static_cast<std::int64_t>(rows.size());
  for (std::size_t i = 0; i < table.fields().size(); ++i) {
    buffers.emplace_back(table.batch_bytes(i, count));
    outs.push_back(buffers.back().data());
  }
  gather_unlocked(table, rows, outs);
  std::vector<py::capsule> capsules;
  capsules.reserve(buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    capsules.push_back(
        to_capsule(std::move(buffers[i]), table.fields()[i].dtype, table.batch_shape(i, count)));
  }
  return capsules;
}

void gather_into(const Table& table, const py::object& indices, const std::vector<py::capsule>& capsules) {
  const Rows rows(indices, table.num_rows());
  const OutputTensors outs(table, rows.size(), capsules);
  gather_unlocked(table, rows, outs.addresses());
}

void will_need(const Table& table, const Int64Array& first, const Int64Array& count) {
  if (first.ndim() != 1 || first.size() != count.size()) throw py::value_error("one count per first row");
  const std::vector<std::int64_t> begins = vector_of(first);
  const std::vector<std::int64_t> counts = vector_of(count);
  const std::int64_t rows = table.num_rows();
  for (std::size_t i = 0; i < begins.size(); ++i) {
    if (begins[i] >= 0 && counts[i] >= 0 && begins[i] <= rows && counts[i] <= rows - begins[i]) continue;
    throw Error(ErrorKind::kIndex, "outside the dataset of " + std::to_string(rows) + " rows")
        .at_row(begins[i]);
  }
  const GilReleased unlocked;
  for (std::size_t i = 0; i < begins.size(); ++i) table.will_need(begins[i], counts[i]);
}

/// Shards and files of one sample each, as Python hands them over.
std::shared_ptr<Table> table_of(const py::sequence& sources) {
  std::vector<std::shared_ptr<Source>> all;
  for (const py::handle each : sources) {
    if (py::isinstance<Column>(each)) {
      all.push_back(std::make_shared<ColumnSource>(each.cast<std::shared_ptr<Column>>()));
    } else if (py::isinstance<Table>(each)) {
      const auto sources_of_it = each.cast<std::shared_ptr<Table>>()->sources();
      all.insert(all.end(), sources_of_it.begin(), sources_of_it.end());
    } else {
      all.push_back(each.cast<std::shared_ptr<Source>>());
    }
  }
  return std::make_shared<Table>(std::move(all));
}

/// The source of a field, and the field's number in it.
std::pair<Source*, std::size_t> source_of(const Table& table, std::size_t field) {
  if (field >= table.fields().size()) throw py::index_error("no such field");
  return table.source_of(field);
}

py::array_t<std::int64_t> rows_per_shard(const Table& table, std::size_t field) {
  return array_of(source_of(table, field).first->rows_per_shard());
}

std::shared_ptr<Table> select(const Table& table, std::size_t field) {
  (void)source_of(table, field);
  return table.select(field);
}

// --- rows of different lengths ---------------------------------------------------------------------------

std::shared_ptr<Table> in_batch(Table& table, const py::object& indices, const LayoutTuple& layout,
                                const std::vector<std::string>& paddings) {
  if (paddings.size() != table.fields().size()) throw py::value_error("one padding per field");
  const Rows rows(indices, table.num_rows());
  std::vector<Padding> bytes;
  bytes.reserve(paddings.size());
  for (const std::string& each : paddings) {
    const Bytes padding = as_bytes(each);
    bytes.emplace_back(padding.begin(), padding.end());
  }
  const GilReleased unlocked;
  return table.in_batch(rows.span(), layout_from(layout), bytes);
}

/// Where each image of a batch of so many begins in its field's buffer, in bytes.
py::array_t<std::int64_t> places(const Table& table, std::size_t field, std::int64_t rows) {
  const auto [source, number] = source_of(table, field);
  if (!source->fields()[number].is_image || rows < 0) throw py::value_error("for images alone");
  py::array_t<std::int64_t> all(rows);
  for (std::int64_t i = 0; i < rows; ++i) all.mutable_data()[i] = source->place(number, i);
  return all;
}

py::tuple batch_shape(const Table& table, std::size_t field, std::int64_t rows) {
  (void)source_of(table, field);
  py::tuple shape(py::cast(table.batch_shape(field, rows)));
  return shape;
}

/// Of every row of a field.
py::array_t<std::int64_t> lengths_of(const Table& table, std::size_t field) {
  const auto [source, number] = source_of(table, field);
  py::array_t<std::int64_t> lengths(table.num_rows());
  for (std::int64_t row = 0; row < table.num_rows(); ++row) {
    lengths.mutable_data()[row] = source->length_of(number, row);
  }
  return lengths;
}

std::shared_ptr<RaggedSource> ragged_from_lengths(const std::shared_ptr<Column>& values,
                                                  const Int64Array& lengths) {
  return std::make_shared<RaggedSource>(values,
                                        Offsets::from_lengths(vector_of(lengths), values->num_rows()));
}

std::shared_ptr<RaggedSource> ragged_from_offsets(const std::shared_ptr<Column>& values,
                                                  const Int64Array& offsets) {
  return std::make_shared<RaggedSource>(values, Offsets(vector_of(offsets), values->num_rows()));
}

void bind_field(py::module_& module) {
  py::class_<Field>(module, "Field")
      .def_readonly("name", &Field::name)
      .def_property_readonly("dtype", [](const Field& self) { return std::string(dtype_name(self.dtype)); })
      .def_property_readonly("row_shape",
                             [](const Field& self) { return py::tuple(py::cast(self.row_shape)); })
      .def_readonly("row_bytes", &Field::row_bytes)
      .def_readonly("is_ragged", &Field::is_ragged)
      .def_readonly("is_image", &Field::is_image)
      .def_property_readonly("is_dlpack", [](const Field& self) { return is_dlpack_dtype(self.dtype); });
}

}  // namespace

void bind_assemble(py::module_& module) {
  bind_field(module);
  const py::class_<Source, std::shared_ptr<Source>> source(module, "Source");
  py::class_<RaggedSource, Source, std::shared_ptr<RaggedSource>>(module, "RaggedSource")
      .def_static("from_lengths", &ragged_from_lengths, py::arg("values"), py::arg("lengths"))
      .def_static("from_offsets", &ragged_from_offsets, py::arg("values"), py::arg("offsets"));
  py::class_<Table, std::shared_ptr<Table>>(module, "Table")
      .def(py::init(&table_of), py::arg("sources"))
      .def_property_readonly("num_rows", &Table::num_rows)
      .def_property_readonly("row_work", &Table::row_work)
      .def_property_readonly("fingerprint", &Table::fingerprint)
      .def_property_readonly(
          "fields", [](const Table& self) { return std::vector(self.fields().begin(), self.fields().end()); })
      .def(
          "num_shards",
          [](const Table& self, std::size_t field) { return source_of(self, field).first->num_shards(); },
          py::arg("field"))
      .def("rows_per_shard", &rows_per_shard, py::arg("field"))
      .def("select", &select, py::arg("field"))
      .def_property_readonly("is_random", &Table::is_random)
      .def("in_epoch", &Table::in_epoch, py::arg("key"))
      .def_property_readonly("is_ragged", &Table::is_ragged)
      .def("in_batch", &in_batch, py::arg("indices"), py::arg("layout"), py::arg("paddings"))
      .def("batch_shape", &batch_shape, py::arg("field"), py::arg("rows"))
      .def("places", &places, py::arg("field"), py::arg("rows"))
      .def("lengths", &lengths_of, py::arg("field"))
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
