#pragma once

#include <cstdint>

namespace penstock {

/// Takes one of the mappings this process allows itself (a quarter of vm.max_map_count, 16,384 at
/// most: with the last one gone malloc fails too). False: read the file instead. Thread-safe.
[[nodiscard]] bool take_mapping() noexcept;
void give_mapping_back() noexcept;

/// Takes one of the descriptors this process allows itself to keep open (half the soft limit).
/// False: open the file for each read instead. Thread-safe.
[[nodiscard]] bool take_descriptor() noexcept;
void give_descriptor_back() noexcept;

}  // namespace penstock
