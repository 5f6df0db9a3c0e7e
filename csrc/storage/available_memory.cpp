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

/// The number after a name in a file of "name number" lines; 0 where there is none.
std::uint64_t number_called(const std::string& name, const std::string& path) {
  std::ifstream file(path);
  std::string each;
  std::uint64_t number = 0;
  while (file >> each >> number) {
    if (each == name) return number;
  }
  return 0;
}

/// What a group's limit leaves, without what it holds; pages of files that can go are not counted as held.
std::uint64_t left_of(const std::string& limit_file, const std::string& usage_file, const std::string& folder,
                      const char* reclaimable) {
  const std::uint64_t limit = number_in(folder + limit_file);
  const std::uint64_t used = number_in(folder + usage_file);
  if (limit == kUnknown || used == kUnknown) return limit;
  const std::uint64_t held = used - std::min(used, number_called(reclaimable, folder + "/memory.stat"));
  return limit - std::min(limit, held);
}

std::uint64_t left_by_groups() {
  const ControlGroups groups = control_groups("memory");
  std::uint64_t left = kUnknown;
  for (const std::string& folder : groups.unified) {
    left = std::min(left, left_of("/memory.max", "/memory.current", folder, "inactive_file"));
  }
  for (const std::string& folder : groups.controller) {
    left = std::min(
        left, left_of("/memory.limit_in_bytes", "/memory.usage_in_bytes", folder, "total_inactive_file"));
  }
  return left;
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

std::uint64_t available_memory() { return std::min(system_memory(), left_by_groups()); }

}  // namespace penstock
