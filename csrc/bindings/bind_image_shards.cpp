#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "assemble/image_extents.h"
#include "assemble/thread_pool.h"
#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/rows.h"
#include "bindings/text.h"
#include "index/column.h"
#include "index/tar_images.h"
#include "storage/file.h"

namespace py = pybind11;

namespace penstock {
namespace {

/// Device, inode, size, time of change in ns.
using Identity = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::int64_t>;

Identity as_tuple(const FileIdentity& id) { return {id.device, id.inode, id.size, id.mtime_ns}; }

template <typename To, typename From>
py::array_t<To> array_of(std::span<const From> items) {
  py::array_t<To> array(static_cast<py::ssize_t>(items.size()));
  std::copy(items.begin(), items.end(), array.mutable_data());
  return array;
}

Int64Array int64s(std::span<const std::uint64_t> items) { return array_of<std::int64_t>(items); }

std::vector<std::uint64_t> unsigned_of(const Int64Array& array) {
  return {array.data(), array.data() + array.size()};
}

/// \throws Error kSchema unless the ends grow and the last is that of the text
Strings strings_of(const py::bytes& text, const Int64Array& ends) {
  const auto view = static_cast<std::string_view>(text);
  Strings strings;
  strings.reserve(static_cast<std::size_t>(ends.size()), view.size());
  std::size_t begin = 0;
  for (py::ssize_t i = 0; i < ends.size(); ++i) {
    const auto end = static_cast<std::size_t>(ends.data()[i]);
    if (end < begin || end > view.size()) throw Error(ErrorKind::kSchema, "the names do not add up");
    strings.add(view.substr(begin, end - begin));
    begin = end;
  }
  if (begin != view.size()) throw Error(ErrorKind::kSchema, "the names do not add up");
  return strings;
}

py::bytes bytes_of(std::string_view text) { return {text.data(), text.size()}; }

// --- tar -------------------------------------------------------------------------------------------------

/// Of each archive: identity, names and their ends, offsets, sizes, labels, whether there is one.
py::list tar_images(const std::vector<std::string>& paths, const std::vector<std::string>& suffixes) {
  std::vector<std::pair<FileIdentity, TarImages>> all(paths.size());
  {
    const GilReleased unlocked;
    run_parallel(static_cast<std::int64_t>(paths.size()), [&](std::int64_t number) {
      const auto i = static_cast<std::size_t>(number);
      try {
        const OpenFile file(paths[i]);
        all[i] = {file.identity(), read_tar_images(file, suffixes)};
      } catch (Error& error) {
        error.in_file(paths[i]);
        throw;
      }
    });
  }
  py::list list;
  for (const auto& [identity, found] : all) {
    list.append(py::make_tuple(as_tuple(identity), bytes_of(found.names.text()), int64s(found.names.ends()),
                               int64s(found.offsets), int64s(found.sizes),
                               array_of<std::int64_t>(std::span(found.labels)),
                               array_of<bool>(std::span(found.has_labels))));
  }
  return list;
}

// --- extents ---------------------------------------------------------------------------------------------

std::shared_ptr<ImageExtents> new_extents(const std::vector<std::string>& paths,
                                          const std::vector<Identity>& identities, const Int64Array& rows,
                                          const Int64Array& offsets, const Int64Array& sizes,
                                          const py::bytes& names, const Int64Array& name_ends) {
  if (paths.size() != identities.size()) throw py::value_error("one identity for each path");
  ImageExtents::Parts parts;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const auto& [device, inode, size, mtime_ns] = identities[i];
    const FileIdentity identity{device, inode, size, mtime_ns};
    parts.shards.push_back(std::make_shared<FileStorage>(paths[i], identity, FileAccess::kRead));
  }
  parts.rows = vector_of(rows);
  parts.offsets = unsigned_of(offsets);
  parts.sizes = unsigned_of(sizes);
  parts.names = strings_of(names, name_ends);
  return std::make_shared<ImageExtents>(std::move(parts));
}

/// What the constructor takes.
py::tuple state_of(const ImageExtents& self) {
  const ImageExtents::Parts& parts = self.parts();
  py::list paths;
  py::list identities;
  for (const auto& shard : parts.shards) {
    paths.append(py::bytes(shard->path()));
    identities.append(as_tuple(shard->identity()));
  }
  return py::make_tuple(paths, identities, array_of<std::int64_t>(std::span(parts.rows)),
                        int64s(parts.offsets), int64s(parts.sizes), bytes_of(parts.names.text()),
                        int64s(parts.names.ends()));
}

/// Where each shard of a column of bytes lies: path, identity, offset.
py::list shards_of(const Column& column) {
  py::list list;
  for (std::int64_t i = 0; i < column.index().num_shards(); ++i) {
    const auto* const file = dynamic_cast<const FileStorage*>(&column.storage_of(i));
    const bool is_plain = column.row_bytes() == 1 && column.layout_of(i).row_stride == 1;
    if (file == nullptr || !is_plain) {
      throw Error(ErrorKind::kSchema, "this is no column of bytes that lie end to end")
          .in_field(column.name());
    }
    list.append(py::make_tuple(py::bytes(file->path()), as_tuple(file->identity()),
                               column.shards()[static_cast<std::size_t>(i)].offset));
  }
  return list;
}

/// Paths as text, of some images or of all.
py::list ids_of(const ImageExtents& images, const std::optional<Int64Array>& rows,
                const std::vector<std::string>& /*suffixes*/) {
  return texts_of(rows, images.num_rows(), [&](std::int64_t row) { return images.path(row); });
}

/// Path of its file, and name in there.
py::tuple place_of(const ImageExtents& images, std::int64_t row) {
  if (row < 0 || row >= images.num_rows()) throw py::index_error();
  return py::make_tuple(py::bytes(images.shard_of(row).path()),
                        bytes_of(images.parts().names[static_cast<std::size_t>(row)]));
}

}  // namespace

void bind_image_shards(py::module_& module) {
  module.def("tar_images", &tar_images, py::arg("paths"), py::arg("suffixes"));
  module.def("byte_shards", &shards_of, py::arg("column"));
  py::class_<ImageExtents, std::shared_ptr<ImageExtents>>(module, "ImageExtents")
      .def(py::init(&new_extents), py::arg("paths"), py::arg("identities"), py::arg("rows"),
           py::arg("offsets"), py::arg("sizes"), py::arg("names"), py::arg("name_ends"))
      .def_property_readonly("state", &state_of)
      .def_property_readonly("num_files", &ImageExtents::num_rows)
      .def_property_readonly("root", [](const ImageExtents&) { return py::bytes(); })
      .def("ids", &ids_of, py::arg("files"), py::arg("suffixes"))
      .def("place", &place_of, py::arg("row"));
}

}  // namespace penstock
