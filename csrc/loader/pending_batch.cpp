#include "loader/pending_batch.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "assemble/thread_pool.h"
#include "base/clock.h"
#include "base/fork.h"

namespace penstock {
namespace {

/// What all pending batches of a process share. Never destroyed: threads may outlive main.
struct Shared {
  ForkSafeMutex& mutex = *new ForkSafeMutex;
  std::condition_variable_any* done = new std::condition_variable_any;
  std::int64_t forks = 0;  ///< between the first process and this one
};

Shared& shared = *new Shared;

void forget_parent() {
  shared.done = new std::condition_variable_any;  // the old one has ghosts waiting
  ++shared.forks;
}

[[maybe_unused]] const bool kForgottenInChild = (on_fork_in_child(&forget_parent), true);

/// Fewer bytes than this are not worth another thread's while.
constexpr std::int64_t kPartBytes = std::int64_t{1} << 16U;

/// A thread that is about to finish its part is waited for awake: to sleep and be woken takes longer.
constexpr std::chrono::microseconds kAwake{20};

std::int64_t parts_of(const Table& table, std::size_t rows) {
  const auto count = static_cast<std::int64_t>(rows);
  const std::int64_t rows_of_a_part =
      std::max<std::int64_t>(kPartBytes / std::max<std::int64_t>(table.row_work(), 1), 1);
  return std::max<std::int64_t>(count / rows_of_a_part, 1);
}

}  // namespace

PendingBatch::PendingBatch(const Table& table, std::vector<std::int64_t> rows)
    : table_(table), rows_(std::move(rows)), parts_(parts_of(table_, rows_.size())) {}

PendingBatch::PendingBatch(const Table& table, std::vector<std::int64_t> rows, std::vector<std::byte*> outs)
    : table_(table), rows_(std::move(rows)), parts_(parts_of(table_, rows_.size())), outs_(std::move(outs)) {}

/// Under the lock. What they had begun is begun once more.
void PendingBatch::forget_parents_threads() noexcept {
  if (process_ == shared.forks) return;
  process_ = shared.forks;
  if (inside_ > 0 && state_ != State::kDone) state_ = State::kWaiting;
  inside_ = 0;
}

bool PendingBatch::enter() noexcept {
  {
    std::unique_lock lock(shared.mutex);
    forget_parents_threads();
    shared.done->wait(lock, [this] { return state_ != State::kOpening; });
    if (state_ == State::kDone) return false;
    ++inside_;
    if (state_ == State::kRunning) return true;
    state_ = State::kOpening;
    begun_parts_ = front_ = back_ = ended_parts_ = 0;
    times_.begun = now_ns();
  }
  open();
  return true;
}

void PendingBatch::leave() noexcept {
  const std::scoped_lock lock(shared.mutex);
  --inside_;
  if (inside_ == 0 && begun_parts_ >= parts_) {
    state_ = State::kDone;
    times_.done = now_ns();
  }
  shared.done->notify_all();
}

/// Readies the buffers, then lets the other threads in.
void PendingBatch::open() noexcept {
  std::vector<BatchBuffer> buffers;
  std::vector<std::byte*> outs;
  std::exception_ptr failure;
  try {
    if (outs_.empty()) {
      for (std::size_t i = 0; i < table_.fields().size(); ++i) {
        buffers.emplace_back(table_.batch_bytes(i, num_rows()));
        outs.push_back(buffers.back().data());
      }
    }
  } catch (...) {
    failure = std::current_exception();
  }
  const std::scoped_lock lock(shared.mutex);
  if (failure) {
    failure_ = failure;
    begun_parts_ = parts_;
  } else if (outs_.empty()) {
    buffers_ = std::move(buffers);
    outs_ = std::move(outs);
  }
  state_ = State::kRunning;
  shared.done->notify_all();
}

void PendingBatch::fill(std::int64_t part) noexcept {
  const std::int64_t begin = num_rows() * part / parts_;
  const std::int64_t end = num_rows() * (part + 1) / parts_;
  try {
    if (asks_ahead() && end > asked_rows_) ask_for(begin, end);  // else page by page, as each is missed
    table_.gather(rows_, begin, end, outs_);
  } catch (...) {
    fail(part);
  }
}

void PendingBatch::fail(std::int64_t part) noexcept {
  const std::scoped_lock lock(shared.mutex);
  if (failure_ && failed_part_ < part) return;
  failure_ = std::current_exception();
  failed_part_ = part;
}

void PendingBatch::run(Side side) noexcept {
  if (!enter()) return;
  while (begun_parts_++ < parts_) {
    fill(side == Side::kFront ? front_++ : parts_ - 1 - back_++);
    if (++ended_parts_ == parts_ && drops_cache_) table_.will_not_need(rows_);
  }
  leave();
}

bool PendingBatch::wait_for(std::chrono::milliseconds most) {
  run(Side::kFront);
  const auto end = std::chrono::steady_clock::now() + kAwake;
  while (state_ != State::kDone && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  std::unique_lock lock(shared.mutex);
  if (!shared.done->wait_for(lock, most, [this] { return state_ == State::kDone; })) return false;
  if (failure_) std::rethrow_exception(failure_);
  return true;
}

void PendingBatch::ask_for_rows() noexcept {
  {
    const std::scoped_lock lock(shared.mutex);
    if (state_ != State::kWaiting || asked_) return;
    forget_parents_threads();
    asked_ = true;
    ++inside_;
  }
  ask_for(0, num_rows());
  leave();
}

/// In steps, so that those who fill know how far it is.
void PendingBatch::ask_for(std::int64_t begin, std::int64_t end) noexcept {
  constexpr std::int64_t kStep = 16;
  try {
    for (; begin < end; begin += kStep) {
      const std::int64_t count = std::min(kStep, end - begin);
      table_.will_need(rows(begin, begin + count));
      if (begin == asked_rows_) asked_rows_ += count;
    }
  } catch (...) {  // NOLINT(bugprone-empty-catch): wait_for will say what is wrong, if anything is
  }
}

std::span<const std::int64_t> PendingBatch::rows(std::int64_t begin, std::int64_t end) const noexcept {
  return std::span(rows_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

void PendingBatch::cancel() noexcept {
  std::unique_lock lock(shared.mutex);
  forget_parents_threads();
  if (state_ == State::kWaiting) state_ = State::kDone;
  begun_parts_ = parts_;
  shared.done->wait(lock, [this] { return inside_ == 0; });
  state_ = State::kDone;
}

void submit(const std::shared_ptr<PendingBatch>& batch) {
  const std::weak_ptr<PendingBatch> weak = batch;
  if (batch->asks_ahead()) {
    run_errand([weak] {
      if (const auto alive = weak.lock()) alive->ask_for_rows();
    });
  }
  run_later([weak] {
    if (const auto alive = weak.lock()) alive->run(PendingBatch::Side::kBack);
  });
}

}  // namespace penstock
