#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace penstock {

/// How rows of different lengths are put into one batch.
struct RaggedLayout {
  bool is_packed = false;   ///< end to end; else all padded to the longest
  bool batch_first = true;  ///< padded: (rows, width, ...); else (width, rows, ...)
  bool pads_front = false;  ///< padded: values stand at the end of their row
  bool cuts_front = false;  ///< a row that is too long loses its front; else its end
  std::int64_t max_length = std::numeric_limits<std::int64_t>::max();
  std::int64_t multiple = 1;  ///< padded: the width is rounded up to a multiple of this
};

/// One element: what fills the rest of a padded row.
using Padding = std::vector<std::byte>;

}  // namespace penstock
