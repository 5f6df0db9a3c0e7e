#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "assemble/batch_buffer.h"
#include "assemble/table.h"

namespace penstock {

/// A batch that a thread of the pool assembles ahead of time, or whoever needs it first.
///
/// Once submitted it is begun in turn by an idle thread. `wait` takes it over when nobody has begun it, so it
/// never waits for the batches before it; and again after a fork, whose child has none of the threads.
/// Dropping it calls it off: what has not begun never does. (Whoever made it keeps the table alive until
/// then.)
///
/// thread-safe, but for the buffers: they are the caller's once `wait` has returned.
class PendingBatch {
 public:
  /// A batch in buffers of its own. The table is borrowed until `wait_for` has returned true, or `cancel`: so
  /// no thread of the pool ever frees one, which may take Python's lock.
  ///
  /// \pre every row is in [0, table.num_rows())
  PendingBatch(const Table& table, std::vector<std::int64_t> rows);

  /// A batch in the caller's memory, one buffer per column, which must stay until `wait` or `cancel` has
  /// returned.
  PendingBatch(const Table& table, std::vector<std::int64_t> rows, std::vector<std::byte*> outs);

  /// Asks the system to read the rows soon, unless the batch has begun.
  void ask_for_rows() noexcept;

  /// Assembles the batch here, unless that has begun. A failure is kept for `wait`.
  void run() noexcept;

  /// Assembles the batch, or waits at most so long for the thread that does.
  ///
  /// \returns whether it is there
  /// \throws what went wrong with this batch
  [[nodiscard]] bool wait_for(std::chrono::milliseconds most);

  /// Makes sure that nobody writes to the buffers any more: what has not begun never will, what has is waited
  /// for.
  void cancel() noexcept;

  /// Whether its rows are better asked for before they are read.
  [[nodiscard]] bool exceeds_memory() const noexcept { return table_.exceeds_memory(); }

  [[nodiscard]] std::int64_t num_rows() const noexcept { return static_cast<std::int64_t>(rows_.size()); }

  /// Its own buffers, one per column. \pre `wait_for` has returned true
  [[nodiscard]] std::vector<BatchBuffer> take_buffers() noexcept { return std::move(buffers_); }

 private:
  enum class State : std::uint8_t { kWaiting, kRunning, kDone };

  [[nodiscard]] bool begin() noexcept;
  void fill() noexcept;

  const Table& table_;
  const std::vector<std::int64_t> rows_;
  std::vector<BatchBuffer> buffers_;
  std::vector<std::byte*> outs_;

  // guarded by the process's one lock for pending batches, which a fork finds free
  State state_ = State::kWaiting;
  std::int64_t begun_in_ = 0;  ///< the process, by number of forks, in which it runs
  bool asking_ = false;        ///< a thread is in ask_for_rows
  std::int64_t asking_in_ = 0;
  std::exception_ptr failure_;
};

/// Has a thread of the pool assemble the batch as soon as those submitted before it have begun. What memory
/// cannot hold is asked of the system now: the reads of all batches ahead are then under way at once.
void submit(const std::shared_ptr<PendingBatch>& batch);

}  // namespace penstock
