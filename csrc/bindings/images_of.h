#pragma once

#include <memory>
#include <variant>

#include "assemble/image_extents.h"
#include "index/file_index.h"

namespace penstock {

/// Images as Python names them: files, or extents of larger ones.
using AnyImages = std::variant<std::shared_ptr<FileIndex>, std::shared_ptr<ImageExtents>>;

[[nodiscard]] inline std::shared_ptr<const EncodedImages> images_of(const AnyImages& any) {
  if (const auto* const files = std::get_if<std::shared_ptr<FileIndex>>(&any)) {
    return std::make_shared<ImageFiles>(*files);
  }
  return std::get<std::shared_ptr<ImageExtents>>(any);
}

}  // namespace penstock
