#include "storage/available_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "base/control_group.h"

namespace penstock {
namespace {

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

/// The number a file begins with; "max" and missing files are kUnknown.
std::uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = kUnknown;
  return file >> number ? number : kUnknown;
}

std::uint64_t group_limit() {
  const ControlGroups groups = control_groups("memory");
  std::uint64_t limit = kUnknown;
  for (const std::string& folder : groups.unified) limit = std::min(limit, number_in(folder + "/memory.max"));
  for (const std::string& folder : groups.controller) {
    limit = std::min(limit, number_in(folder + "/memory.limit_in_bytes"));
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
