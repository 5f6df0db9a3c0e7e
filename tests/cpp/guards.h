#pragma once

#include <cstdint>

namespace penstock::testing {

/// How often the system was asked about signal handlers so far, which the fault guard does each time.
[[nodiscard]] std::int64_t guards_so_far() noexcept;

}  // namespace penstock::testing
