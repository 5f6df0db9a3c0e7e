#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "assemble/gather.h"
#include "assemble/table.h"
#include "assemble/thread_pool.h"
#include "base/error.h"
#include "format_checks.h"
#include "guards.h"
#include "index/column.h"
#include "recorded_storage.h"
#include "storage/file.h"

namespace penstock {
namespace {

using Buffer = std::vector<std::byte>;

Buffer random_bytes(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Buffer bytes(count);
  for (auto& each : bytes) each = static_cast<std::byte>(random());
  return bytes;
}

/// A column of bytes in memory: shards of the given lengths, rows of `row_bytes`.
struct Sample {
  std::vector<std::shared_ptr<Buffer>> shards;
  std::shared_ptr<Column> column;
};

Sample make_sample(const std::vector<std::int64_t>& lengths, std::int64_t row_bytes) {
  Sample sample;
  Column::Parts parts;
  parts.name = "x";
  parts.row_shape = {row_bytes};
  parts.layouts.push_back({row_bytes, {1}, false});
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    auto bytes = std::make_shared<Buffer>(random_bytes(static_cast<std::size_t>(lengths[i] * row_bytes), i));
    parts.storages.push_back(memory_storage(*bytes, bytes));
    parts.shards.push_back({0, static_cast<std::uint32_t>(i), 0});
    sample.shards.push_back(std::move(bytes));
  }
  parts.rows = lengths;
  sample.column = std::make_shared<Column>(std::move(parts));
  return sample;
}

void require_gathers(const Sample& sample, std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Column& column = *sample.column;
  const auto row_bytes = static_cast<std::size_t>(column.row_bytes());
  std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
  for (auto& row : rows)
    row = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(column.num_rows()));
  constexpr std::size_t kGuard = 64;
  Buffer out(rows.size() * row_bytes + kGuard, std::byte{0xAB});
  gather(column, rows, out.data());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Location at = column.index().locate(rows[i]);
    const std::byte* expected = sample.shards[static_cast<std::size_t>(at.shard)]->data() +
                                static_cast<std::size_t>(at.row) * row_bytes;
    REQUIRE(std::memcmp(out.data() + i * row_bytes, expected, row_bytes) == 0);
  }
  for (std::size_t i = rows.size() * row_bytes; i < out.size(); ++i) REQUIRE(out[i] == std::byte{0xAB});
}

TEST_CASE("every row size from 1 to 300 bytes, and some large ones, gathers the right bytes and no more") {
  for (std::int64_t row_bytes = 1; row_bytes <= 300; ++row_bytes) {
    const Sample sample = make_sample({5, 0, 17, 1, 40}, row_bytes);
    for (const std::int64_t count : {1, 7, 16, 33, 100}) require_gathers(sample, count, 7);
  }
  for (const std::int64_t row_bytes : {511, 512, 2047, 4096, 16384, 16385, 70001, 150528}) {
    const Sample sample = make_sample({3, 9, 2}, row_bytes);
    for (const std::int64_t count : {1, 2, 17, 40}) require_gathers(sample, count, 3);
  }
}

TEST_CASE("several threads gather the same as one") {
  const Sample sample = make_sample({1000, 3000, 10}, 777);
  set_num_threads(4);
  for (std::uint64_t seed = 0; seed < 5; ++seed) require_gathers(sample, 9001, seed);
  set_num_threads(1);
}

TEST_CASE("many callers share the pool") {
  const Sample sample = make_sample({4096, 1000}, 1024);
  set_num_threads(3);
  std::vector<std::thread> callers;
  for (std::uint64_t i = 0; i < 6; ++i) {
    callers.emplace_back([&sample, i] {
      for (std::uint64_t round = 0; round < 5; ++round) require_gathers(sample, 4000, i * 10 + round);
    });
  }
  for (auto& caller : callers) caller.join();
  set_num_threads(1);
}

TEST_CASE("strides and byte order: each row equals a loop over its elements") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 300; ++round) {
    const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(1 + random() % 4),
                                             static_cast<std::int64_t>(1 + random() % 4),
                                             static_cast<std::int64_t>(random() % 4)};
    const DType dtype =
        std::vector{DType::kUInt8, DType::kInt16, DType::kFloat32, DType::kComplex64}[random() % 4];
    const std::int64_t item = item_bytes(dtype);
    RowLayout layout;
    layout.byte_swapped = random() % 2 == 0;
    std::int64_t reach = item;
    for (const std::int64_t length : shape) {
      layout.strides.push_back(item * static_cast<std::int64_t>(random() % 5));
      reach += std::max<std::int64_t>(length - 1, 0) * layout.strides.back();
    }
    layout.row_stride = item * static_cast<std::int64_t>(random() % 9);
    constexpr std::int64_t kRows = 6;
    const auto bytes = std::make_shared<Buffer>(
        random_bytes(static_cast<std::size_t>(reach + (kRows - 1) * layout.row_stride), random()));
    Column column({"x", dtype, shape, {memory_storage(*bytes, bytes)}, {layout}, {Shard{}}, {kRows}});
    const std::vector<std::int64_t> rows = {3, 0, 5, 5, 1};
    Buffer out(rows.size() * static_cast<std::size_t>(column.row_bytes()));
    gather(column, rows, out.data());

    Buffer expected;
    for (const std::int64_t row : rows) {
      for (std::int64_t i = 0; i < shape[0]; ++i)
        for (std::int64_t j = 0; j < shape[1]; ++j)
          for (std::int64_t k = 0; k < shape[2]; ++k) {
            const std::byte* from = bytes->data() + row * layout.row_stride + i * layout.strides[0] +
                                    j * layout.strides[1] + k * layout.strides[2];
            const std::int64_t unit = layout.byte_swapped ? swap_bytes(dtype) : 1;
            for (std::int64_t at = 0; at < item; ++at) {
              const std::int64_t mirrored = at / unit * unit + (unit - 1 - at % unit);
              expected.push_back(from[layout.byte_swapped ? mirrored : at]);
            }
          }
    }
    REQUIRE(out == expected);
  }
}

