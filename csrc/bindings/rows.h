#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

namespace penstock {

/// Row numbers as Python gives them: a list or tuple of ints, or an integer array of any width.
/// Negative ones count from the end.
///
/// \throws Error kSchema for anything that is no whole number (bool and float too), kIndex outside
///         [-num_rows, num_rows)
[[nodiscard]] std::vector<std::int64_t> to_rows(const pybind11::object& indices, std::int64_t num_rows);

}  // namespace penstock
