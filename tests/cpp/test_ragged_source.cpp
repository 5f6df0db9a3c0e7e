#include "assemble/ragged_source.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/table.h"
#include "assemble/thread_pool.h"
#include "format_checks.h"
#include "guards.h"
#include "loader/pending_batch.h"
#include "recorded_storage.h"
#include "storage/file.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using testing::error_from;
using testing::TemporaryFolder;
using Numbers = std::vector<std::int64_t>;
using Text = std::string;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

/// One thread again, whatever happens.
class Threads {
 public:
  explicit Threads(int count) { set_num_threads(count); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { set_num_threads(1); }
};

Text random_text(std::mt19937_64& random, std::size_t count) {
  Text text(count, '\0');
  for (char& each : text) each = static_cast<char>(random());
  return text;
}

/// How the values of a shard lie.
enum class Kind { kMemory, kMapped, kRead, kStrided, kSwapped };

/// Rows of two-byte elements, as shards and as what they are.
struct Sample {
  TemporaryFolder folder;
  Numbers lengths;
  std::vector<Text> rows;
  std::shared_ptr<Column> values;
  std::shared_ptr<RaggedSource> source;
  std::int64_t value_bytes = 0;
};

Text swapped(Text values) {
  for (std::size_t i = 0; i < values.size(); i += 2) std::swap(values[i], values[i + 1]);
  return values;
}

/// Values with as many bytes of something else behind each.
Text spread(const Text& values, std::size_t value_bytes) {
  Text text;
  for (std::size_t i = 0; i < values.size(); i += value_bytes) {
    text += values.substr(i, value_bytes) + Text(value_bytes, '?');
  }
  return text;
}

std::shared_ptr<Storage> stored(const Sample& sample, Kind kind, const Text& bytes, const Text& name) {
  if (kind != Kind::kMapped && kind != Kind::kRead) {
    const auto kept = std::make_shared<Text>(bytes);
    return memory_storage(std::as_bytes(std::span(*kept)), kept);
  }
  sample.folder.write(name, bytes);
  const FileAccess access = kind == Kind::kMapped ? FileAccess::kMap : FileAccess::kRead;
  const Text path = sample.folder.path(name);
  return std::make_shared<FileStorage>(path, OpenFile(path).identity(), access);
}

/// \param shards  values of each; their sum is that of the lengths
std::unique_ptr<Sample> make_sample(Kind kind, const Numbers& lengths, const Numbers& shards,
                                    std::int64_t elements, std::uint64_t seed) {
  auto sample = std::make_unique<Sample>();
  std::mt19937_64 random(seed);
  sample->lengths = lengths;
  sample->value_bytes = 2 * elements;
  const auto value_bytes = static_cast<std::size_t>(sample->value_bytes);
  const auto total = static_cast<std::size_t>(std::accumulate(shards.begin(), shards.end(), std::int64_t{0}));
  const Text all = random_text(random, total * value_bytes);
  std::size_t at = 0;
  for (const std::int64_t length : lengths) {
    const std::size_t size = static_cast<std::size_t>(length) * value_bytes;
    sample->rows.push_back(all.substr(at, size));
    at += size;
  }
  Column::Parts parts;
  parts.name = "x";
  parts.dtype = DType::kInt16;
  parts.row_shape = {elements};
  const std::int64_t stride = sample->value_bytes * (kind == Kind::kStrided ? 2 : 1);
  parts.layouts.push_back({stride, {2}, kind == Kind::kSwapped});
  at = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    Text bytes = all.substr(at, static_cast<std::size_t>(shards[i]) * value_bytes);
    at += bytes.size();
    if (kind == Kind::kSwapped) bytes = swapped(std::move(bytes));
    if (kind == Kind::kStrided) bytes = spread(bytes, value_bytes);
    parts.storages.push_back(stored(*sample, kind, "header" + bytes, std::to_string(i)));
    parts.shards.push_back({6, static_cast<std::uint32_t>(i), 0});
  }
  parts.rows = shards;
  sample->values = std::make_shared<Column>(std::move(parts));
  sample->source = std::make_shared<RaggedSource>(
      sample->values, Offsets::from_lengths(lengths, static_cast<std::int64_t>(total)));
  return sample;
}

