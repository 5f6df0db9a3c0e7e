#include "base/control_group.h"

#include <doctest/doctest.h>
#include <sched.h>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/processors.h"

namespace penstock {
namespace {

const std::string kRoot = "/sys/fs/cgroup";

/// From a group's folder upwards: each lies in the next one, the last is `root`.
void require_leads_up_to(const std::vector<std::string>& folders, const std::string& root) {
  REQUIRE(folders.back() == root);
  for (std::size_t i = 0; i + 1 < folders.size(); ++i) {
    REQUIRE(folders[i].substr(0, folders[i].rfind('/')) == folders[i + 1]);
  }
}

/// The group that /proc/self/cgroup says, by the text before it; nothing when there is no such line.
std::string group_after(const std::string& beginning) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(beginning)) return line.substr(beginning.size());
  }
  return "";
}

TEST_CASE("the folders of version 2 lead from this process's group up to the root") {
  const std::string group = group_after("0::");
  const ControlGroups groups = control_groups("cpu");
  REQUIRE(groups.unified.empty() == group.empty());
  if (group.empty()) return;
  require_leads_up_to(groups.unified, kRoot);
  CHECK(groups.unified.front() == (group == "/" ? kRoot : kRoot + group));
}

TEST_CASE("the folders of version 1 are the asked for controller's, if there is one") {
  for (const char* name : {"cpu", "memory"}) {
    const std::vector<std::string> folders = control_groups(name).controller;
    if (!folders.empty()) require_leads_up_to(folders, kRoot + "/" + name);
  }
  CHECK(control_groups("no such thing").controller.empty());
  CHECK(control_groups("cp").controller.empty());  // part of a name is not the name
}

TEST_CASE("which controller is asked for makes no difference to version 2") {
  CHECK(control_groups("cpu").unified == control_groups("memory").unified);
  CHECK(control_groups("cpu").unified == control_groups("").unified);
}

TEST_CASE("there is at least one processor, and no more than this thread may run on") {
  CHECK(num_processors() >= 1);
  cpu_set_t set;
  REQUIRE(::sched_getaffinity(0, sizeof(set), &set) == 0);
  CHECK(num_processors() <= CPU_COUNT(&set));
}

TEST_CASE("a thread that may run on one processor has one") {
  int found = 0;
  std::thread([&found] {
    cpu_set_t all;
    if (::sched_getaffinity(0, sizeof(all), &all) != 0) return;
    int first = 0;
    while (!CPU_ISSET(static_cast<std::size_t>(first), &all)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(first), &one);
    if (::sched_setaffinity(0, sizeof(one), &one) == 0) found = num_processors();
  }).join();
  CHECK(found == 1);
}

}  // namespace
}  // namespace penstock
