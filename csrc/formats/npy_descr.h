#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "formats/npy_element.h"
#include "formats/py_literal.h"

namespace penstock {

/// Reads the `descr` of a `.npy` header: a dtype string, (dtype, shape), or a list of fields.
///
/// \param latin1  whether names are in Latin-1, as before version 3.0; what is returned is UTF-8
/// \throws Error kFormat, with the offset: an unknown dtype, a name that stands twice (joined names
///         included), elements over 2 GiB, more than 64 dimensions
[[nodiscard]] NpyElement parse_npy_descr(const PyLiteral& descr, bool latin1);

/// Reads a shape: a tuple or list of at most 64 lengths >= 0.
///
/// \throws Error kFormat, with the offset
[[nodiscard]] std::vector<std::int64_t> parse_npy_shape(const PyLiteral& literal);

enum class NpyOrder : std::uint8_t { kC, kFortran };

/// Puts the dimensions of an array of elements in front of those of their parts.
///
/// \returns one element that is that whole array
/// \throws Error kFormat when it takes 2**63 bytes or more, or a part has more than 64 dimensions
[[nodiscard]] NpyElement repeated(NpyElement element, const std::vector<std::int64_t>& shape, NpyOrder order);

/// Bytes of an array. \throws Error kFormat when they do not fit in 63 bits
[[nodiscard]] std::uint64_t npy_array_bytes(const std::vector<std::int64_t>& shape, std::uint64_t item_bytes);

/// What is thrown for an array of 2**63 bytes or more.
[[nodiscard]] Error npy_too_large(const std::vector<std::int64_t>& shape, std::uint64_t item_bytes);

[[nodiscard]] bool has_no_elements(const std::vector<std::int64_t>& shape);

}  // namespace penstock