Numbers random_lengths(std::mt19937_64& random, std::size_t count, std::uint64_t below) {
  Numbers lengths(count);
  for (auto& length : lengths) length = static_cast<std::int64_t>(random() % below);
  return lengths;
}

std::int64_t sum(const Numbers& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::int64_t{0});
}

/// Cut between rows, or anywhere.
Numbers random_shards(std::mt19937_64& random, const Numbers& lengths, bool anywhere) {
  Numbers shards = {0};
  for (const std::int64_t length : lengths) {
    const std::int64_t head = anywhere && random() % 4 == 0 && length > 0 ? 1 : 0;
    shards.back() += head;
    if (head > 0 || random() % 5 == 0) shards.push_back(0);
    if (random() % 9 == 0) shards.push_back(0);
    shards.back() += length - head;
  }
  return shards;
}

Numbers random_rows(std::mt19937_64& random, std::int64_t num_rows, std::size_t count) {
  Numbers rows(count);
  for (auto& row : rows) row = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(num_rows));
  return rows;
}

const Padding kPadding = {std::byte{'P'}, std::byte{'q'}};

Text cut(const Sample& sample, std::int64_t row, const RaggedLayout& layout) {
  const Text& whole = sample.rows[static_cast<std::size_t>(row)];
  const std::int64_t length = sample.lengths[static_cast<std::size_t>(row)];
  const std::int64_t kept = std::min(length, layout.max_length);
  const auto size = static_cast<std::size_t>(kept * sample.value_bytes);
  return layout.cuts_front ? whole.substr(whole.size() - size) : whole.substr(0, size);
}

/// The buffer, row by row and value by value.
Text expected(const Sample& sample, const Numbers& rows, const RaggedLayout& layout) {
  std::vector<Text> parts;
  std::size_t width = 0;
  for (const std::int64_t row : rows) {
    parts.push_back(cut(sample, row, layout));
    width = std::max(width, parts.back().size());
  }
  if (layout.is_packed) return std::accumulate(parts.begin(), parts.end(), Text());
  const auto step = static_cast<std::size_t>(layout.multiple * sample.value_bytes);
  if (step > 0) width = (width + step - 1) / step * step;
  Text padding;
  while (padding.size() < width) padding += "Pq";
  for (Text& part : parts) {
    const Text rest = padding.substr(0, width - part.size());
    part = layout.pads_front ? rest + part : part + rest;
  }
  if (layout.batch_first) return std::accumulate(parts.begin(), parts.end(), Text());
  Text text;
  const auto value_bytes = static_cast<std::size_t>(sample.value_bytes);
  for (std::size_t at = 0; at < width; at += value_bytes) {
    for (const Text& part : parts) text += part.substr(at, value_bytes);
  }
  return text;
}

Text expected_lengths(const Sample& sample, const Numbers& rows, const RaggedLayout& layout) {
  Text text;
  for (const std::int64_t row : rows) {
    const std::int64_t kept = std::min(sample.lengths[static_cast<std::size_t>(row)], layout.max_length);
    text.append(reinterpret_cast<const char*>(&kept), sizeof(kept));
  }
  return text;
}

RaggedLayout random_layout(std::mt19937_64& random) {
  const auto flip = [&] { return random() % 2 == 0; };
  RaggedLayout layout{random() % 3 == 0, flip(), flip(), flip(), kMost, 1};
  if (flip()) layout.max_length = static_cast<std::int64_t>(random() % 9);
  if (flip()) layout.multiple = static_cast<std::int64_t>(1 + random() % 5);
  return layout;
}

std::shared_ptr<Table> table_of(const Sample& sample) {
  return std::make_shared<Table>(std::vector<std::shared_ptr<Source>>{sample.source});
}

