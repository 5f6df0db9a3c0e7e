#include "bindings/color_changes.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "image/pixels.h"

namespace py = pybind11;

namespace penstock {
namespace {

using Kind = ColorChange::Kind;

constexpr std::array<std::pair<const char*, Kind>, 5> kKinds{{{"brightness", Kind::kBrightness},
                                                              {"contrast", Kind::kContrast},
                                                              {"saturation", Kind::kSaturation},
                                                              {"hue", Kind::kHue},
                                                              {"gray", Kind::kGray}}};

ColorChange change_from(const std::pair<std::string, double>& change) {
  const auto* const found =
      std::ranges::find(kKinds, change.first, [](const auto& each) { return each.first; });
  if (found == kKinds.end()) {
    throw Error(ErrorKind::kArgument, "there is no such change of colors").found(change.first);
  }
  const double most = found->second == Kind::kHue ? 1.0 : std::numeric_limits<double>::max();
  if (!(std::abs(change.second) <= most)) throw Error(ErrorKind::kArgument, "no such factor is possible");
  return {found->second, change.second};
}

using Pixels = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>;

/// The pixels, changed.
Pixels changed(const Pixels& pixels, const std::vector<std::pair<std::string, double>>& changes) {
  const bool is_known = pixels.ndim() == 3 && pixels.size() > 0 && pixels.size() <= INT32_MAX &&
                        (pixels.shape(2) == 1 || pixels.shape(2) == 3);
  if (!is_known) {
    throw Error(ErrorKind::kSchema, "these are no pixels").needed("uint8, (height, width, 1 or 3)");
  }
  std::vector<ColorChange> all;
  all.reserve(changes.size());
  for (const auto& each : changes) all.push_back(change_from(each));
  Pixels result({pixels.shape(0), pixels.shape(1), pixels.shape(2)});
  const std::uint8_t* const from = pixels.data();
  std::uint8_t* const to = result.mutable_data();
  const GilReleased unlocked;
  PixelBuffer buffer;
  const PixelView view =
      buffer.reset(static_cast<std::int32_t>(pixels.shape(1)), static_cast<std::int32_t>(pixels.shape(0)),
                   {static_cast<std::int32_t>(pixels.shape(2)), 1});
  copy_from(from, view);
  change_colors(view, all);
  copy_to(view, to);
  return result;
}

}  // namespace

py::list changes_as_list(const std::vector<ColorChange>& changes) {
  py::list list;
  for (const ColorChange& change : changes) {
    const auto* const found =
        std::ranges::find(kKinds, change.kind, [](const auto& each) { return each.second; });
    list.append(py::make_tuple(found->first, change.factor));
  }
  return list;
}

void bind_color_changes(py::module_& module) {
  module.def("change_colors", &changed, py::arg("pixels"), py::arg("changes"));
}

}  // namespace penstock
