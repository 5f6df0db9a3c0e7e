#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "assemble/image_source.h"
#include "assemble/thread_pool.h"
#include "base/error.h"
#include "base/random.h"
#include "bindings/bind.h"
#include "bindings/color_changes.h"
#include "bindings/gil.h"
#include "bindings/images_of.h"
#include "bindings/text.h"
#include "index/file_index.h"
#include "index/folder.h"

namespace py = pybind11;

namespace penstock {
namespace {

using Names = std::vector<std::string>;

// --- the files -------------------------------------------------------------------------------------------

/// An index that knows names alone: the one field that it must have is empty.
std::shared_ptr<FileIndex> index_of_names(const std::string& root, const std::string& recipe,
                                          const Names& names, const Names& folders,
                                          std::vector<std::int64_t> changed) {
  if (folders.size() != changed.size()) throw py::value_error("one time for each folder");
  FileIndex::Parts parts;
  parts.root = root;
  parts.recipe = recipe;
  parts.names = strings_of(names);
  parts.fields = {{"image", DType::kUInt8, {0}, 0}};
  parts.stamps.resize(names.size());
  parts.offsets.resize(names.size(), FileIndex::kElsewhere);
  parts.folders = strings_of(folders);
  parts.changed = std::move(changed);
  return FileIndex::make(parts);
}

/// The folders that names begin with, and how many files that follow one another are in each.
std::vector<std::pair<py::bytes, std::int64_t>> first_folders(const FileIndex& index) {
  std::vector<std::pair<std::string_view, std::int64_t>> counts;
  for (std::int64_t file = 0; file < index.num_files(); ++file) {
    const std::string_view name = index.name(file);
    const std::string_view folder = name.substr(0, std::min(name.find('/'), name.size()));
    if (counts.empty() || counts.back().first != folder) counts.emplace_back(folder, 0);
    ++counts.back().second;
  }
  return {counts.begin(), counts.end()};
}

/// Names of the folders in the root itself, in the order they were listed.
std::vector<py::bytes> folders_of_root(const FileIndex& index) {
  std::vector<py::bytes> names;
  for (std::int64_t i = 0; i < index.num_folders(); ++i) {
    const std::string_view name = index.folder(i);
    if (!name.empty() && name.find('/') == std::string_view::npos) names.emplace_back(name);
  }
  return names;
}

/// The bytes of an image.
py::bytes read_image(const AnyImages& any, std::int64_t row, std::int64_t max_pixels) {
  const std::shared_ptr<const EncodedImages> images = images_of(any);
  if (row < 0 || row >= images->num_rows()) throw py::index_error();
  Bytes bytes;
  {
    const GilReleased unlocked;
    try {
      bytes = images->read(row, largest_file(max_pixels));
    } catch (Error& error) {
      images->locate(error, row);
      throw;
    }
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Width and height of the first images, shape (count, 2), -1 where the header cannot be read; and why not.
py::tuple image_sizes(const AnyImages& any, const ImagePipeline& pipeline,
                      const std::optional<std::int64_t>& first) {
  constexpr std::int64_t kFilesAtATime = 16;
  const std::shared_ptr<const EncodedImages> images = images_of(any);
  const std::int64_t count = std::min(first.value_or(images->num_rows()), images->num_rows());
  if (count < 0) throw py::value_error("a negative number of files");
  py::array_t<std::int64_t> sizes({static_cast<py::ssize_t>(count), py::ssize_t{2}});
  auto* const out = sizes.mutable_data();
  std::vector<std::string> problems(static_cast<std::size_t>(count));
  {
    const GilReleased unlocked;
    run_parallel((count + kFilesAtATime - 1) / kFilesAtATime, [&](std::int64_t part) {
      const std::int64_t end = std::min((part + 1) * kFilesAtATime, count);
      for (std::int64_t file = part * kFilesAtATime; file < end; ++file) {
        ImagePlan::Size size{-1, -1};
        try {
          size = read_image_size(*images, file, pipeline);
        } catch (const Error& error) {
          problems[static_cast<std::size_t>(file)] = error.problem();
        }
        out[2 * file] = size.width;
        out[2 * file + 1] = size.height;
      }
    });
  }
  py::list failures;
  for (std::size_t file = 0; file < problems.size(); ++file) {
    if (!problems[file].empty()) failures.append(py::make_tuple(file, text_of(problems[file])));
  }
  return py::make_tuple(sizes, failures);
}

// --- steps -----------------------------------------------------------------------------------------------

/// kind, (width, height), longest, (left, top, right, bottom), pads if needed, scale, ratio, probability,
/// colors
using StepTuple = std::tuple<std::string, std::pair<std::int32_t, std::int32_t>, std::int32_t,
                             std::array<std::int32_t, 4>, bool, std::array<double, 2>, std::array<double, 2>,
                             double, std::array<std::array<double, 2>, 4>>;

ImageStep::Kind kind_named(const std::string& name) {
  using Kind = ImageStep::Kind;
  static constexpr std::array<std::pair<const char*, Kind>, 10> kKinds{
      {{"resize", Kind::kResize},
       {"resize shorter", Kind::kResizeShorter},
       {"center crop", Kind::kCenterCrop},
       {"random crop", Kind::kRandomCrop},
       {"random resized crop", Kind::kRandomResizedCrop},
       {"pad", Kind::kPad},
       {"flip horizontally", Kind::kFlipHorizontally},
       {"flip vertically", Kind::kFlipVertically},
       {"jitter colors", Kind::kJitterColors},
       {"gray", Kind::kGray}}};
  const auto* const found = std::ranges::find(kKinds, name, [](const auto& each) { return each.first; });
  if (found != kKinds.end()) return found->second;
  throw Error(ErrorKind::kArgument, "there is no such step").found(name);
}

std::shared_ptr<ImageSteps> new_steps(const std::vector<StepTuple>& tuples) {
  std::vector<ImageStep> steps;
  steps.reserve(tuples.size());
  for (const auto& [kind, size, longest, padding, pads_if_needed, scale, ratio, probability, colors] :
       tuples) {
    steps.push_back({kind_named(kind),
                     {size.first, size.second},
                     longest,
                     padding,
                     pads_if_needed,
                     scale,
                     ratio,
                     probability,
                     colors});
  }
  return std::make_shared<ImageSteps>(std::move(steps));
}

std::optional<std::pair<std::int32_t, std::int32_t>> size_of(const ImageSteps& steps) {
  const auto size = steps.size();
  if (!size) return std::nullopt;
  return std::pair(size->width, size->height);
}

py::tuple as_tuple(const Rect& rect) { return py::make_tuple(rect.x, rect.y, rect.width, rect.height); }

/// crop, (width, height) of the resize, visible, window, flips horizontally, flips vertically, colors
py::tuple plan(const ImageSteps& steps, std::int32_t width, std::int32_t height, std::uint64_t key,
               std::int64_t row) {
  if (width < 1 || height < 1) throw Error(ErrorKind::kArgument, "an image has a pixel or more each way");
  const SamplePlan plan =
      steps.plan({width, height}, RandomSequence(derive_key(key, static_cast<std::uint64_t>(row))));
  const py::object crop = plan.crop ? py::object(as_tuple(*plan.crop)) : py::none();
  const py::object size =
      plan.resize ? py::object(py::make_tuple(plan.resize->width, plan.resize->height)) : py::none();
  return py::make_tuple(crop, size, as_tuple(plan.visible), as_tuple(plan.window), plan.flip_horizontally,
                        plan.flip_vertically, changes_as_list(plan.colors));
}

// --- rows ------------------------------------------------------------------------------------------------

py::tuple notes_as_tuple(const ImageLog::Notes& notes) {
  py::list first;
  for (const ImageLog::Note& note : notes.first) first.append(py::make_tuple(note.row, text_of(note.text)));
  return py::make_tuple(notes.total, first);
}

std::shared_ptr<ImageSource> new_source(const AnyImages& images,
                                        const std::shared_ptr<ImagePipeline>& pipeline,
                                        const std::shared_ptr<ImageSteps>& steps,
                                        const std::optional<std::pair<std::int32_t, std::int32_t>>& size,
                                        std::uint8_t fill, const std::shared_ptr<Column>& column,
                                        bool replaces_broken, const std::shared_ptr<ImageLog>& log) {
  ImageSource::Parts parts;
  parts.images = images_of(images);
  parts.pipeline = pipeline;
  parts.steps = steps;
  if (size) parts.size = {size->first, size->second};
  parts.fill = fill;
  if (column) parts.column = std::make_shared<ColumnSource>(column);
  parts.replaces_broken = replaces_broken;
  parts.log = log;
  return std::make_shared<ImageSource>(std::move(parts));
}

}  // namespace

void bind_image_files(py::module_& module) {
  module.def("index_of_names", &index_of_names, py::arg("root"), py::arg("recipe"), py::arg("names"),
             py::arg("folders"), py::arg("changed"));
  module.def("first_folders", &first_folders, py::arg("index"));
  module.def("folders_of_root", &folders_of_root, py::arg("index"));
  module.def("read_image", &read_image, py::arg("images"), py::arg("row"), py::arg("max_pixels"));
  module.def("image_sizes", &image_sizes, py::arg("images"), py::arg("pipeline"),
             py::arg("first") = py::none());
  module.def("derive_key", &derive_key, py::arg("key"), py::arg("number"));
  py::class_<ImageSteps, std::shared_ptr<ImageSteps>>(module, "ImageSteps")
      .def(py::init(&new_steps), py::arg("steps"))
      .def_property_readonly("size", &size_of)
      .def_property_readonly("is_random", &ImageSteps::is_random)
      .def("plan", &plan, py::arg("width"), py::arg("height"), py::arg("key"), py::arg("row"));
  py::class_<ImageLog, std::shared_ptr<ImageLog>>(module, "ImageLog")
      .def(py::init())
      .def_property_readonly("broken", [](const ImageLog& self) { return notes_as_tuple(self.broken()); })
      .def_property_readonly("warnings",
                             [](const ImageLog& self) { return notes_as_tuple(self.warnings()); });
  py::class_<ImageSource, Source, std::shared_ptr<ImageSource>>(module, "ImageSource")
      .def(py::init(&new_source), py::arg("images"), py::arg("pipeline"), py::arg("steps"), py::arg("size"),
           py::arg("fill"), py::arg("column"), py::arg("replaces_broken"), py::arg("log"));
}

}  // namespace penstock
