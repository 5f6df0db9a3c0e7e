#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "assemble/file_source.h"
#include "assemble/row_cache.h"
#include "assemble/thread_pool.h"
#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/raw.h"
#include "bindings/rows.h"
#include "bindings/text.h"
#include "index/file_index.h"
#include "index/file_indexer.h"
#include "index/folder.h"
#include "storage/available_memory.h"

namespace py = pybind11;

namespace penstock {
namespace {

using Names = std::vector<std::string>;  // bytes or str; paths are bytes

// --- making an index -------------------------------------------------------------------------------------

/// None: when most files say so.
FileIndexer::Ragged ragged_from(std::optional<bool> ragged) {
  if (!ragged) return FileIndexer::Ragged::kIfMost;
  return *ragged ? FileIndexer::Ragged::kIfAny : FileIndexer::Ragged::kNever;
}

/// Files that are given by name, or, without names, all that are found.
std::unique_ptr<FileIndexer> make_indexer(const std::string& root, const std::string& recipe,
                                          const std::optional<Names>& names, const Names& suffixes,
                                          const Names& fields, const std::optional<RawTuple>& raw,
                                          const std::shared_ptr<const FileIndex>& known,
                                          std::optional<bool> ragged) {
  FileIndexer::Request request{root, recipe, raw_format(raw), fields, {}, {}, {}, known, ragged_from(ragged)};
  if (names) {
    request.names = strings_of(*names);
    return std::make_unique<FileIndexer>(std::move(request));
  }
  const GilReleased unlocked;
  Folder folder = list_folder(root, suffixes);
  request.names = std::move(folder.files);
  request.folders = std::move(folder.folders);
  request.changed = std::move(folder.changed);
  return std::make_unique<FileIndexer>(std::move(request));
}

/// Reads the headers of files [begin, end), by all threads.
void read_headers(FileIndexer& indexer, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kFilesAtATime = 64;
  const GilReleased unlocked;
  end = std::min(end, indexer.num_files());
  indexer.read_first();
  run_parallel((end - begin + kFilesAtATime - 1) / kFilesAtATime, [&](std::int64_t part) {
    const std::int64_t first = begin + part * kFilesAtATime;
    indexer.read(first, std::min(first + kFilesAtATime, end));
  });
}

/// (file, path, system's error number, what is wrong) of each.
py::list failures(const FileIndexer& indexer) {
  py::list list;
  for (const FileIndexer::Failure& failure : indexer.failures()) {
    const Error& error = failure.error;
    std::string reason = error.field().empty() ? "" : "field '" + error.field() + "': ";
    reason += error.problem();
    if (!error.needed().empty()) reason += "; needed " + error.needed();
    if (!error.found().empty()) reason += (error.needed().empty() ? "; found " : ", found ") + error.found();
    list.append(py::make_tuple(failure.file, py::bytes(error.path()), error.system_code(), text_of(reason)));
  }
  return list;
}

void raise_first(const FileIndexer& indexer) {
  const auto failures = indexer.failures();
  if (!failures.empty()) throw failures.front().error;
}

// --- an index --------------------------------------------------------------------------------------------

std::shared_ptr<FileIndex> index_from_bytes(const py::bytes& bytes) {
  const auto image = static_cast<std::string_view>(bytes);
  auto memory = std::make_shared<SharedMemory>(image.size(), SharedMemory::With::kChildren);
  std::copy(image.begin(), image.end(), reinterpret_cast<char*>(memory->data()));
  return std::make_shared<FileIndex>(std::move(memory));
}

/// Names as text, each without the first of the suffixes that it ends with; of some files, or of all.
py::list ids_of(const FileIndex& index, const std::optional<Int64Array>& files, const Names& suffixes) {
  return texts_of(files, index.num_files(), [&](std::int64_t file) {
    std::string_view name = index.name(file);
    for (const std::string& suffix : suffixes) {
      if (!name.ends_with(suffix)) continue;
      name.remove_suffix(suffix.size());
      break;
    }
    return name;
  });
}

bool all_end_with(const FileIndex& index, const std::string& suffix) {
  for (std::int64_t file = 0; file < index.num_files(); ++file) {
    if (!index.name(file).ends_with(suffix)) return false;
  }
  return true;
}

/// The number of each file, -1 for those that are not there.
Int64Array find_all(const FileIndex& index, const Names& names) {
  Int64Array files(static_cast<py::ssize_t>(names.size()));
  for (std::size_t i = 0; i < names.size(); ++i) {
    files.mutable_data()[i] = index.find(names[i]).value_or(-1);
  }
  return files;
}

std::shared_ptr<FileIndex> select(const FileIndex& index, const Int64Array& files) {
  const std::vector<std::int64_t> all = vector_of(files);
  for (const std::int64_t file : all) {
    if (file < 0 || file >= index.num_files()) throw py::index_error();
  }
  const GilReleased unlocked;
  return index.select(all);
}

const char* container_of(const FileIndex& index) { return container_name(index.container()); }

// --- rows ------------------------------------------------------------------------------------------------

std::int64_t row_bytes_of(const FileIndex& index) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < index.fields().size(); ++i) bytes += index.most_bytes(i);
  return bytes;
}