/// A file of pages in a temporary place.
class TemporaryFile {
 public:
  explicit TemporaryFile(const Buffer& bytes) {
    const int descriptor = ::mkstemp(path_.data());
    REQUIRE(descriptor >= 0);
    REQUIRE(::write(descriptor, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    ::close(descriptor);
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/penstock_test_XXXXXX";
};

std::shared_ptr<Column> column_over(const TemporaryFile& file, std::int64_t rows, std::int64_t row_bytes,
                                    FileAccess access) {
  const FileIdentity identity = OpenFile(file.path()).identity();
  return std::make_shared<Column>(
      Column::Parts{"x",
                    DType::kUInt8,
                    {row_bytes},
                    {std::make_shared<FileStorage>(file.path(), identity, access)},
                    {{row_bytes, {1}, false}},
                    {Shard{}},
                    {rows}});
}

TEST_CASE("a file that shrinks while it is mapped or read is an error that names it, on any thread") {
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    for (int round = 0; round < 20; ++round) {
      const Buffer bytes = random_bytes(std::size_t{64} * 65536, 1);
      const TemporaryFile file(bytes);
      const auto column = column_over(file, 64, 65536, access);
      std::vector<std::int64_t> rows(64);
      for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(63 - i);
      Buffer out(bytes.size());
      set_num_threads(1 + round % 3);
      gather(*column, rows, out.data());
      REQUIRE(::truncate(file.path().c_str(), round % 2 == 0 ? 0 : 4096 * 100 + 7) == 0);
      try {
        gather(*column, rows, out.data());
        FAIL("nothing was thrown");
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::kShard);
        CHECK(error.path() == file.path());
        CHECK(error.field() == "x");
        CHECK(error.row() == 63);
      }
    }
  }
  set_num_threads(1);
}

Error error_of(Column& column, const std::vector<std::int64_t>& rows) {
  Buffer out(rows.size() * static_cast<std::size_t>(column.row_bytes()));
  return testing::error_from([&] { return gather(column, rows, out.data()), 0; });
}

TEST_CASE("an error names the row that is gone, not one of the others") {
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    const TemporaryFile file(random_bytes(std::size_t{64} * 4096, 1));
    const auto column = column_over(file, 64, 4096, access);
    (void)column->views();
    REQUIRE(::truncate(file.path().c_str(), 4096 * 10) == 0);
    CHECK(error_of(*column, {0, 9, 40, 3, 50}).row() == 40);
    CHECK(error_of(*column, {8, 9, 10, 11}).row() == 10);
    CHECK(error_of(*column, {40}).field() == "x");
  }
}

TEST_CASE("an error names the row that is gone, also where rows lie scattered") {
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    const TemporaryFile file(random_bytes(std::size_t{2} << 16U, 1));
    const FileIdentity identity = OpenFile(file.path()).identity();
    Column column({"x",
                   DType::kUInt8,
                   {2},
                   {std::make_shared<FileStorage>(file.path(), identity, access)},
                   {{1, {1 << 16}, false}},
                   {Shard{}},
                   {1 << 16}});
    (void)column.views();
    REQUIRE(::truncate(file.path().c_str(), (1 << 16) + 4096) == 0);
    CHECK(error_of(column, {3, 4000, 4096, 9}).row() == 4096);
    CHECK(error_of(column, {3, 60000, 5000}).row() == 60000);
    CHECK(error_of(column, {4094, 4095, 4096, 4097}).row() == 4096);
  }
}

TEST_CASE("a file that cannot be opened is an error that names its first row") {
  const TemporaryFile good(random_bytes(4096, 1));
  const TemporaryFile gone(random_bytes(4096, 2));
  const auto column = concatenate(*column_over(good, 4, 1024, FileAccess::kAuto),
                                  *column_over(gone, 4, 1024, FileAccess::kAuto));
  REQUIRE(::truncate(gone.path().c_str(), 4000) == 0);
  const Error error = error_of(*column, {0});
  CHECK(error.path() == gone.path());
  CHECK(error.field() == "x");
  CHECK(error.row() == 4);
}

