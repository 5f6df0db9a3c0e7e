#pragma once

#include <cstddef>
#include <cstdint>

#include "image/instructions.h"

namespace penstock {

/// A row of samples on its way into a batch.
struct FinishRow {
  const std::uint8_t* pixels;  ///< the one that comes first in the output
  std::int64_t pixel_step;     ///< bytes; negative when flipped
  std::int64_t channel_step;   ///< bytes; 0 when one channel makes all
  std::byte* out;
  std::int64_t out_channel_step;  ///< bytes from one channel of the output to the next
  std::int64_t out_step;          ///< bytes from one pixel of the output to the next
  std::int32_t width;
  std::int32_t channels;
  bool has_slack;  ///< of the last pixel, too, as many bytes may be read as it is from one to the next
  bool streams;    ///< past the cache. \pre every row of the output begins at a multiple of 32 bytes
};

/// What each sample becomes: one table a channel, end to end, and kSlack bytes more that may be read.
struct FinishTables {
  static constexpr std::size_t kSlack = 2;

  const std::byte* data;
  std::size_t bytes;  ///< of one channel
};

using FinishRowKernel = void (*)(const FinishRow&, const FinishTables&) noexcept;

/// The fastest way for rows like this one; the results are equal.
///
/// \param sample_bytes  1 or 2
/// \param value_bytes   of a table's entries: 1 (then each sample stays what it is), 2 or 4
[[nodiscard]] FinishRowKernel finish_row_kernel(const FinishRow& row, std::int32_t sample_bytes,
                                                std::int64_t value_bytes, Instructions instructions) noexcept;

/// To be called behind rows that went past the cache, before another thread reads them.
void end_streaming() noexcept;

}  // namespace penstock
