#include "loader/pending_batch.h"

#include <condition_variable>
#include <mutex>
#include <utility>

#include "assemble/thread_pool.h"
#include "base/error.h"
#include "base/fork.h"

namespace penstock {
namespace {

/// What all pending batches of a process share. Never destroyed: threads may outlive main.
struct Shared {
  ForkSafeMutex& mutex = *new ForkSafeMutex;
  std::condition_variable_any* done = new std::condition_variable_any;
  std::int64_t forks = 0;  ///< between the first process and this one
};

Shared& shared() {
  static Shared& instance = *new Shared;
  static const bool registered = (on_fork_in_child([] {
                                    instance.done =
                                        new std::condition_variable_any;  // the old one has ghosts waiting
                                    ++instance.forks;
                                  }),
                                  true);
  (void)registered;
  return instance;
}

}  // namespace

PendingBatch::PendingBatch(const Table& table, std::vector<std::int64_t> rows)
    : table_(table), rows_(std::move(rows)) {
  for (const auto& column : table_.columns()) {
    buffers_.emplace_back(rows_.size() * static_cast<std::size_t>(column->row_bytes()));
    outs_.push_back(buffers_.back().data());
  }
}

PendingBatch::PendingBatch(const Table& table, std::vector<std::int64_t> rows, std::vector<std::byte*> outs)
    : table_(table), rows_(std::move(rows)), outs_(std::move(outs)) {}

bool PendingBatch::begin() noexcept {
  const std::scoped_lock lock(shared().mutex);
  const bool orphan = state_ == State::kRunning && begun_in_ != shared().forks;
  if (state_ != State::kWaiting && !orphan) return false;
  state_ = State::kRunning;
  begun_in_ = shared().forks;
  return true;
}

void PendingBatch::fill() noexcept {
  std::exception_ptr failure;
  try {
    table_.gather(rows_, outs_);
  } catch (...) {
    failure = std::current_exception();
  }
  const std::scoped_lock lock(shared().mutex);
  state_ = State::kDone;
  failure_ = failure;
  shared().done->notify_all();
}

void PendingBatch::run() noexcept {
  if (begin()) fill();
}

bool PendingBatch::wait_for(std::chrono::milliseconds most) {
  run();
  std::unique_lock lock(shared().mutex);
  if (!shared().done->wait_for(lock, most, [this] { return state_ == State::kDone; })) return false;
  if (failure_) std::rethrow_exception(failure_);
  return true;
}

void PendingBatch::ask_for_rows() noexcept {
  {
    const std::scoped_lock lock(shared().mutex);
    if (state_ != State::kWaiting) return;
    asking_ = true;
    asking_in_ = shared().forks;
  }
  try {
    table_.will_need(rows_);
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): a file is gone; wait_for will say so
  }
  const std::scoped_lock lock(shared().mutex);
  asking_ = false;
  shared().done->notify_all();
}

void PendingBatch::cancel() noexcept {
  std::unique_lock lock(shared().mutex);
  if (state_ == State::kWaiting) state_ = State::kDone;
  shared().done->wait(lock, [this] {
    const bool runs = state_ == State::kRunning && begun_in_ == shared().forks;
    const bool asks = asking_ && asking_in_ == shared().forks;
    return !runs && !asks;
  });
  state_ = State::kDone;
}

void submit(const std::shared_ptr<PendingBatch>& batch) {
  const std::weak_ptr<PendingBatch> weak = batch;
  if (batch->exceeds_memory()) {
    run_next([weak] {
      if (const auto alive = weak.lock()) alive->ask_for_rows();
    });
  }
  run_later([weak] {
    if (const auto alive = weak.lock()) alive->run();
  });
}

}  // namespace penstock
