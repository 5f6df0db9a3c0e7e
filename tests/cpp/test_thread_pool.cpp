#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>
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

TEST_CASE("tasks begin in order, on all free threads at once, until the first call of each has returned") {
  struct Counts {  // shared: a late call may outlive the test
    std::array<std::atomic<int>, 20> calls{};
    std::atomic<int> inside{0};
    std::atomic<int> most_inside{0};
    std::atomic<std::size_t> ended{0};
    std::atomic<bool> in_order{true};
  };
  set_num_threads(3);  // two for tasks
  const auto counts = std::make_shared<Counts>();
  for (std::size_t i = 0; i < counts->calls.size(); ++i) {
    run_later([counts, i] {
      if (i > 0 && counts->calls[i - 1] == 0) counts->in_order = false;
      const int inside = ++counts->inside;
      counts->most_inside = std::max(counts->most_inside.load(), inside);
      if (++counts->calls[i] == 1) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
        while (counts->calls[i] < 2 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
        ++counts->ended;
      }
      --counts->inside;
    });
  }
  while (counts->ended < counts->calls.size()) std::this_thread::yield();
  for (const auto& calls : counts->calls) CHECK(calls >= 2);
  CHECK(counts->in_order);
  CHECK(counts->most_inside == 2);
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