TEST_CASE("a file that was replaced between its header and its first row is refused") {
  const TemporaryFile file(random_bytes(8192, 1));
  const auto column = column_over(file, 8, 1024, FileAccess::kAuto);
  REQUIRE(::truncate(file.path().c_str(), 8000) == 0);
  CHECK_THROWS_AS((void)column->views(), Error);
}

TEST_CASE("parts that do not fit together are refused") {
  const auto bytes = std::make_shared<Buffer>(100);
  const auto make = [&](std::int64_t rows, std::int64_t stride, std::uint64_t offset, std::uint32_t storage) {
    return Column({"x",
                   DType::kUInt8,
                   {10},
                   {memory_storage(*bytes, bytes)},
                   {{stride, {1}, false}},
                   {Shard{offset, storage, 0}},
                   {rows}});
  };
  CHECK_NOTHROW(make(10, 10, 0, 0));
  CHECK_THROWS_AS(make(11, 10, 0, 0), Error);
  CHECK_THROWS_AS(make(10, 10, 1, 0), Error);
  CHECK_THROWS_AS(make(10, 10, ~std::uint64_t{0}, 0), Error);
  CHECK_THROWS_AS(make(10, std::int64_t{1} << 62, 0, 0), Error);
  CHECK_THROWS_AS(make(10, -10, 0, 0), Error);
  CHECK_THROWS_AS(make(10, 10, 0, 1), Error);
}

/// Shards of 100 rows of 3 two-byte elements.
struct Recorded {
  std::vector<std::shared_ptr<testing::RecordedStorage>> storages;
  std::shared_ptr<Column> column;
};

Recorded make_recorded(const std::vector<bool>& are_mapped, bool byte_swapped) {
  Recorded recorded;
  Column::Parts parts{"x", DType::kInt16, {3}, {}, {{6, {2}, byte_swapped}}, {}, {}};
  for (std::size_t i = 0; i < are_mapped.size(); ++i) {
    std::string bytes;
    for (std::size_t at = 0; at < 600; ++at) bytes += static_cast<char>(at * 7 + i);
    recorded.storages.push_back(std::make_shared<testing::RecordedStorage>(bytes, are_mapped[i]));
    parts.storages.push_back(recorded.storages.back());
    parts.shards.push_back({0, static_cast<std::uint32_t>(i), 0});
    parts.rows.push_back(100);
  }
  recorded.column = std::make_shared<Column>(std::move(parts));
  return recorded;
}

void require_recorded(const Recorded& recorded, const std::vector<std::int64_t>& rows, bool byte_swapped) {
  Buffer out(rows.size() * 6);
  gather(*recorded.column, rows, out.data());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto shard = static_cast<std::size_t>(rows[i] / 100);
    for (std::size_t at = 0; at < 6; ++at) {
      const auto from = static_cast<std::size_t>(rows[i] % 100) * 6 + (byte_swapped ? at ^ 1U : at);
      REQUIRE(out[i * 6 + at] == static_cast<std::byte>(from * 7 + shard));
    }
  }
}

TEST_CASE("rows of mapped files are copied together, whatever other files are") {
  std::vector<bool> are_mapped(64, true);
  are_mapped[63] = false;
  std::mt19937_64 random(4);
  std::vector<std::int64_t> rows(5000);
  for (auto& row : rows) row = static_cast<std::int64_t>(random() % 6400);
  const auto unmapped = std::count_if(rows.begin(), rows.end(), [](std::int64_t row) { return row >= 6300; });
  REQUIRE(unmapped > 10);
  for (const bool byte_swapped : {false, true}) {
    const Recorded recorded = make_recorded(are_mapped, byte_swapped);
    (void)recorded.column->views();
    const std::int64_t before = testing::guards_so_far();
    require_recorded(recorded, rows, byte_swapped);
    CHECK(testing::guards_so_far() - before <= unmapped + 3);
    CHECK(recorded.storages.back()->reads() <= unmapped);
  }
}

TEST_CASE("rows that follow one another are read together, of each file") {
  for (const bool byte_swapped : {false, true}) {
    const Recorded recorded = make_recorded({false, false, true, false}, byte_swapped);
    std::vector<std::int64_t> rows(400);
    std::iota(rows.begin(), rows.end(), 0);
    require_recorded(recorded, rows, byte_swapped);
    for (const std::size_t i : std::vector<std::size_t>{0, 1, 3}) CHECK(recorded.storages[i]->reads() == 1);
    require_recorded(recorded, {99, 100, 101, 350, 7, 8}, byte_swapped);
    CHECK(recorded.storages[0]->reads() == 3);
    CHECK(recorded.storages[1]->reads() == 2);
    CHECK(recorded.storages[3]->reads() == 2);
  }
}

TEST_CASE("row numbers count from the end, or are refused") {
  std::vector<std::int64_t> rows = {0, -1, 9, -10};
  normalize_rows(rows, 10);
  CHECK(rows == std::vector<std::int64_t>{0, 9, 9, 0});
  rows = {10};
  CHECK_THROWS_AS(normalize_rows(rows, 10), Error);
  rows = {-11};
  CHECK_THROWS_AS(normalize_rows(rows, 10), Error);
}

}  // namespace
}  // namespace penstock
