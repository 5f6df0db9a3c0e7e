#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "image/decoder.h"

namespace penstock {

/// The library that decodes, with its version; nothing where this build has none.
[[nodiscard]] std::string png_library();

[[nodiscard]] bool looks_like_png(Bytes bytes) noexcept;

/// A decoder for PNG of any color type and depth, interlaced or not; checksums are checked as far as it
/// reads.
///
/// As Pillow has it: 1, 2 and 4 bits are scaled to 8; alpha is dropped where the mode has none; the
/// transparency of a single gray or color (tRNS without a palette) is not applied. Where 8 bits are wanted
/// of 16, colors give their upper byte, and gray without alpha becomes 255 above 255.
///
/// \throws Error kFormat where it is no PNG, has too many pixels, or this build has no libspng
[[nodiscard]] std::unique_ptr<Decoder> open_png(Bytes bytes, const DecodeOptions& options);

}  // namespace penstock
