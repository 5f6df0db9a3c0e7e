#pragma once

#include <memory>

#include "base/bytes.h"
#include "image/decoder.h"

namespace penstock {

/// A decoder for these bytes, by what they begin with.
///
/// \param other  asked where they are no JPEG and no PNG, or this build has no library for them; or none
/// \throws Error kFormat where nobody knows the format, or as its decoder says
[[nodiscard]] std::unique_ptr<Decoder> open_image(Bytes bytes, const DecodeOptions& options,
                                                  ImageOpener other = nullptr);

/// For tests: whether JPEG and PNG are decoded by the libraries of this build, where it has them. As if it
/// had none where false. Default: true.
void use_image_libraries(bool uses) noexcept;

}  // namespace penstock
