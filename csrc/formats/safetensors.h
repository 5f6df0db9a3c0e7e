#pragma once

#include "base/byte_source.h"
#include "formats/layout.h"

namespace penstock {

/// Parses a `.safetensors` file: one named array per tensor, in the order of their bytes.
///
/// Stricter than the reference reader where its README is: the header must begin with '{' and no
/// key may stand twice. Tensors of 6-bit floats, and of 4-bit floats with an odd last dimension, are
/// listed as refused.
///
/// \throws Error kFormat for anything else: a header over 100,000,000 bytes, bad JSON, an unknown
///         dtype, and ranges that do not tile the rest of the file exactly
[[nodiscard]] FileLayout parse_safetensors(const ByteSource& file);

}  // namespace penstock
