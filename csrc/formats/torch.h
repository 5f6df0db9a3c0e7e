#pragma once

#include "base/byte_source.h"
#include "formats/layout.h"
#include "formats/zip.h"

namespace penstock {

/// Parses a `torch.save` zip archive (torch >= 1.6): a tensor, or dicts, lists and tuples of them.
///
/// Nested names are joined with '.'; leaves that are no tensors are ignored. The pickle is read by a
/// closed, data-only evaluator: nothing is imported or called, and any name outside its table is an
/// error that gives the name.
///
/// \throws Error kFormat for TorchScript, torch.export and sparse, quantized or nested tensors, for
///         deflated, encrypted, overlapping or wrongly sized records, for tensors in a set,
///         for a data.pkl that fails its CRC-32 (where there are one and zlib), and for a broken pickle.
///         Records of tensors are not read, so their CRC-32 is not checked.
[[nodiscard]] FileLayout parse_torch(const ByteSource& file, const ZipDirectory& directory);

}  // namespace penstock
