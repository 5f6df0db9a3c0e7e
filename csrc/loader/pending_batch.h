#pragma once

#include <atomic>
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

/// A batch that the pool's threads assemble ahead of time, and whoever waits for it.
///
/// It is cut into parts, which all threads that are free take on together: the batch that is needed first is
/// there first, and its buffers, taken only when it begins, are few in rotation and stay in the processors'
/// caches. Whoever waits takes on parts as well, so `wait_for` never waits for the batches before it, nor in
/// a forked child, which has none of the threads. Dropping it calls it off: parts that have not begun never
/// do. (Whoever made it keeps the table alive until then.)
///
/// thread-safe, but for the buffers: they are the caller's once `wait_for` has returned true.
class PendingBatch {
 public:
  /// A batch in buffers of its own. The table is borrowed until `wait_for` has returned true, or `cancel`: so
  /// no thread of the pool ever frees one, which may take Python's lock.
  ///
  /// \pre every row is in [0, table.num_rows())
  PendingBatch(const Table& table, std::vector<std::int64_t> rows);

  /// A batch in the caller's memory, one buffer per column, which must stay until `wait_for` or `cancel` has
  /// returned.
  PendingBatch(const Table& table, std::vector<std::int64_t> rows, std::vector<std::byte*> outs);

  /// Asks the system to read the rows soon, unless the batch has begun or they have been asked for.
  void ask_for_rows() noexcept;

  /// Where a thread takes its parts from. Whoever waits begins at the front, the pool at the back: so each
  /// processor writes mostly to the end of a recycled buffer that is in its own cache (a quarter faster).
  enum class Side : std::uint8_t { kFront, kBack };

  /// Takes on parts until none is left. Failures are kept for `wait_for`.
  void run(Side side) noexcept;

  /// Takes on parts, then waits at most so long for those of other threads.
  ///
  /// \returns whether the batch is there
  /// \throws what went wrong with it; of several failures the first in the order of rows
  [[nodiscard]] bool wait_for(std::chrono::milliseconds most);

  /// Once its rows are read, says that their files' pages will not be needed soon. \pre not submitted yet
  void drop_cache() noexcept { drops_cache_ = true; }

  /// When the first part began and when the last had ended, in ns of `now_ns`. \pre `wait_for` has returned
  /// true, or thrown
  struct Times {
    std::int64_t begun = 0;
    std::int64_t done = 0;
  };
  [[nodiscard]] const Times& times() const noexcept { return times_; }

  /// Makes sure that nobody writes to the buffers any more: what has not begun never will, what has is waited
  /// for.
  void cancel() noexcept;

  /// Whether its rows are better asked for before they are read.
  [[nodiscard]] bool asks_ahead() const noexcept { return table_.asks_ahead(); }

  [[nodiscard]] std::int64_t num_rows() const noexcept { return static_cast<std::int64_t>(rows_.size()); }

  /// Its own buffers, one per column. \pre `wait_for` has returned true
  [[nodiscard]] std::vector<BatchBuffer> take_buffers() noexcept { return std::move(buffers_); }

 private:
  enum class State : std::uint8_t { kWaiting, kOpening, kRunning, kDone };

  [[nodiscard]] bool enter() noexcept;
  void leave() noexcept;
  void forget_parents_threads() noexcept;
  void open() noexcept;
  void fill(std::int64_t part) noexcept;
  void ask_for(std::int64_t begin, std::int64_t end) noexcept;
  [[nodiscard]] std::span<const std::int64_t> rows(std::int64_t begin, std::int64_t end) const noexcept;
  void fail(std::int64_t part) noexcept;

  const Table& table_;
  const std::vector<std::int64_t> rows_;
  const std::int64_t parts_;
  bool drops_cache_ = false;
  std::vector<BatchBuffer> buffers_;
  std::vector<std::byte*> outs_;
  std::atomic<std::int64_t> begun_parts_{0};  ///< may count on beyond parts_
  std::atomic<std::int64_t> front_{0};
  std::atomic<std::int64_t> back_{0};
  std::atomic<std::int64_t> ended_parts_{0};
  std::atomic<std::int64_t> asked_rows_{0};  ///< of the first rows

  // written under the process's one lock for pending batches, which a fork finds free
  std::atomic<State> state_{State::kWaiting};
  std::int64_t inside_ = 0;   ///< threads that fill parts or ask for rows,
  std::int64_t process_ = 0;  ///< in this process, by number of forks
  bool asked_ = false;
  Times times_;
  std::exception_ptr failure_;
  std::int64_t failed_part_ = 0;
};

/// Has the pool's threads assemble the batch as soon as those submitted before it are all begun. What memory
/// cannot hold is asked of the system now: the reads of all batches ahead are then under way at once.
void submit(const std::shared_ptr<PendingBatch>& batch);

}  // namespace penstock
