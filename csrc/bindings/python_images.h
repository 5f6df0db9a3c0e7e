#pragma once

#include <memory>

#include "base/bytes.h"
#include "image/decoder.h"

namespace penstock {

/// An ImageOpener that asks the function given to `set_image_opener`. It takes the GIL, which the caller must
/// have released, and holds no lock meanwhile.
///
/// \returns nothing where there is no such function, or it does not know the format
/// \throws Error kFormat with what Python raised, kShard when the interpreter is about to end; PythonRaised
[[nodiscard]] std::unique_ptr<Decoder> open_by_python(Bytes bytes, const DecodeOptions& options);

/// Whether the calling thread is in Python code that a decoder has called. Whatever ends there, such as
/// garbage, must not wait for a batch: it may be the one that is being decoded.
[[nodiscard]] bool is_in_python_decoder() noexcept;

}  // namespace penstock
