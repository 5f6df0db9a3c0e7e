#include "base/control_group.h"

#include <fstream>

namespace penstock {
namespace {

/// A group's folder, those above it, and the root.
std::vector<std::string> folders_of(const std::string& root, std::string group) {
  std::vector<std::string> folders;
  for (; group.size() > 1; group.erase(group.rfind('/'))) folders.push_back(root + group);
  folders.push_back(root);
  return folders;
}

/// Whether a comma-separated list holds `name`.
bool lists(const std::string& names, std::string_view name) {
  return ("," + names + ",").find("," + std::string(name) + ",") != std::string::npos;
}

}  // namespace

ControlGroups control_groups(std::string_view controller) {
  ControlGroups groups;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) groups.unified = folders_of("/sys/fs/cgroup", group);
    if (lists(controllers, controller)) {
      groups.controller = folders_of("/sys/fs/cgroup/" + std::string(controller), group);
    }
  }
  return groups;
}

}  // namespace penstock
