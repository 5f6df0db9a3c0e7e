#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "index/folder.h"

namespace penstock {

/// The images in a tar archive, and the number of each one's class, where it has one.
struct TarImages {
  Strings names;  ///< of their members
  std::vector<std::uint64_t> offsets;
  std::vector<std::uint64_t> sizes;
  std::vector<std::int64_t> labels;      ///< 0 for those without
  std::vector<std::uint8_t> has_labels;  ///< 1 or 0
};

/// Finds samples as webdataset does: members that follow one another and whose paths are the same up to the
/// first dot of the last part. What comes from that dot on says what a member is: one of `suffixes`, in small
/// letters, an image; `.cls` its class, as a number in text. Other members are left out, and samples of no
/// image and no class.
///
/// Where no member is an image by that, because names have dots in them (`v1.0_x.png`), they are told apart
/// by the last dot: each member that ends like an image is a sample, its class is the `.cls` of the same
/// stem.
///
/// Headers are read, and classes.
///
/// \throws Error kFormat as TarReader; and, with the member, for an image or a class that is a link, a second
/// image of a sample, a class without an image or that is no number; kShard
[[nodiscard]] TarImages read_tar_images(const ByteSource& file, std::span<const std::string> suffixes);

}  // namespace penstock
