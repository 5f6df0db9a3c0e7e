#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/python_images.h"
#include "bindings/raw.h"
#include "bindings/tensors.h"
#include "image/open_image.h"
#include "image/pipeline.h"
#include "image/resize.h"

namespace py = pybind11;

namespace penstock {
namespace {

/// The value of that name.
template <typename Value, std::size_t kCount>
Value value_named(const char* what, const std::string& name,
                  const std::array<std::pair<const char*, Value>, kCount>& values) {
  std::string names;
  for (const auto& [known, value] : values) {
    if (name == known) return value;
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  throw Error(ErrorKind::kArgument, std::string("there is no such ") + what).needed(names).found(name);
}

Filter filter_named(const std::string& name) {
  return value_named<Filter, 2>("filter", name,
                                {{{"bilinear", Filter::kBilinear}, {"bicubic", Filter::kBicubic}}});
}

PillowRule rule_named(const std::string& name) {
  return value_named<PillowRule, 3>(
      "rule", name,
      {{{"11", PillowRule::kPillow11}, {"12", PillowRule::kPillow12}, {"13", PillowRule::kPillow13}}});
}

/// \throws Error kArgument where this processor does not have them
Instructions instructions_named(const std::optional<std::string>& name) {
  if (!name) return best_instructions();
  const auto chosen = value_named<Instructions, 4>("instructions", *name,
                                                   {{{"portable", Instructions::kPortable},
                                                     {"sse4", Instructions::kSse4},
                                                     {"avx2", Instructions::kAvx2},
                                                     {"avx512", Instructions::kAvx512}}});
  if (chosen > best_instructions())
    throw Error(ErrorKind::kArgument, "this processor does not have " + *name);
  return chosen;
}

/// (left, top, width, height)
using RectTuple = std::tuple<std::int32_t, std::int32_t, std::int32_t, std::int32_t>;

Rect to_rect(const RectTuple& rect) noexcept {
  const auto& [x, y, width, height] = rect;
  return {x, y, width, height};
}

PixelType type_of(const py::array& pixels) {
  const bool is_wide = pixels.dtype().equal(py::dtype::of<std::uint16_t>());
  const bool is_known = is_wide || pixels.dtype().equal(py::dtype::of<std::uint8_t>());
  if (!is_known || pixels.ndim() != 3 || pixels.size() == 0 || pixels.shape(2) > 4 ||
      pixels.size() > INT32_MAX) {
    throw Error(ErrorKind::kSchema, "these are no pixels").needed("uint8 or uint16, (height, width, 1 to 4)");
  }
  return {static_cast<std::int32_t>(pixels.shape(2)), is_wide ? 2 : 1};
}

py::array new_array(const PixelView& view) {
  const py::dtype dtype =
      view.type.sample_bytes == 2 ? py::dtype::of<std::uint16_t>() : py::dtype::of<std::uint8_t>();
  return {dtype, {view.height, view.width, view.type.channels}};
}

py::array resize_pixels(const py::array& pixels, std::int32_t width, std::int32_t height,
                        const std::optional<std::array<float, 4>>& box,
                        const std::optional<RectTuple>& window, const std::string& filter,
                        const std::string& rule, const std::optional<std::string>& instructions) {
  const PixelType type = type_of(pixels);
  const auto packed = py::array::ensure(pixels, py::array::c_style);
  ResizePlan plan;
  plan.in_width = static_cast<std::int32_t>(pixels.shape(1));
  plan.in_height = static_cast<std::int32_t>(pixels.shape(0));
  plan.box = box ? Box{(*box)[0], (*box)[1], (*box)[2], (*box)[3]}
                 : Box{0, 0, static_cast<float>(plan.in_width), static_cast<float>(plan.in_height)};
  plan.out_width = width;
  plan.out_height = height;
  plan.window = window ? to_rect(*window) : Rect{0, 0, width, height};
  plan.filter = filter_named(filter);
  plan.rule = rule_named(rule);
  const Instructions chosen = instructions_named(instructions);
  PixelBuffer input;
  PixelBuffer output;
  PixelView resized;
  {
    const GilReleased unlocked;
    check_resize(plan);
    ResizeScratch scratch;
    const PixelView in = input.reset(plan.in_width, plan.in_height, type);
    copy_from(static_cast<const std::uint8_t*>(packed.data()), in);
    resized = resize(plan, in, 0, 0, output, scratch, chosen);
  }
  py::array result = new_array(resized);
  auto* const out = static_cast<std::uint8_t*>(result.mutable_data());
  const GilReleased unlocked;
  copy_to(resized, out);
  return result;
}

ColorMode mode_named(const std::string& name) {
  return value_named<ColorMode, 3>(
      "mode", name, {{{"unchanged", ColorMode::kUnchanged}, {"L", ColorMode::kL}, {"RGB", ColorMode::kRGB}}});
}

WarningPolicy policy_named(const std::string& name) {
  return value_named<WarningPolicy, 3>("policy for warnings", name,
                                       {{{"count", WarningPolicy::kCount},
                                         {"error", WarningPolicy::kError},
                                         {"ignore", WarningPolicy::kIgnore}}});
}

DecodeOptions decode_options(const std::string& mode, std::int32_t bits, bool orientation,
                             const std::string& warnings, std::int64_t max_pixels) {
  if (bits != 8 && bits != 16) throw Error(ErrorKind::kArgument, "samples have 8 or 16 bits");
  if (max_pixels < 1) throw Error(ErrorKind::kArgument, "max_pixels is 1 or more");
  return {mode_named(mode), bits / 8, orientation, policy_named(warnings), max_pixels};
}

Bytes bytes_of(const py::bytes& data) { return as_bytes(std::string_view(data)); }

/// format, width, height (upright), channels, orientation
py::tuple image_info(const py::bytes& data, const std::string& mode, std::int32_t bits, bool orientation,
                     std::int64_t max_pixels) {
  const DecodeOptions options = decode_options(mode, bits, orientation, "ignore", max_pixels);
  ImageInfo info;
  {
    const Bytes bytes = bytes_of(data);
    const GilReleased unlocked;
    info = open_image(bytes, options, &open_by_python)->info();
  }
  const ImagePlan::Size size = upright_size(info);
  constexpr std::array<const char*, 3> kNames{"jpeg", "png", "other"};
  return py::make_tuple(kNames.at(static_cast<std::size_t>(info.format)), size.width, size.height,
                        info.type.channels, info.orientation);
}

/// The pixels, the number of warnings and the first of them.
py::tuple decode_image(const py::bytes& data, const std::string& mode, std::int32_t bits, bool orientation,
                       const std::string& warnings, std::int64_t max_pixels,
                       const std::optional<RectTuple>& crop) {
  ImageOptions options;
  options.decode = decode_options(mode, bits, orientation, warnings, max_pixels);
  options.other = &open_by_python;
  FinishPlan any;
  any.dtype = bits == 16 ? DType::kUInt16 : DType::kUInt8;
  any.sample_bytes = bits / 8;
  const ImagePipeline pipeline(options, std::move(any));
  ImagePlan plan;
  if (crop) plan.crop = to_rect(*crop);
  PreparedImage image;
  {
    const Bytes bytes = bytes_of(data);
    const GilReleased unlocked;
    image = pipeline.prepare(*pipeline.open(bytes), plan, thread_image_scratch());
  }
  py::array pixels = new_array(image.pixels);
  copy_to(image.pixels, static_cast<std::uint8_t*>(pixels.mutable_data()));
  return py::make_tuple(std::move(pixels), image.report.num_warnings, image.report.first_warning);
}

std::shared_ptr<ImagePipeline> new_pipeline(const std::string& mode, std::int32_t channels, std::int32_t bits,
                                            const std::string& dtype, bool channels_last, bool scale,
                                            std::vector<float> mean, std::vector<float> deviation,
                                            const std::string& decode, const std::string& filter,
                                            const std::string& rule, bool orientation,
                                            const std::string& warnings, std::int64_t max_pixels) {
  ImageOptions options;
  options.decode = decode_options(mode, bits, orientation, warnings, max_pixels);
  options.other = &open_by_python;
  options.exactness = value_named<Exactness, 2>("way to decode", decode,
                                                {{{"exact", Exactness::kExact}, {"fast", Exactness::kFast}}});
  options.filter = filter_named(filter);
  options.rule = rule_named(rule);
  return std::make_shared<ImagePipeline>(
      options, FinishPlan{dtype_named(dtype), channels_last ? Layout::kChannelsLast : Layout::kChannelsFirst,
                          channels, bits / 8, scale, std::move(mean), std::move(deviation)});
}

/// Of one sample: (1, channels, height, width), or channels last.
std::vector<std::int64_t> shape_of(const FinishPlan& finish, const PixelView& pixels) {
  if (finish.layout == Layout::kChannelsLast) return {1, pixels.height, pixels.width, finish.channels};
  return {1, finish.channels, pixels.height, pixels.width};
}

/// The sample as a capsule, the number of warnings and the first of them.
py::tuple run_pipeline(const ImagePipeline& self, const py::bytes& data, const std::optional<RectTuple>& crop,
                       const std::optional<std::pair<std::int32_t, std::int32_t>>& resize,
                       const std::optional<RectTuple>& window, bool flip_horizontally, bool flip_vertically) {
  ImagePlan plan;
  if (crop) plan.crop = to_rect(*crop);
  if (resize) plan.resize = {resize->first, resize->second};
  if (window) plan.window = to_rect(*window);
  plan.flip_horizontally = flip_horizontally;
  plan.flip_vertically = flip_vertically;
  PreparedImage image;
  BatchBuffer buffer;
  std::vector<std::int64_t> shape;
  {
    const Bytes bytes = bytes_of(data);
    const GilReleased unlocked;
    image = self.prepare(*self.open(bytes), plan, thread_image_scratch());
    shape = shape_of(self.finisher().plan(), image.pixels);
    const auto size =
        static_cast<std::size_t>(self.finisher().bytes(image.pixels.width, image.pixels.height));
    buffer = BatchBuffer(size);
    self.finish(image, plan, std::span(buffer.data(), size));
  }
  return py::make_tuple(to_capsule(std::move(buffer), self.finisher().plan().dtype, std::move(shape)),
                        image.report.num_warnings, image.report.first_warning);
}

}  // namespace

void bind_image(py::module_& module) {
  module.def("use_image_libraries", &use_image_libraries, py::arg("uses"));
  module.def("resize_pixels", &resize_pixels, py::arg("pixels"), py::arg("width"), py::arg("height"),
             py::arg("box") = py::none(), py::arg("window") = py::none(), py::arg("filter") = "bilinear",
             py::arg("rule") = "13", py::arg("instructions") = py::none());
  module.def("image_info", &image_info, py::arg("data"), py::arg("mode") = "RGB", py::arg("bits") = 8,
             py::arg("orientation") = false, py::arg("max_pixels") = kDefaultMaxPixels);
  module.def("decode_image", &decode_image, py::arg("data"), py::arg("mode") = "RGB", py::arg("bits") = 8,
             py::arg("orientation") = false, py::arg("warnings") = "count",
             py::arg("max_pixels") = kDefaultMaxPixels, py::arg("crop") = py::none());
  py::class_<ImagePipeline, std::shared_ptr<ImagePipeline>>(module, "ImagePipeline")
      .def(py::init(&new_pipeline), py::kw_only(), py::arg("mode") = "RGB", py::arg("channels") = 3,
           py::arg("bits") = 8, py::arg("dtype") = "float32", py::arg("channels_last") = false,
           py::arg("scale") = true, py::arg("mean") = std::vector<float>{},
           py::arg("std") = std::vector<float>{}, py::arg("decode") = "exact", py::arg("filter") = "bilinear",
           py::arg("rule") = "13", py::arg("orientation") = false, py::arg("warnings") = "count",
           py::arg("max_pixels") = kDefaultMaxPixels)
      .def("run", &run_pipeline, py::arg("data"), py::arg("crop") = py::none(),
           py::arg("resize") = py::none(), py::arg("window") = py::none(),
           py::arg("flip_horizontally") = false, py::arg("flip_vertically") = false);
}

}  // namespace penstock
