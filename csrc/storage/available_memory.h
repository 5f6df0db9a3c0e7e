#pragma once

#include <cstdint>

namespace penstock {

/// Bytes of page cache that this process can hope for: what the system has available, or the smallest
/// memory limit of its control groups. The largest number when neither is known. Reads files; not for
/// hot paths.
[[nodiscard]] std::uint64_t available_memory();

}  // namespace penstock
