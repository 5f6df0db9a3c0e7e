#include "assemble/row_cache.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "format_checks.h"

namespace penstock {
namespace {

using namespace testing;

std::byte byte_of(std::int64_t row, std::int64_t at) {
  return static_cast<std::byte>(row * 131 + at * 7 + (row >> 8U) + 1);
}

void fill(std::byte* place, std::int64_t row, std::int64_t row_bytes) {
  for (std::int64_t i = 0; i < row_bytes; ++i) place[i] = byte_of(row, i);
}

bool is_row(const std::byte* place, std::int64_t row, std::int64_t row_bytes) {
  for (std::int64_t i = 0; i < row_bytes; ++i) {
    if (place[i] != byte_of(row, i)) return false;
  }
  return true;
}

/// Whether there was room.
bool bring(RowCache& cache, std::int64_t row, std::int64_t row_bytes) {
  std::byte* const place = cache.begin(row);
  if (place == nullptr) return false;
  fill(place, row, row_bytes);
  cache.done(row, place);
  return true;
}

/// How many rows are found; all that are must be right.
std::int64_t count_found(const RowCache& cache, std::int64_t num_rows, std::int64_t row_bytes) {
  std::int64_t found = 0;
  for (std::int64_t row = 0; row < num_rows; ++row) {
    cache.prefetch_place(row);
    const std::byte* const place = cache.find(row);
    if (place == nullptr) continue;
    REQUIRE(is_row(place, row, row_bytes));
    ++found;
  }
  return found;
}

/// What a forked child that does `work` ends with.
template <typename Work>
int status_of_child(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work() ? 0 : 1);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

TEST_CASE("a row is found once it is done, and not before") {
  RowCache cache(10, 100, 1000);
  for (std::int64_t row = 0; row < 10; ++row) CHECK(cache.find(row) == nullptr);
  std::byte* const place = cache.begin(7);
  REQUIRE(place != nullptr);
  fill(place, 7, 100);
  CHECK(cache.find(7) == nullptr);
  CHECK(cache.begin(7) == nullptr);  // it is being brought
  cache.done(7, place);
  REQUIRE(cache.find(7) == place);
  CHECK(is_row(cache.find(7), 7, 100));
  CHECK(cache.begin(7) == nullptr);  // it is there
  CHECK(cache.find(6) == nullptr);
  CHECK(cache.rows_kept() == 1);
}

TEST_CASE("as many rows are kept as the budget has room for, the first that come") {
  constexpr std::int64_t kRows = 100;
  for (const std::int64_t row_bytes : {1, 3, 64, 1000}) {
    const auto all = static_cast<std::uint64_t>(kRows * row_bytes);
    const auto row = static_cast<std::uint64_t>(row_bytes);
    for (const std::uint64_t budget : {std::uint64_t{0}, row - 1, row, 2 * row - 1, all / 2, all - 1, all,
                                       all + 1, std::uint64_t{1} << 40U, UINT64_MAX}) {
      RowCache cache(kRows, row_bytes, budget);
      const auto room = static_cast<std::int64_t>(std::min<std::uint64_t>(budget / row, kRows));
      for (std::int64_t i = 0; i < kRows; ++i) {
        const std::int64_t each = i * 37 % kRows;
        REQUIRE(bring(cache, each, row_bytes) == (i < room));
        REQUIRE((cache.find(each) != nullptr) == (i < room));
      }
      CHECK(cache.rows_kept() == room);
      CHECK(count_found(cache, kRows, row_bytes) == room);
      const auto places = static_cast<std::uint64_t>(room) * row;
      CHECK(cache.memory().size() <= places + 64 + 448);  // 4 bytes a row, and a header
    }
  }
}

TEST_CASE("places do not overlap") {
  constexpr std::int64_t kRows = 50;
  RowCache cache(kRows, 33, UINT64_MAX);
  std::vector<std::byte*> places;
  for (std::int64_t row = 0; row < kRows; ++row) places.push_back(cache.begin(row));
  for (std::int64_t row = 0; row < kRows; ++row) fill(places[static_cast<std::size_t>(row)], row, 33);
  for (std::int64_t row = kRows; row-- > 0;) cache.done(row, places[static_cast<std::size_t>(row)]);
  CHECK(count_found(cache, kRows, 33) == kRows);
  const std::byte* const end = cache.memory().data() + cache.memory().size();
  for (const std::byte* place : places) CHECK(place + 33 <= end);
}

TEST_CASE("rows larger than a chunk of memory, and rows that end inside one") {
  for (const std::int64_t row_bytes :
       {std::int64_t{9} << 20U, (std::int64_t{3} << 20U) + 1, std::int64_t{4} << 20U}) {
    RowCache cache(3, row_bytes, UINT64_MAX);
    for (std::int64_t row = 0; row < 3; ++row) REQUIRE(bring(cache, row, row_bytes));
    CHECK(count_found(cache, 3, row_bytes) == 3);
  }
}

TEST_CASE("rows of no bytes, or no rows, are no trouble") {
  for (const std::uint64_t budget : {std::uint64_t{0}, std::uint64_t{1000}, UINT64_MAX}) {
    RowCache cache(10, 0, budget);
    for (std::int64_t row = 0; row < 10; ++row) {
      std::byte* const place = cache.begin(row);
      if (place != nullptr) cache.done(row, place);
      CHECK(cache.find(row) == place);
    }
    CHECK(cache.rows_kept() <= 10);
  }
  const RowCache none(0, 100, 1000);
  CHECK(none.rows_kept() == 0);
}

TEST_CASE("a row that is given up can be tried again; its place is lost") {
  RowCache cache(10, 8, 3 * 8);
  REQUIRE(cache.begin(4) != nullptr);
  cache.give_up(4);
  CHECK(cache.find(4) == nullptr);
  CHECK(bring(cache, 4, 8));
  CHECK(bring(cache, 5, 8));
  CHECK_FALSE(bring(cache, 6, 8));  // there was room for three
  CHECK(count_found(cache, 10, 8) == 2);
  CHECK(cache.rows_kept() == 3);
}

TEST_CASE("more than the system has is an error") {
  const Error error =
      error_from([] { return RowCache(1000, std::int64_t{1} << 50U, UINT64_MAX).rows_kept(); });
  CHECK(error.kind() == ErrorKind::kShard);
}

/// Threads, in any number of processes, that look for rows and bring those that are not there.
void use_at_random(RowCache& cache, std::int64_t num_rows, std::int64_t row_bytes, std::uint64_t seed,
                   std::atomic<std::int64_t>& wrong, std::atomic<std::int64_t>& brought) {
  std::mt19937_64 random(seed);
  for (int round = 0; round < 4000; ++round) {
    const auto row = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(num_rows));
    const std::byte* const found = cache.find(row);
    if (found != nullptr) {
      wrong += is_row(found, row, row_bytes) ? 0 : 1;
      continue;
    }
    std::byte* const place = cache.begin(row);
    if (place == nullptr) continue;
    if (random() % 16 == 0) {
      cache.give_up(row);
      continue;
    }
    fill(place, row, row_bytes);
    cache.done(row, place);
    ++brought;
  }
}

TEST_CASE("many threads never find a wrong row, with room for none, few, most and all") {
  constexpr std::int64_t kRows = 700;
  for (const std::int64_t row_bytes : {1, 24, 8000}) {
    for (const std::int64_t room : {std::int64_t{0}, std::int64_t{1}, kRows / 2, kRows, 2 * kRows}) {
      RowCache cache(kRows, row_bytes, static_cast<std::uint64_t>(room * row_bytes));
      std::atomic<std::int64_t> wrong{0};
      std::atomic<std::int64_t> brought{0};
      std::vector<std::thread> threads;
      for (std::uint64_t i = 0; i < 6; ++i) {
        threads.emplace_back([&, i] { use_at_random(cache, kRows, row_bytes, i, wrong, brought); });
      }
      for (std::thread& thread : threads) thread.join();
      CHECK(wrong == 0);
      CHECK(brought <= std::min(room, kRows));
      CHECK(count_found(cache, kRows, row_bytes) == brought);
      if (room == 0) CHECK(brought == 0);
      if (room > 1) CHECK(brought > 0);  // the only place may have been given up
    }
  }
}

TEST_CASE("of threads that begin the same row one gets a place") {
  constexpr std::int64_t kRows = 300;
  RowCache cache(kRows, 16, UINT64_MAX);
  std::vector<std::atomic<int>> begun(kRows);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (std::int64_t row = 0; row < kRows; ++row) {
        begun[static_cast<std::size_t>(row)] += bring(cache, row, 16) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::ranges::all_of(begun, [](const std::atomic<int>& count) { return count == 1; }));
  CHECK(count_found(cache, kRows, 16) == kRows);
}

TEST_CASE("parent and forked children share rows, both ways and at once") {
  constexpr std::int64_t kRows = 500;
  constexpr std::int64_t kBytes = 40;
  RowCache cache(kRows, kBytes, UINT64_MAX);
  for (std::int64_t row = 0; row < 100; ++row) REQUIRE(bring(cache, row, kBytes));
  std::vector<pid_t> children;
  for (std::uint64_t i = 0; i < 3; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    std::atomic<std::int64_t> wrong{0};
    std::atomic<std::int64_t> brought{0};
    for (std::int64_t row = 0; row < 100; ++row) wrong += is_row(cache.find(row), row, kBytes) ? 0 : 1;
    use_at_random(cache, kRows, kBytes, i, wrong, brought);
    ::_exit(wrong == 0 ? 0 : 1);
  }
  std::atomic<std::int64_t> wrong{0};
  std::atomic<std::int64_t> brought{0};
  use_at_random(cache, kRows, kBytes, 99, wrong, brought);
  for (const pid_t child : children) {
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(wrong == 0);
  CHECK(count_found(cache, kRows, kBytes) > 100);
}

TEST_CASE("a process that dies while it brings a row leaves one that is never found, and no other harm") {
  RowCache cache(4, 1000, UINT64_MAX);
  const int status = status_of_child([&] {
    std::byte* const place = cache.begin(2);
    std::memset(place, 0xEE, 500);
    return ::kill(::getpid(), SIGKILL) == 0;
  });
  CHECK(WIFSIGNALED(status));
  CHECK(cache.find(2) == nullptr);
  CHECK(cache.begin(2) == nullptr);
  for (const std::int64_t row : {0, 1, 3}) CHECK(bring(cache, row, 1000));
  CHECK(count_found(cache, 4, 1000) == 3);
}

TEST_CASE("a cache mapped by its descriptor is the same cache, and outlives the first") {
  auto first = std::make_unique<RowCache>(100, 24, 50 * 24);
  if (first->memory().descriptor() < 0) return;
  REQUIRE(bring(*first, 3, 24));
  RowCache second(SharedMemory::from_descriptor(first->memory().descriptor()), 100, 24);
  CHECK(is_row(second.find(3), 3, 24));
  CHECK(second.find(3) != first->find(3));
  REQUIRE(bring(second, 4, 24));
  CHECK(is_row(first->find(4), 4, 24));
  CHECK_FALSE(bring(*first, 4, 24));
  first.reset();
  CHECK(count_found(second, 100, 24) == 2);
  std::int64_t more = 0;
  for (std::int64_t row = 0; row < 100; ++row) more += bring(second, row, 24) ? 1 : 0;
  CHECK(more == 48);  // the budget is the first's
}

TEST_CASE("memory that is too small for an index of so many rows is refused") {
  for (const std::size_t size : std::vector<std::size_t>{0, 1, 63, 64, 100, 64 + 4031}) {
    const auto memory = std::make_shared<SharedMemory>(size, SharedMemory::With::kChildren);
    const Error error = error_from([&] { return RowCache(memory, 1000, 8).rows_kept(); });
    CHECK(error.kind() == ErrorKind::kSchema);
  }
}

TEST_CASE("a cache of other numbers is refused") {
  const RowCache made(1000, 8, UINT64_MAX);
  const auto open = [&](std::int64_t num_rows, std::int64_t row_bytes) {
    return RowCache(SharedMemory::from_descriptor(made.memory().descriptor()), num_rows, row_bytes)
        .rows_kept();
  };
  CHECK_THROWS_AS((void)open(1000, 16), Error);
  CHECK_THROWS_AS((void)open(1000, 4), Error);
  CHECK_THROWS_AS((void)open(999, 8), Error);
  CHECK_THROWS_AS((void)open(500, 8), Error);
}

}  // namespace
}  // namespace penstock
