#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace penstock {

/// What is done to tokens of one dtype: they lie end to end, in native byte order, anywhere.
///
/// Both own nothing and allocate nothing: safe under the fault guard. Vectorised for the processor at hand.
struct TokenKernels {
  /// Writes `count` tokens as int64, end to end.
  void (*widen)(const std::byte* from, std::int64_t count, std::byte* out) noexcept = nullptr;

  /// The largest of `count` tokens; a negative one counts as if its bits had no sign.
  std::uint64_t (*largest)(const std::byte* from, std::int64_t count) noexcept = nullptr;

  /// The first number that `largest` may not reach, so that every token is in [0, bound).
  ///
  /// \pre bound >= 1
  [[nodiscard]] std::uint64_t limit(std::int64_t bound) const noexcept;

  std::uint64_t num_not_negative = 0;  ///< how many numbers of this dtype there are from 0; 2**63 at most
};

/// \pre a whole number that fits in int64
[[nodiscard]] TokenKernels token_kernels(DType dtype) noexcept;

}  // namespace penstock
