#pragma once

#include "base/byte_source.h"
#include "formats/layout.h"

namespace penstock {

/// Recognises a file by its first bytes, whatever its name, and parses it with the right parser.
///
/// Reads headers only: no byte of any array's elements, except a deflated npz entry's first block.
///
/// \throws Error kFormat when it is no format of ours (naming what it looks like: a git-lfs pointer,
///         a legacy or TorchScript `.pt`, text, HTML, HDF5, ...) or is one but broken
[[nodiscard]] FileLayout parse_file(const ByteSource& file);

}  // namespace penstock
