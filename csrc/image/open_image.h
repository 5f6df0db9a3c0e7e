#pragma once

#include <memory>

#include "base/bytes.h"
#include "image/decoder.h"

namespace penstock {

/// A decoder for these bytes, by what they begin with.
///
/// \throws Error kFormat where they are no JPEG and no PNG, or as their decoder says
[[nodiscard]] std::unique_ptr<Decoder> open_image(Bytes bytes, const DecodeOptions& options);

}  // namespace penstock