/// Buffers of a batch, each in memory of its exact size, so that a sanitizer sees a byte beyond it.
struct Outs {
  Outs(const Table& batch, std::size_t rows) {
    for (std::size_t i = 0; i < batch.fields().size(); ++i) {
      sizes.push_back(batch.batch_bytes(i, static_cast<std::int64_t>(rows)));
      buffers.push_back(std::make_unique<std::byte[]>(sizes.back()));
      places.push_back(buffers.back().get());
      if (sizes.back() > 0) std::memset(places.back(), 0xAB, sizes.back());
    }
  }
  [[nodiscard]] Text text(std::size_t field) const {
    return {reinterpret_cast<const char*>(places[field]), sizes[field]};
  }
  std::vector<std::size_t> sizes;
  std::vector<std::unique_ptr<std::byte[]>> buffers;
  std::vector<std::byte*> places;
};

void require_gathers(const Sample& sample, const Numbers& rows, const RaggedLayout& layout) {
  const auto batch = table_of(sample)->in_batch(rows, layout, std::array{kPadding});
  Outs outs(*batch, rows.size());
  batch->gather(rows, outs.places);
  REQUIRE(outs.text(0) == expected(sample, rows, layout));
  REQUIRE(outs.text(1) == expected_lengths(sample, rows, layout));
}

constexpr std::array kKinds = {Kind::kMemory, Kind::kMapped, Kind::kRead, Kind::kStrided, Kind::kSwapped};

TEST_CASE("random rows of random shards, however they lie, in every layout") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 250; ++round) {
    const Kind kind = kKinds[static_cast<std::size_t>(round) % kKinds.size()];
    const Numbers lengths = random_lengths(random, 1 + random() % 40, 1 + random() % 9);
    const auto elements = static_cast<std::int64_t>(random() % 4);
    const bool anywhere = random() % 2 == 0;
    const auto sample =
        make_sample(kind, lengths, random_shards(random, lengths, anywhere), elements, random());
    REQUIRE(sample->source->num_rows() == static_cast<std::int64_t>(lengths.size()));
    REQUIRE(sum(sample->source->rows_per_shard()) == sample->source->num_rows());
    for (int batch = 0; batch < 6; ++batch) {
      const Numbers rows = random_rows(random, sample->source->num_rows(), random() % 80);
      require_gathers(*sample, rows, random_layout(random));
    }
  }
}

TEST_CASE("any slices of a batch make up the batch") {
  std::mt19937_64 random(2);
  for (int round = 0; round < 60; ++round) {
    const Numbers lengths = random_lengths(random, 30, 9);
    const auto sample =
        make_sample(Kind::kMemory, lengths, random_shards(random, lengths, false), 3, random());
    const Numbers rows = random_rows(random, 30, 1 + random() % 60);
    const RaggedLayout layout = random_layout(random);
    const auto batch = table_of(*sample)->in_batch(rows, layout, std::array{kPadding});
    Outs outs(*batch, rows.size());
    const auto count = static_cast<std::int64_t>(rows.size());
    Numbers cuts = {0, count, static_cast<std::int64_t>(random() % rows.size()), count / 2};
    std::sort(cuts.begin(), cuts.end());
    for (std::size_t i = cuts.size() - 1; i > 0; --i) {
      batch->gather(rows, cuts[i - 1], cuts[i], outs.places);
    }
    REQUIRE(outs.text(0) == expected(*sample, rows, layout));
    REQUIRE(outs.text(1) == expected_lengths(*sample, rows, layout));
  }
}

TEST_CASE("batches that are cut into slices for several threads") {
  std::mt19937_64 random(3);
  const Numbers lengths = random_lengths(random, 3000, 50);
  for (const Kind kind : {Kind::kMapped, Kind::kStrided, Kind::kRead}) {
    const auto sample =
        make_sample(kind, lengths, random_shards(random, lengths, kind == Kind::kRead), 10, 7);
    for (const int count : {2, 3, 4}) {
      const Threads threads(count);
      for (const RaggedLayout& layout : std::vector<RaggedLayout>{{},
                                                                  {true},
                                                                  {false, false},
                                                                  {false, true, true, true, 20, 8},
                                                                  {true, true, false, true, 7, 1}}) {
        const Numbers rows = random_rows(random, sample->source->num_rows(), 5000);
        require_gathers(*sample, rows, layout);
      }
    }
  }
}

