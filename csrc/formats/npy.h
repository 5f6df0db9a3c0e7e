#pragma once

#include <cstdint>

#include "base/byte_source.h"
#include "formats/layout.h"

namespace penstock {

/// Parses a NumPy `.npy` file, format versions 1.0 to 3.0 (numpy/lib/format.py states them).
///
/// Takes C and Fortran order, either byte order, and the ways of writing the header dict that numpy
/// accepts (see parse_py_literal). A structured dtype gives one named array per field, strided in
/// place; the names of nested fields are joined with '.'. Arrays and fields that torch cannot hold
/// (objects, text, bytes, times, long doubles) are listed as refused. Trailing bytes after the data
/// are ignored, as numpy does. Two reads, and none of them touches the data.
///
/// \throws Error kFormat for anything else: an unknown dtype, a header over 10,000 bytes, negative or
///         overflowing shapes, data that is cut short
[[nodiscard]] FileLayout parse_npy(const ByteSource& file);

/// The same for the first bytes of a `.npy` whose whole size is known but whose data is not at hand
/// (a deflated npz entry).
///
/// \param prefix  the header, possibly followed by more
/// \param total_bytes  the size of the whole `.npy`
[[nodiscard]] FileLayout parse_npy_header(Bytes prefix, std::uint64_t total_bytes);

}  // namespace penstock
