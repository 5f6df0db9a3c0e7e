#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "assemble/thread_pool.h"
#include "base/error.h"

namespace penstock {
namespace {

TEST_CASE("every part runs once, whatever the number of threads") {
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    for (const std::int64_t parts : {0, 1, 2, 100}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(parts));
      run_parallel(parts, [&](std::int64_t part) { ++runs[static_cast<std::size_t>(part)]; });
      for (const auto& count : runs) CHECK(count == 1);
    }
  }
  set_num_threads(1);
}

TEST_CASE("an exception on any thread arrives at the caller, after all parts have ended") {
  set_num_threads(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> ended{0};
    const auto work = [&](std::int64_t part) {
      if (part == round % 8) throw std::runtime_error("part");
      ++ended;
    };
    CHECK_THROWS_AS(run_parallel(8, work), std::runtime_error);
    CHECK(ended == 7);
  }
  set_num_threads(1);
}

TEST_CASE("a forked child has a pool of its own") {
  set_num_threads(3);
  std::atomic<int> sum{0};
  run_parallel(8, [&](std::int64_t) { ++sum; });
  for (int round = 0; round < 20; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      std::atomic<int> mine{0};
      run_parallel(8, [&](std::int64_t) { ++mine; });
      ::_exit(mine == 8 ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  set_num_threads(1);
}

TEST_CASE("an impossible number of threads is refused") { CHECK_THROWS_AS(set_num_threads(0), Error); }

}  // namespace
}  // namespace penstock
