#pragma once

#include <cstdint>
#include <functional>

namespace penstock {

/// Threads that a call may use, the calling one included. Default: num_processors(). One pool per process,
/// made at first use and again after a fork.
[[nodiscard]] int num_threads() noexcept;

/// \throws Error kSchema unless count >= 1
void set_num_threads(int count);

/// What num_threads() says when nobody has set it: 1 in a worker process, whose siblings have the
/// other processors.
void set_default_num_threads(int count) noexcept;

/// Runs work(0) ... work(parts - 1), each once, on the calling thread and idle threads of the pool,
/// and waits for all of them. If some throw, one of the exceptions is rethrown when all have ended.
/// Thread-safe; `work` must not call run_parallel.
void run_parallel(std::int64_t parts, const std::function<void(std::int64_t)>& work);

/// Has threads of the pool call `task`, soon: all that are free, each once and at the same time, until the
/// first of the calls has returned, which must mean that nothing is left to begin. Tasks begin in the order
/// in which they came. For them the pool has one thread less than num_threads(), the one that will wait for
/// the result, but at least one; inside, run_parallel uses the calling thread alone. `task` must not throw.
/// Where no thread can be made, or after a fork, it may never be called: whoever needs its result must be
/// able to do without. Thread-safe.
void run_later(std::function<void()> task);

/// Has other threads of the pool call `task`, soon: up to eight errands at a time, in the order in which they
/// came. For what mostly waits for the system, which does several things at a time, and must not wait for
/// those who compute. `task` must bear to be called twice. Otherwise as run_later.
void run_errand(std::function<void()> task);

}  // namespace penstock
