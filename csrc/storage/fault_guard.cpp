#include "storage/fault_guard.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <mutex>

#include "base/fork.h"

namespace penstock {
namespace {

struct Frame {
  sigjmp_buf jump;
  const void* volatile fault = nullptr;
};

#if defined(__linux__)
#define PENSTOCK_HANDLER_TLS __attribute__((tls_model("initial-exec")))  // no allocation inside the handler
#else
#define PENSTOCK_HANDLER_TLS
#endif

ForkSafeMutex& installing = *new ForkSafeMutex;

thread_local Frame* volatile active_frame PENSTOCK_HANDLER_TLS = nullptr;

struct sigaction previous_action{};  // written under `installing`
std::atomic<bool> passed_on_before{false};

void unblock_sigbus() noexcept {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGBUS);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

void die_by_default(int number) noexcept {
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  sigaction(number, &action, nullptr);
  unblock_sigbus();
  (void)raise(number);
}

void pass_on(int number, siginfo_t* info, void* context) noexcept {
  if (passed_on_before.exchange(true)) return die_by_default(number);
  if ((previous_action.sa_flags & SA_SIGINFO) != 0 && previous_action.sa_sigaction != nullptr) {
    return previous_action.sa_sigaction(number, info, context);
  }
  if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) {
    return die_by_default(number);
  }
  previous_action.sa_handler(number);
}

void on_sigbus(int number, siginfo_t* info, void* context) {
  Frame* const frame = active_frame;
  const bool raised_by_access = info->si_code > 0;  // not by kill()
  if (frame == nullptr || !raised_by_access) return pass_on(number, info, context);
  active_frame = nullptr;
  frame->fault = info->si_addr;
  unblock_sigbus();
  siglongjmp(frame->jump, 1);
}

bool is_ours(const struct sigaction& action) noexcept {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &on_sigbus;
}

void ensure_handler() noexcept {
  struct sigaction current{};
  sigaction(SIGBUS, nullptr, &current);
  if (is_ours(current)) return;
  const std::scoped_lock lock(installing);
  sigaction(SIGBUS, nullptr, &current);
  if (is_ours(current)) return;
  previous_action = current;
  passed_on_before.store(false);
  struct sigaction action{};
  action.sa_sigaction = &on_sigbus;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace

const void* run_guarded(void (*body)(void*), void* context) noexcept {
  ensure_handler();
  Frame frame;
  if (sigsetjmp(frame.jump, 0) == 0) {
    active_frame = &frame;
    body(context);
    active_frame = nullptr;
    return nullptr;
  }
  return frame.fault;
}

}  // namespace penstock
