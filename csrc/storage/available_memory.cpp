#include "storage/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace penstock {
namespace {

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

/// The number a file begins with; "max" and missing files are kUnknown.
std::uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = kUnknown;
  return file >> number ? number : kUnknown;
}

/// The smallest limit of a group and those above it: proc_pid_cgroup(5), cgroups(7).
std::uint64_t limit_of_group(const std::string& root, std::string group, const char* file) {
  std::uint64_t limit = number_in(root + "/" + file);
  for (; group.size() > 1; group.erase(group.rfind('/'))) {
    limit = std::min(limit, number_in(root + group + "/" + file));
  }
  return limit;
}

std::uint64_t group_limit() {
  std::ifstream file("/proc/self/cgroup");
  std::uint64_t limit = kUnknown;
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) limit = std::min(limit, limit_of_group("/sys/fs/cgroup", group, "memory.max"));
    if (controllers == "memory") {
      limit = std::min(limit, limit_of_group("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"));
    }
  }
  return limit;
}

std::uint64_t system_memory() {
  constexpr std::uint64_t kBytesPerKiB = 1024;
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::uint64_t kib = 0;
  std::string unit;
  while (file >> name >> kib && std::getline(file, unit)) {
    if (name == "MemAvailable:") return kib * kBytesPerKiB;
  }
  return kUnknown;
}

}  // namespace

std::uint64_t available_memory() { return std::min(system_memory(), group_limit()); }

}  // namespace penstock
