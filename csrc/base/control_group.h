#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// The folders of this process's control group and of those above it, in which a limit may be written:
/// proc_pid_cgroup(5), cgroups(7). Empty where there are none.
struct ControlGroups {
  std::vector<std::string> unified;     ///< of version 2: files are called "memory.max", "cpu.max", ...
  std::vector<std::string> controller;  ///< of version 1: "memory.limit_in_bytes", "cpu.cfs_quota_us", ...
};

/// \param controller  whose folders of version 1 are meant: "memory", "cpu"
[[nodiscard]] ControlGroups control_groups(std::string_view controller);

}  // namespace penstock
