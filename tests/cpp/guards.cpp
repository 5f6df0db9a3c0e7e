#include "guards.h"

#include <signal.h>

#include <atomic>

namespace {

std::atomic<std::int64_t> calls{0};

}  // namespace

// The linker puts the one in the place of the other: see CMakeLists.txt.
extern "C" int __real_sigaction(int number, const struct sigaction* action, struct sigaction* before);
extern "C" int __wrap_sigaction(int number, const struct sigaction* action, struct sigaction* before);

int __wrap_sigaction(int number, const struct sigaction* action, struct sigaction* before) {
  ++calls;
  return __real_sigaction(number, action, before);
}

namespace penstock::testing {

std::int64_t guards_so_far() noexcept { return calls; }

}  // namespace penstock::testing
