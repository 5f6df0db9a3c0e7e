#pragma once

namespace penstock {

/// How many processors this process may keep busy: those it may run on, or fewer where a control group grants
/// it less of their time. At least 1.
[[nodiscard]] int num_processors() noexcept;

}  // namespace penstock
