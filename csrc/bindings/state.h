#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "assemble/table.h"

namespace penstock {

/// What a pickle carries of a table: its files' names and identities, and where rows lie in them. No
/// data. Everything is checked again when a table is made of it.
///
/// \throws py::type_error when a column lies in memory
[[nodiscard]] pybind11::tuple table_to_state(const Table& table);

/// \throws Error kSchema when the state does not fit together
[[nodiscard]] std::shared_ptr<Table> table_from_state(const pybind11::tuple& state);

}  // namespace penstock
