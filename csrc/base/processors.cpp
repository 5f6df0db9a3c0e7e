#include "base/processors.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <exception>
#include <fstream>
#include <string>
#include <thread>

#include "base/control_group.h"

namespace penstock {
namespace {

int may_run_on() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// Processors' worth of time: quota / period, in microseconds; `most` where nothing is limited.
double granted(std::istream& quota_file, std::istream& period_file, double most) {
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return most;
  return std::min(most, quota / period);
}

/// At most `most`.
double granted_by_control_groups(double most) {
  const ControlGroups groups = control_groups("cpu");
  double time = most;
  for (const std::string& folder : groups.unified) {
    std::ifstream file(folder + "/cpu.max");  // "max 100000" or "150000 100000"
    time = granted(file, file, time);
  }
  for (const std::string& folder : groups.controller) {
    std::ifstream quota(folder + "/cpu.cfs_quota_us");  // -1: no limit
    std::ifstream period(folder + "/cpu.cfs_period_us");
    time = granted(quota, period, time);
  }
  return time;
}

}  // namespace

int num_processors() noexcept {
  const int processors = may_run_on();
  try {
    return std::clamp(static_cast<int>(std::ceil(granted_by_control_groups(processors))), 1, processors);
  } catch (const std::exception&) {
    return processors;
  }
}

}  // namespace penstock
