#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "image/color_changes.h"

namespace penstock {

/// Name and factor of each.
[[nodiscard]] pybind11::list changes_as_list(const std::vector<ColorChange>& changes);

}  // namespace penstock
