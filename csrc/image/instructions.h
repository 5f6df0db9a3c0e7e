#pragma once

#include <cstdint>

namespace penstock {

/// What the kernels may use, each with all before it. The results are equal to the bit.
enum class Instructions : std::uint8_t {
  kPortable,
  kSse4,
  kAvx2,
  kAvx512,  ///< VL, BW, VBMI and VNNI: Ice Lake, Zen 4 and later
};

/// The most that this processor has and this build knows.
[[nodiscard]] Instructions best_instructions() noexcept;

}  // namespace penstock
