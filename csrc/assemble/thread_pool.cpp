#include "assemble/thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/fork.h"
#include "base/processors.h"

namespace penstock {
namespace {

/// One call of run_parallel. Lives on the caller's stack until no thread touches it.
struct Job {
  const std::function<void(std::int64_t)>* work;
  std::int64_t parts;
  std::atomic<std::int64_t> next{0};
  int helpers = 0;             // guarded by Pool::mutex_
  std::exception_ptr failure;  // guarded by Pool::mutex_
};

/// No asynchronous signal reaches this thread, nor those it starts, as long as this lives.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t signals;
    sigfillset(&signals);
    for (const int synchronous : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) sigdelset(&signals, synchronous);
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

thread_local bool in_task = false;

int threads_for_tasks() noexcept { return std::max(1, num_threads() - 1); }

/// They wait for a disk or a network, which does several things at a time.
constexpr int kErrandsAtATime = 8;

/// Tasks of one kind.
struct Lane {
  std::deque<std::shared_ptr<const std::function<void()>>> tasks;
  int running = 0;
};

/// Threads that wait for jobs and tasks. Never destroyed: a forked child drops the pointer, and at exit the
/// threads sleep until the process is gone.
class Pool {
 public:
  static Pool& instance() {
    const std::scoped_lock lock(making_);
    if (current_ == nullptr) current_ = new Pool;
    return *current_;
  }

  /// A forked child has none of the parent's threads.
  static void forget() noexcept { current_ = nullptr; }

  enum LaneOf : std::uint8_t { kErrands, kWork };

  void add(std::function<void()> task, LaneOf which) {
    {
      const std::scoped_lock lock(mutex_);
      grow_to(threads_for_tasks() + (which == kErrands ? kErrandsAtATime : 0));
      lanes_[which].tasks.push_back(std::make_shared<const std::function<void()>>(std::move(task)));
    }
    work_.notify_one();
  }

  void run(Job& job, int helpers_wanted) {
    offer(job, helpers_wanted);
    take_parts(job);
    std::unique_lock lock(mutex_);
    std::erase(jobs_, &job);
    idle_again_.wait(lock, [&job] { return job.helpers == 0; });
    if (job.failure) std::rethrow_exception(job.failure);
  }

 private:
  /// \throws std::bad_alloc: then nobody has been offered the job, which will be gone
  void offer(Job& job, int helpers_wanted) {
    {
      const std::scoped_lock lock(mutex_);
      grow_to(helpers_wanted);
      jobs_.insert(jobs_.end(), static_cast<std::size_t>(helpers_wanted), &job);
    }
    for (int i = 0; i < helpers_wanted; ++i) work_.notify_one();
  }

  /// Guarded by mutex_. Fewer threads than wanted is no failure: the caller does what they do not.
  void grow_to(int count) {
    if (num_threads_ >= count) return;
    const SignalsBlocked blocked;  // inherited: Ctrl-C is for the main thread
    try {
      while (num_threads_ < count) {
        std::thread([this] { serve(); }).detach();
        ++num_threads_;
      }
    } catch (const std::system_error&) {
    }
  }

  [[noreturn]] void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [this] { return !jobs_.empty() || can_begin(kErrands) || can_begin(kWork); });
      if (jobs_.empty()) {
        run_task(lock, can_begin(kErrands) ? kErrands : kWork);
        continue;
      }
      Job& job = *jobs_.front();
      jobs_.pop_front();
      ++job.helpers;
      lock.unlock();
      take_parts(job);
      lock.lock();
      --job.helpers;
      idle_again_.notify_all();
    }
  }

  /// Guarded by mutex_.
  [[nodiscard]] bool can_begin(LaneOf which) const noexcept {
    return !lanes_[which].tasks.empty() &&
           lanes_[which].running < (which == kWork ? threads_for_tasks() : kErrandsAtATime);
  }

  void run_task(std::unique_lock<std::mutex>& lock, LaneOf which) {
    Lane& lane = lanes_[which];
    const std::shared_ptr<const std::function<void()>> task = lane.tasks.front();
    ++lane.running;
    if (can_begin(kErrands) || can_begin(kWork)) work_.notify_one();
    lock.unlock();
    in_task = true;
    (*task)();
    in_task = false;
    lock.lock();
    --lane.running;
    std::erase(lane.tasks, task);
  }

  void take_parts(Job& job) {
    for (std::int64_t part = job.next++; part < job.parts; part = job.next++) {
      try {
        (*job.work)(part);
      } catch (...) {
        const std::scoped_lock lock(mutex_);
        job.failure = std::current_exception();
      }
    }
  }

  inline static ForkSafeMutex& making_ = *new ForkSafeMutex;
  inline static Pool* current_ = nullptr;  // guarded by making_

  std::mutex mutex_;  // guards all below
  std::condition_variable work_;
  std::condition_variable idle_again_;
  std::deque<Job*> jobs_;
  std::array<Lane, 2> lanes_;
  int num_threads_ = 0;
};

[[maybe_unused]] const bool kForgottenInChild = (on_fork_in_child(&Pool::forget), true);

std::atomic<int> all_processors{0};   // 0: not counted
std::atomic<int> chosen_threads{0};   // 0: not chosen
std::atomic<int> default_threads{0};  // 0: all processors

}  // namespace

int num_threads() noexcept {
  int all = all_processors.load(std::memory_order_relaxed);
  if (all == 0) all_processors.store(all = num_processors(), std::memory_order_relaxed);
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  const int by_default = default_threads.load(std::memory_order_relaxed);
  return chosen > 0 ? chosen : by_default > 0 ? by_default : all;
}

void set_default_num_threads(int count) noexcept { default_threads.store(count, std::memory_order_relaxed); }

void set_num_threads(int count) {
  if (count < 1) {
    throw Error(ErrorKind::kSchema, "the number of threads is impossible")
        .needed("1 or more")
        .found(std::to_string(count));
  }
  chosen_threads.store(count, std::memory_order_relaxed);
}

void run_parallel(std::int64_t parts, const std::function<void(std::int64_t)>& work) {
  const auto wanted = static_cast<int>(std::min<std::int64_t>(parts, num_threads())) - 1;
  if (wanted < 1 || in_task) {
    for (std::int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  Job job{&work, parts, {}, 0, nullptr};
  Pool::instance().run(job, wanted);
}

void run_later(std::function<void()> task) { Pool::instance().add(std::move(task), Pool::kWork); }

void run_errand(std::function<void()> task) { Pool::instance().add(std::move(task), Pool::kErrands); }

}  // namespace penstock
