#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "image/decoder.h"

namespace penstock {

/// The library that decodes, with its version; nothing where this build has none.
[[nodiscard]] std::string jpeg_library();

[[nodiscard]] bool looks_like_jpeg(Bytes bytes) noexcept;

/// A decoder for baseline and progressive JPEG of 8 bits: 1, 3 or 4 components, any subsampling. Accurate DCT
/// and smooth upsampling, libjpeg's defaults and Pillow's. Inks are taken to be stored inverted, as Adobe
/// does.
///
/// \throws Error kFormat where it is no such JPEG, has too many pixels, or this build has no libjpeg-turbo
[[nodiscard]] std::unique_ptr<Decoder> open_jpeg(Bytes bytes, const DecodeOptions& options);

}  // namespace penstock
