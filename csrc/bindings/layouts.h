#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include "assemble/ragged_layout.h"

namespace penstock {

/// is_packed, batch_first, pads_front, cuts_front, max_length, multiple
using LayoutTuple = std::tuple<bool, bool, bool, bool, std::optional<std::int64_t>, std::int64_t>;

[[nodiscard]] inline RaggedLayout layout_from(const LayoutTuple& tuple) {
  const auto& [is_packed, batch_first, pads_front, cuts_front, max_length, multiple] = tuple;
  return {is_packed, batch_first, pads_front, cuts_front, max_length.value_or(RaggedLayout{}.max_length),
          multiple};
}

}  // namespace penstock
