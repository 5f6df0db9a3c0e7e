#include "base/fork.h"

#include <pthread.h>

#include <vector>

namespace penstock {

struct ForkHandlers {
  std::mutex registration;  // guards both lists; a library may be loaded while another thread forks
  std::vector<ForkSafeMutex*> mutexes;
  std::vector<void (*)()> forgetters;

  ForkHandlers() { pthread_atfork(&lock_all, &unlock_all, &in_child); }

  static ForkHandlers& instance() {
    static ForkHandlers& handlers = *new ForkHandlers;
    return handlers;
  }

  static void lock_all() {
    ForkHandlers& self = instance();
    self.registration.lock();
    for (ForkSafeMutex* each : self.mutexes) each->mutex_.lock();
  }

  static void unlock_all() {
    ForkHandlers& self = instance();
    for (ForkSafeMutex* each : self.mutexes) each->mutex_.unlock();
    self.registration.unlock();
  }

  static void in_child() {
    unlock_all();
    for (void (*forget)() : instance().forgetters) forget();
  }
};

ForkSafeMutex::ForkSafeMutex() {
  ForkHandlers& handlers = ForkHandlers::instance();
  const std::scoped_lock lock(handlers.registration);
  handlers.mutexes.push_back(this);
}

void on_fork_in_child(void (*forget)()) {
  ForkHandlers& handlers = ForkHandlers::instance();
  const std::scoped_lock lock(handlers.registration);
  handlers.forgetters.push_back(forget);
}

}  // namespace penstock
