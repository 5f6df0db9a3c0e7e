#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "assemble/source.h"
#include "assemble/thread_pool.h"
#include "base/error.h"
#include "index/column.h"
#include "loader/pending_batch.h"
#include "sanitizers.h"
#include "storage/storage.h"

namespace penstock {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::int64_t kRows = 1000;
constexpr std::size_t kOnePart = 64;        // rows of a batch that is not cut up
constexpr std::size_t kManyParts = 50'000;  // rows of one that is

/// Row i is the number i; reading it can fail, or take its time.
class Numbers final : public Storage {
 public:
  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return kRows * sizeof(std::int64_t); }
  [[nodiscard]] const std::byte* data() override { return nullptr; }
  void read(std::uint64_t offset, std::span<std::byte> out) override {
    for (std::size_t i = 0; i < out.size(); i += sizeof(std::int64_t)) {
      const auto row = static_cast<std::int64_t>((offset + i) / sizeof(std::int64_t));
      if (row == bad_row) throw Error(ErrorKind::kShard, "unreadable").at_row(row);
      std::memcpy(out.data() + i, &row, sizeof(row));
    }
  }
  void advise(AccessPattern) const noexcept override {}
  void will_need(std::uint64_t, std::uint64_t) const noexcept override {}
  void will_not_need(std::uint64_t, std::uint64_t, AccessPattern) const noexcept override {}
  void check() const override {}

  std::int64_t bad_row = -1;

 private:
  std::string path_;
};

/// A table that lives on, whatever threads are still at when the program ends.
const Table& numbers(std::int64_t bad_row = -1) {
  static auto& tables = *new std::map<std::int64_t, std::unique_ptr<Table>>;
  std::unique_ptr<Table>& table = tables[bad_row];
  if (table) return *table;
  auto storage = std::make_shared<Numbers>();
  storage->bad_row = bad_row;
  Column::Parts parts;
  parts.name = "x";
  parts.dtype = DType::kInt64;
  parts.layouts.push_back({8, {}, false});
  parts.storages.push_back(std::move(storage));
  parts.shards.push_back({});
  parts.rows = {kRows};
  table = std::make_unique<Table>(std::vector{std::make_shared<Column>(std::move(parts))});
  return *table;
}

/// Rows of zeros, of which none can be asked for: there is no memory left.
class NotAskedFor final : public Source {
 public:
  [[nodiscard]] std::span<const Field> fields() const noexcept override { return {&field_, 1}; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return kRows; }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override { return {kRows}; }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return 1; }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return 1; }
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override {
    std::memset(outs.front(), 0, rows.size());
  }
  [[nodiscard]] bool asks_ahead() const noexcept override { return true; }
  void will_need(std::int64_t, std::int64_t) override { throw std::bad_alloc(); }
  void will_need(std::span<const std::int64_t>) override { throw std::bad_alloc(); }
  void will_not_need(std::span<const std::int64_t>) const noexcept override {}
  [[nodiscard]] std::uint64_t fingerprint() const override { return 0; }
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t) override { return shared_from_this(); }
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source&) const override { return nullptr; }

 private:
  Field field_{"x", DType::kUInt8, {}, 1};
};

std::vector<std::int64_t> some_rows(std::uint64_t seed, std::size_t count = kOnePart) {
  std::mt19937_64 random(seed);
  std::vector<std::int64_t> rows(count);
  for (auto& row : rows) row = static_cast<std::int64_t>(random() % kRows);
  return rows;
}

void require_holds(PendingBatch& batch, const std::vector<std::int64_t>& rows) {
  REQUIRE(batch.wait_for(seconds(30)));
  const std::vector<BatchBuffer> buffers = batch.take_buffers();
  REQUIRE(std::memcmp(buffers.front().data(), rows.data(), rows.size() * sizeof(std::int64_t)) == 0);
}

TEST_CASE("batches hold their rows, submitted or not, asked for in any order") {
  const auto rows_of = [](std::uint64_t i) { return some_rows(i, i % 5 == 0 ? kManyParts : kOnePart); };
  for (const int threads : {1, 2, 4}) {
    set_num_threads(threads);
    std::vector<std::shared_ptr<PendingBatch>> batches;
    for (std::uint64_t i = 0; i < 200; ++i) {
      batches.push_back(std::make_shared<PendingBatch>(numbers(), rows_of(i)));
      if (i % 3 != 0) submit(batches.back());
    }
    for (std::uint64_t i = 0; i < 200; ++i) {
      const std::uint64_t turn = i * 77 % 200;
      require_holds(*batches[turn], rows_of(turn));
    }
  }
  set_num_threads(1);
}

