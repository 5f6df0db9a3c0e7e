#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/dtype.h"
#include "formats/layout.h"
#include "formats/raw.h"
#include "index/header.h"
#include "storage/file.h"

namespace penstock {

/// What a file without a header holds, as Python says it: dtype, row shape, offset.
using RawTuple = std::tuple<std::string, std::vector<std::int64_t>, std::uint64_t>;

/// \throws Error kSchema when there is no such dtype
[[nodiscard]] std::optional<RawFormat> raw_format(const std::optional<RawTuple>& raw);
[[nodiscard]] DType dtype_named(const std::string& name);

/// "auto", "map" or "read".
///
/// \throws Error kSchema when it is none
[[nodiscard]] FileAccess access_named(const std::string& name);

/// "array", "sequence" or "mapping".
[[nodiscard]] const char* container_name(Container container) noexcept;

/// (path, [(name, kind), ...]); None where nothing is left out.
[[nodiscard]] pybind11::object left_out_in_python(const LeftOut& left_out);

}  // namespace penstock