TEST_CASE("many callers gather of one source") {
  std::mt19937_64 random(4);
  const Numbers lengths = random_lengths(random, 500, 50);
  const auto sample = make_sample(Kind::kMapped, lengths, random_shards(random, lengths, false), 10, 7);
  const Threads threads(3);
  std::array<int, 4> wrong{};
  std::vector<std::thread> callers;
  for (std::size_t caller = 0; caller < wrong.size(); ++caller) {
    callers.emplace_back([&, caller] {
      std::mt19937_64 own(caller);
      for (int round = 0; round < 5; ++round) {
        const Numbers rows = random_rows(own, 500, 2000);
        const RaggedLayout layout = random_layout(own);
        const auto batch = table_of(*sample)->in_batch(rows, layout, std::array{kPadding});
        Outs outs(*batch, rows.size());
        batch->gather(rows, outs.places);
        if (outs.text(0) != expected(*sample, rows, layout)) ++wrong[caller];
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == std::array<int, 4>{});
}

TEST_CASE("batches are assembled ahead, in parts, by threads or by whoever waits") {
  std::mt19937_64 random(5);
  const Numbers lengths = random_lengths(random, 1000, 50);
  for (const Kind kind : {Kind::kMapped, Kind::kRead}) {
    const auto sample = make_sample(kind, lengths, random_shards(random, lengths, false), 10, 9);
    const auto table = table_of(*sample);
    struct Ahead {
      Numbers rows;
      RaggedLayout layout;
      std::shared_ptr<Table> table;
      std::shared_ptr<PendingBatch> batch;
    };
    for (const int count : {1, 2, 4}) {
      const Threads threads(count);
      std::vector<Ahead> batches;
      for (std::size_t i = 0; i < 20; ++i) {
        Ahead ahead{random_rows(random, 1000, i % 4 == 0 ? 3000 : i), random_layout(random), nullptr,
                    nullptr};
        ahead.table = table->in_batch(ahead.rows, ahead.layout, std::array{kPadding});
        ahead.batch = std::make_shared<PendingBatch>(*ahead.table, ahead.rows);
        if (i % 5 == 0) ahead.batch->drop_cache();
        if (i % 3 != 0) submit(ahead.batch);
        batches.push_back(std::move(ahead));
      }
      for (std::size_t i = 0; i < batches.size(); ++i) {
        const Ahead& ahead = batches[i * 7 % batches.size()];
        if (i % 6 == 5) {
          ahead.batch->cancel();
          continue;
        }
        REQUIRE(ahead.batch->wait_for(std::chrono::seconds(30)));
        const auto buffers = ahead.batch->take_buffers();
        const Text wanted = expected(*sample, ahead.rows, ahead.layout);
        REQUIRE(buffers.size() == 2);
        REQUIRE(std::memcmp(buffers[0].data(), wanted.data(), wanted.size()) == 0);
        const Text counts = expected_lengths(*sample, ahead.rows, ahead.layout);
        REQUIRE(std::memcmp(buffers[1].data(), counts.data(), counts.size()) == 0);
      }
    }
  }
}

TEST_CASE("a file that shrinks is an error that names it, on any thread, and of a batch under way") {
  std::mt19937_64 random(6);
  const Numbers lengths = random_lengths(random, 2000, 50);
  for (const Kind kind : {Kind::kMapped, Kind::kRead}) {
    for (int round = 0; round < 6; ++round) {
      const auto sample = make_sample(kind, lengths, {sum(lengths)}, 30, 1);
      const Threads threads(1 + round % 3);
      Numbers rows(lengths.size());
      std::iota(rows.rbegin(), rows.rend(), 0);
      require_gathers(*sample, rows, {});
      const Text path = sample->folder.path("0");
      REQUIRE(::truncate(path.c_str(), round % 2 == 0 ? 0 : 4096 * 3 + 7) == 0);
      for (const bool is_packed : {false, true}) {
        const auto batch = table_of(*sample)->in_batch(rows, {is_packed}, std::array{kPadding});
        Outs outs(*batch, rows.size());
        const Error now = error_from([&] { return batch->gather(rows, outs.places), 0; });
        CHECK(now.kind() == ErrorKind::kShard);
        CHECK(now.path() == path);
        CHECK(now.field() == "x");
        CHECK(now.row().has_value());
        const auto ahead = std::make_shared<PendingBatch>(*batch, rows);
        submit(ahead);
        const Error later = error_from([&] { return ahead->wait_for(std::chrono::seconds(30)); });
        CHECK(later.kind() == ErrorKind::kShard);
        CHECK(later.path() == path);
      }
    }
  }
}

/// Shards of two-byte numbers 0, 1, 2, ... in rows of so many, and what was asked of their storages.
struct Recorded {
  std::vector<std::shared_ptr<testing::RecordedStorage>> storages;
  std::shared_ptr<Table> table;
};

Recorded make_recorded(const Numbers& shards, const Numbers& lengths, bool is_mapped, bool byte_swapped,
                       std::uint64_t said_to_be_larger = 0) {
  Recorded recorded;
  Column::Parts parts{"x", DType::kInt16, {}, {}, {{2, {}, byte_swapped}}, {}, shards};
  std::uint16_t next = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    Text bytes;
    for (std::int64_t k = 0; k < shards[i]; ++k, ++next) {
      const auto value = byte_swapped ? __builtin_bswap16(next) : next;
      bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    const std::uint64_t size = bytes.size() + said_to_be_larger;
    recorded.storages.push_back(std::make_shared<testing::RecordedStorage>(bytes, is_mapped, size));
    parts.storages.push_back(recorded.storages.back());
    parts.shards.push_back({0, static_cast<std::uint32_t>(i), 0});
  }
  const auto values = std::make_shared<Column>(std::move(parts));
  recorded.table = std::make_shared<Table>(std::vector<std::shared_ptr<Source>>{
      std::make_shared<RaggedSource>(values, Offsets::from_lengths(lengths, sum(shards)))});
  return recorded;
}

/// Packed.
std::vector<std::uint16_t> values_of(const Recorded& recorded, const Numbers& rows) {
  const auto batch = recorded.table->in_batch(rows, {true}, std::array{kPadding});
  Outs outs(*batch, rows.size());
  batch->gather(rows, outs.places);
  std::vector<std::uint16_t> values(outs.sizes[0] / sizeof(std::uint16_t));
  std::memcpy(values.data(), outs.places[0], outs.sizes[0]);
  return values;
}

TEST_CASE("values that must be read, or are of the other byte order, come row by row and not one by one") {
  const Numbers lengths(40, 100);
  const Numbers rows = {7, 3, 3, 0, 39, 20, 19};
  std::vector<std::uint16_t> wanted;
  for (const std::int64_t row : rows) {
    for (int i = 0; i < 100; ++i) wanted.push_back(static_cast<std::uint16_t>(row * 100 + i));
  }
  for (const bool byte_swapped : {false, true}) {
    const Recorded read = make_recorded({4000}, lengths, false, byte_swapped);
    CHECK(values_of(read, rows) == wanted);
    CHECK(read.storages[0]->reads() == static_cast<std::int64_t>(rows.size()));
    const Recorded mapped = make_recorded({4000}, lengths, true, byte_swapped);
    const std::int64_t before = testing::guards_so_far();
    CHECK(values_of(mapped, rows) == wanted);
    CHECK(testing::guards_so_far() - before <= static_cast<std::int64_t>(rows.size()) + 2);
  }
}

TEST_CASE("a row in several files takes one read of each") {
  const Numbers lengths = {100, 250, 50};
  const Recorded read = make_recorded({150, 150, 100}, lengths, false, false);
  CHECK(values_of(read, {1}).size() == 250);
  CHECK(values_of(read, {1})[249] == 349);
  for (const auto& storage : read.storages) CHECK(storage->reads() == 2);
  const Recorded mapped = make_recorded({150, 150, 100}, lengths, true, false);
  const std::int64_t before = testing::guards_so_far();
  CHECK(values_of(mapped, {0, 1, 2}).size() == 400);
  CHECK(testing::guards_so_far() - before <= 7);
}

TEST_CASE("the system is told how rows are touched that memory cannot hold, as rows and not as values") {
  constexpr std::uint64_t kLarge = std::uint64_t{1} << 60U;
  for (const bool byte_swapped : {false, true}) {
    const Recorded recorded = make_recorded({4000}, Numbers(40, 100), true, byte_swapped, kLarge);
    const auto& advice = recorded.storages[0]->advice();
    (void)values_of(recorded, {7, 3, 30, 12});
    CHECK(advice == std::vector{AccessPattern::kRandom});
    (void)values_of(recorded, {9, 1, 2, 33});
    CHECK(advice == std::vector{AccessPattern::kRandom});
    (void)values_of(recorded, {4, 5, 6, 7});
    CHECK(advice == std::vector{AccessPattern::kRandom, AccessPattern::kSequential});
  }
}

TEST_CASE("an error names the row that is gone, not one of the others") {
  const Numbers lengths(64, 2048);
  for (const Kind kind : {Kind::kMapped, Kind::kRead}) {
    const auto sample = make_sample(kind, lengths, {sum(lengths)}, 1, 1);
    const Numbers rows = {0, 9, 40, 3, 50};
    require_gathers(*sample, rows, {});
    REQUIRE(::truncate(sample->folder.path("0").c_str(), 4096 * 12) == 0);
    const auto batch = table_of(*sample)->in_batch(rows, {}, std::array{kPadding});
    Outs outs(*batch, rows.size());
    const Error error = error_from([&] { return batch->gather(rows, outs.places), 0; });
    CHECK(error.field() == "x");
    CHECK(error.row() == 40);
  }
}

TEST_CASE("a table of ragged and fixed fields, and their lengths behind them") {
  const auto a = make_sample(Kind::kMemory, {2, 0, 3}, {5}, 1, 1);
  const auto b = make_sample(Kind::kMemory, {1, 4, 0}, {1, 4}, 2, 2);
  const auto bytes = std::make_shared<Text>("LMN");
  const auto labels = std::make_shared<ColumnSource>(
      std::make_shared<Column>(Column::Parts{"label",
                                             DType::kUInt8,
                                             {},
                                             {memory_storage(std::as_bytes(std::span(*bytes)), bytes)},
                                             {{1, {}, false}},
                                             {Shard{}},
                                             {3}}));
  const auto table =
      std::make_shared<Table>(std::vector<std::shared_ptr<Source>>{a->source, labels, b->source});
  CHECK(table->is_ragged());
  const Numbers rows = {2, 1, 2, 0};
  const RaggedLayout layout{false, true, false, false, 2, 1};
  const auto batch = table->in_batch(rows, layout, std::vector<Padding>{kPadding, {}, kPadding});
  REQUIRE(batch->fields().size() == 5);
  CHECK(batch->batch_shape(0, 4) == Numbers{4, 2, 1});
  CHECK(batch->batch_shape(1, 4) == Numbers{4});
  CHECK(batch->batch_shape(2, 4) == Numbers{4, 2, 2});
  CHECK(batch->batch_shape(4, 4) == Numbers{4});
  Outs outs(*batch, rows.size());
  batch->gather(rows, outs.places);
  CHECK(outs.text(0) == expected(*a, rows, layout));
  CHECK(outs.text(1) == "NMNL");
  CHECK(outs.text(2) == expected(*b, rows, layout));
  CHECK(outs.text(3) == expected_lengths(*a, rows, layout));
  CHECK(outs.text(4) == expected_lengths(*b, rows, layout));

  const auto alone = table->select(1);
  CHECK_FALSE(alone->is_ragged());
  CHECK(alone->in_batch(rows, layout, std::array{Padding()}) == alone);
  CHECK(table->select(2)->is_ragged());
  CHECK(error_from([&] { return batch->sources()[0]->followed_by(*a->source); }).kind() ==
        ErrorKind::kSchema);
  CHECK(error_from([&] { return batch->sources()[3]->followed_by(*a->source); }).kind() ==
        ErrorKind::kSchema);
  std::array<std::byte, 64> out{};
  CHECK(error_from([&] { return a->source->gather(rows, std::array{out.data()}), 0; }).kind() ==
        ErrorKind::kSchema);
  CHECK(error_from([&] {
          return table->in_batch(rows, layout, std::vector<Padding>{{std::byte{0}}, {}, kPadding});
        }).kind() == ErrorKind::kArgument);
  table->will_need(0, 3);
  table->will_need(0, 0);
  table->will_need(3, 0);
  table->will_need(rows);
  table->will_not_need(rows);
  batch->will_need(rows);
  batch->will_not_need(rows);
  CHECK_FALSE(batch->asks_ahead());
}

TEST_CASE("rows follow those of another source, however either lies") {
  std::mt19937_64 random(8);
  for (int round = 0; round < 60; ++round) {
    std::vector<std::unique_ptr<Sample>> parts;
    Sample whole;
    whole.value_bytes = 4;
    std::shared_ptr<Source> all;
    for (int i = 0; i < 3; ++i) {
      const Numbers lengths = random_lengths(random, random() % 12, 5);
      const Kind kind = kKinds[random() % kKinds.size()];
      parts.push_back(
          make_sample(kind, lengths, random_shards(random, lengths, random() % 2 == 0), 2, random()));
      const Sample& part = *parts.back();
      whole.lengths.insert(whole.lengths.end(), lengths.begin(), lengths.end());
      whole.rows.insert(whole.rows.end(), part.rows.begin(), part.rows.end());
      all = all == nullptr ? std::shared_ptr<Source>(part.source) : all->followed_by(*part.source);
    }
    REQUIRE(all->num_rows() == static_cast<std::int64_t>(whole.rows.size()));
    REQUIRE(sum(all->rows_per_shard()) == all->num_rows());
    if (all->num_rows() == 0) continue;
    whole.source = std::dynamic_pointer_cast<RaggedSource>(all);
    for (int batch = 0; batch < 4; ++batch) {
      require_gathers(whole, random_rows(random, all->num_rows(), 20), random_layout(random));
    }
  }
}

TEST_CASE("what is not alike does not follow, and fingerprints tell sources apart") {
  const auto a = make_sample(Kind::kMemory, {2, 3}, {5}, 2, 1);
  const auto wider = make_sample(Kind::kMemory, {2, 3}, {5}, 3, 1);
  const ColumnSource column(a->values);
  const auto refused = [](const Source& first, const Source& second) {
    return error_from([&] { return first.followed_by(second); }).kind() == ErrorKind::kSchema;
  };
  CHECK(refused(*a->source, *wider->source));
  CHECK(refused(*a->source, column));
  CHECK(refused(column, *a->source));
  const std::vector<std::uint64_t> prints = {
      a->source->fingerprint(),
      column.fingerprint(),
      wider->source->fingerprint(),
      make_sample(Kind::kMemory, {3, 2}, {5}, 2, 1)->source->fingerprint(),
      make_sample(Kind::kMemory, {5}, {5}, 2, 1)->source->fingerprint(),
      make_sample(Kind::kMemory, {2, 3, 0}, {5}, 2, 1)->source->fingerprint(),
      make_sample(Kind::kMemory, {2, 3}, {2, 3}, 2, 1)->source->fingerprint()};
  for (std::size_t i = 0; i < prints.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) CHECK(prints[i] != prints[k]);
  }
  CHECK(make_sample(Kind::kMemory, {2, 3}, {5}, 2, 99)->source->fingerprint() == prints[0]);
  CHECK(error_from([&] { return RaggedSource(a->values, Offsets({0, 2}, 2)).num_rows(); }).kind() ==
        ErrorKind::kSchema);
}

TEST_CASE("a batch of more bytes than there can be is refused") {
  const auto byte = std::make_shared<Text>("x");  // a stride of 0 makes any number of values of it
  const std::int64_t many = std::int64_t{1} << 40U;
  const auto values =
      std::make_shared<Column>(Column::Parts{"x",
                                             DType::kUInt8,
                                             {1 << 20},
                                             {memory_storage(std::as_bytes(std::span(*byte)), byte)},
                                             {{0, {0}, false}},
                                             {Shard{}},
                                             {many}});
  const auto source = std::make_shared<RaggedSource>(values, Offsets({0, many}, many));
  const auto table = std::make_shared<Table>(std::vector<std::shared_ptr<Source>>{source});
  const Numbers rows(16, 0);
  CHECK_THROWS_AS((void)table->in_batch(rows, {}, std::array{Padding(1)}), std::bad_alloc);
}

}  // namespace
}  // namespace penstock