TEST_CASE("threads that wait for the same batch all get it") {
  set_num_threads(3);
  for (std::uint64_t i = 0; i < 50; ++i) {
    const auto rows = some_rows(i, kManyParts);
    const auto batch = std::make_shared<PendingBatch>(numbers(), rows);
    if (i % 2 == 0) submit(batch);
    std::atomic<int> there{0};
    std::vector<std::thread> waiting;
    for (int k = 0; k < 3; ++k) waiting.emplace_back([&] { there += batch->wait_for(seconds(30)) ? 1 : 0; });
    for (std::thread& thread : waiting) thread.join();
    CHECK(there == 3);
    CHECK(batch->times().begun <= batch->times().done);
    require_holds(*batch, rows);
  }
  set_num_threads(1);
}

TEST_CASE("of several failures the first in the order of rows is told, whoever met it") {
  set_num_threads(3);
  std::vector<std::int64_t> rows(kManyParts, 1);
  for (const std::size_t at : {std::size_t{20'000}, std::size_t{49'999}}) rows[at] = 7;
  for (int i = 0; i < 50; ++i) {
    const auto batch = std::make_shared<PendingBatch>(numbers(7), rows);
    submit(batch);
    CHECK_THROWS_AS((void)batch->wait_for(seconds(30)), Error);
    CHECK_THROWS_AS((void)batch->wait_for(seconds(30)), Error);  // and every time it is asked for
  }
  set_num_threads(1);
}

TEST_CASE("a failure is the failing batch's alone") {
  set_num_threads(2);
  std::vector<std::int64_t> rows(64);
  std::iota(rows.begin(), rows.end(), 0);
  const auto good = std::make_shared<PendingBatch>(numbers(500), rows);
  const auto bad = std::make_shared<PendingBatch>(numbers(7), rows);
  const auto after = std::make_shared<PendingBatch>(numbers(500), rows);
  for (const auto& batch : {good, bad, after}) submit(batch);
  require_holds(*good, rows);
  CHECK_THROWS_AS((void)bad->wait_for(seconds(30)), Error);
  require_holds(*after, rows);
  set_num_threads(1);
}

TEST_CASE("a batch whose rows cannot be asked for ahead is assembled all the same") {
  set_num_threads(2);
  static const Table& table =
      *new Table(std::vector<std::shared_ptr<Source>>{std::make_shared<NotAskedFor>()});
  for (int i = 0; i < 20; ++i) {
    const auto batch = std::make_shared<PendingBatch>(table, some_rows(1));
    if (i % 2 == 0) submit(batch);
    REQUIRE(batch->wait_for(seconds(30)));
    CHECK(batch->take_buffers().front().data()[kOnePart - 1] == std::byte{0});
  }
  set_num_threads(1);
}

TEST_CASE("batches dropped at any moment leave nothing behind") {
  set_num_threads(3);
  std::mt19937_64 random(1);
  std::vector<std::int64_t> memory(64);
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const auto rows = some_rows(i, i % 50 == 0 ? kManyParts : kOnePart);
    auto own = std::make_shared<PendingBatch>(numbers(), rows);
    auto given = std::make_shared<PendingBatch>(
        numbers(), some_rows(i), std::vector<std::byte*>{reinterpret_cast<std::byte*>(memory.data())});
    submit(own);
    submit(given);
    if (random() % 4 == 0) require_holds(*own, rows);
    given->cancel();
    std::fill(memory.begin(), memory.end(), -1);  // nobody else writes to it now
    CHECK(memory[random() % 64] == -1);
  }
  set_num_threads(1);
}

TEST_CASE("a batch that a forked child finds begun, or not, is assembled there" *
          doctest::skip(kAddressSanitizer)) {
  set_num_threads(3);
  const auto rows_of = [](std::uint64_t k) { return some_rows(k, k % 2 == 0 ? kManyParts : kOnePart); };
  for (std::uint64_t i = 0; i < 20; ++i) {
    std::vector<std::shared_ptr<PendingBatch>> batches;
    for (std::uint64_t k = 0; k < 8; ++k) {
      batches.push_back(std::make_shared<PendingBatch>(numbers(), rows_of(k)));
      submit(batches.back());
    }
    const pid_t child = ::fork();
    if (child == 0) {
      bool whole = true;
      for (std::uint64_t k = 0; k < 8; ++k) {
        whole = whole && batches[k]->wait_for(seconds(10));
        const auto rows = rows_of(k);
        const auto buffers = batches[k]->take_buffers();
        whole = whole && std::memcmp(buffers.front().data(), rows.data(), rows.size() * 8) == 0;
      }
      ::_exit(whole ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (std::uint64_t k = 0; k < 8; ++k) require_holds(*batches[k], rows_of(k));
  }
  set_num_threads(1);
}

}  // namespace
}  // namespace penstock