std::shared_ptr<RowCache> make_cache(const FileIndex& index, std::optional<std::uint64_t> budget_bytes) {
  const std::uint64_t budget = budget_bytes.value_or(available_memory() / 2);
  return std::make_shared<RowCache>(index.num_files(), row_bytes_of(index), budget);
}

std::shared_ptr<RowCache> cache_from(const FileIndex& index, int descriptor) {
  return std::make_shared<RowCache>(SharedMemory::from_descriptor(descriptor), index.num_files(),
                                    row_bytes_of(index));
}

std::shared_ptr<FileSource> make_source(const std::shared_ptr<FileIndex>& index,
                                        const std::optional<RawTuple>& raw,
                                        const std::shared_ptr<RowCache>& cache) {
  return std::make_shared<FileSource>(FileSource::Part{index, raw_format(raw), cache, {}});
}

void bind_index_classes(py::module_& module) {
  py::class_<FileIndexer>(module, "FileIndexer")
      .def(py::init(&make_indexer), py::arg("root"), py::arg("recipe"), py::arg("names"), py::arg("suffixes"),
           py::arg("fields"), py::arg("raw"), py::arg("known"), py::arg("ragged"))
      .def_property_readonly("num_files", &FileIndexer::num_files)
      .def("read", &read_headers, py::arg("begin"), py::arg("end"))
      .def("settle", &FileIndexer::settle)
      .def_property_readonly("left_out",
                             [](const FileIndexer& self) { return left_out_in_python(self.left_out()); })
      .def("failures", &failures)
      .def("raise_first", &raise_first)
      .def("finish", &FileIndexer::finish, py::call_guard<py::gil_scoped_release>());
  py::class_<FileIndex, std::shared_ptr<FileIndex>>(module, "FileIndex")
      .def_static("open", &FileIndex::open, py::arg("path"))
      .def_static("from_bytes", &index_from_bytes, py::arg("image"))
      .def_static(
          "from_descriptor",
          [](int descriptor) {
            return std::make_shared<FileIndex>(SharedMemory::from_descriptor(descriptor));
          },
          py::arg("descriptor"))
      .def_property_readonly("num_files", &FileIndex::num_files)
      .def_property_readonly("container", &container_of)
      .def_property_readonly("root", [](const FileIndex& self) { return py::bytes(self.root()); })
      .def_property_readonly("recipe", [](const FileIndex& self) { return py::bytes(self.recipe()); })
      .def_property_readonly("fields",
                             [](const FileIndex& self) {
                               Names names;
                               for (const FileField& field : self.fields()) names.push_back(field.name);
                               return names;
                             })
      .def_property_readonly("image",
                             [](const FileIndex& self) {
                               const auto image = self.image().bytes();
                               return py::bytes(reinterpret_cast<const char*>(image.data()), image.size());
                             })
      .def_property_readonly("descriptor", [](const FileIndex& self) { return self.descriptor(); })
      .def_property_readonly("fingerprint", &FileIndex::fingerprint)
      .def("ids", &ids_of, py::arg("files"), py::arg("suffixes"))
      .def("all_end_with", &all_end_with, py::arg("suffix"))
      .def("find", &find_all, py::arg("names"))
      .def("select", &select, py::arg("files"))
      .def_property_readonly("is_settled", &FileIndex::is_settled)
      .def("same_files_as", &FileIndex::same_files_as, py::arg("other"))
      .def("is_current", &FileIndex::is_current, py::call_guard<py::gil_scoped_release>())
      .def("write", &FileIndex::write, py::arg("path"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace

void bind_files(py::module_& module) {
  bind_index_classes(module);
  py::class_<RowCache, std::shared_ptr<RowCache>>(module, "RowCache")
      .def(py::init(&make_cache), py::arg("index"), py::arg("budget_bytes"))
      .def_static("from_descriptor", &cache_from, py::arg("index"), py::arg("descriptor"))
      .def_property_readonly("rows_kept", &RowCache::rows_kept)
      .def_property_readonly("descriptor", [](const RowCache& self) { return self.memory().descriptor(); });
  py::class_<FileSource, Source, std::shared_ptr<FileSource>>(module, "FileSource")
      .def(py::init(&make_source), py::arg("index"), py::arg("raw"), py::arg("cache"));
}

}  // namespace penstock
