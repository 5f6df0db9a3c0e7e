#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "assemble/array_image_source.h"
#include "assemble/table.h"
#include "base/error.h"
#include "bindings/bind.h"

namespace py = pybind11;

namespace penstock {
namespace {

/// Images that are rows of a table's field.
std::shared_ptr<ArrayImageSource> new_source(const Table& table, std::size_t field, bool rows_channels_last,
                                             const std::shared_ptr<ImagePipeline>& pipeline,
                                             const std::shared_ptr<ImageSteps>& steps, std::uint8_t fill,
                                             bool has_channels) {
  if (field >= table.fields().size()) throw py::index_error("no such field");
  const auto* rows = dynamic_cast<const ColumnSource*>(table.source_of(field).first);
  if (rows == nullptr) {
    throw Error(ErrorKind::kSchema, "these rows are not those of arrays")
        .in_field(table.fields()[field].name);
  }
  ArrayImageSource::Parts parts;
  parts.rows = rows->shared_column();
  parts.layout = rows_channels_last ? Layout::kChannelsLast : Layout::kChannelsFirst;
  parts.pipeline = pipeline;
  parts.steps = steps;
  parts.fill = fill;
  parts.has_channels = has_channels;
  return std::make_shared<ArrayImageSource>(std::move(parts));
}

}  // namespace

void bind_array_images(py::module_& module) {
  py::class_<ArrayImageSource, Source, std::shared_ptr<ArrayImageSource>>(module, "ArrayImageSource")
      .def(py::init(&new_source), py::arg("table"), py::arg("field"), py::arg("rows_channels_last"),
           py::arg("pipeline"), py::arg("steps"), py::arg("fill"), py::arg("has_channels"));
}

}  // namespace penstock
