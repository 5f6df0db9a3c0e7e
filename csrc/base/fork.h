#pragma once

#include <mutex>

namespace penstock {

/// A mutex for process-wide state that survives fork().
///
/// A thread that holds an ordinary mutex when another thread forks leaves it locked for ever in the
/// child. These are all taken before a fork and given back on both sides, so a child always finds
/// them free. Only for leaky globals (never destroyed), and never take one while holding another.
///
/// Made when the library is loaded, not as a static inside a function: a thread that is making one of
/// those when another thread forks leaves it half made, and waited for, in the child.
///
/// thread-safe
class ForkSafeMutex {
 public:
  ForkSafeMutex();
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;
  ~ForkSafeMutex() = delete;

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  friend struct ForkHandlers;
  std::mutex mutex_;
};

/// Called when the library is loaded. Calls `forget` in every forked child, after the mutexes are free again.
/// For state that means nothing there, such as threads; it must only drop pointers, never join or free.
void on_fork_in_child(void (*forget)());

}  // namespace penstock
