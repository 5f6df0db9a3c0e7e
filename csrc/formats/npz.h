#pragma once

#include "base/byte_source.h"
#include "formats/layout.h"
#include "formats/zip.h"

namespace penstock {

/// Parses a NumPy `.npz` file: one named array per `.npy` entry (the suffix is dropped).
///
/// Stored entries give their place in the file; deflated ones carry `ArrayLayout::deflated` and an
/// offset into the inflated bytes. Other entries are ignored. Entries numpy could only read by
/// unpickling, or torch cannot hold, are listed as refused.
///
/// \throws Error kFormat for a broken archive or a broken `.npy` entry, naming the entry, and for
///         `.npy` entries that overlap
[[nodiscard]] FileLayout parse_npz(const ByteSource& file, const ZipDirectory& directory);

}  // namespace penstock
