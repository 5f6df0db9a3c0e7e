#include "assemble/file_source.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/table.h"
#include "assemble/thread_pool.h"
#include "index/file_indexer.h"
#include "loader/pending_batch.h"
#include "sanitizers.h"
#include "temporary_folder.h"
#include "zip_writer.h"

namespace penstock {
namespace {

using namespace testing;
using Names = std::vector<std::string>;
using Rows = std::vector<std::int64_t>;

/// One thread again, whatever happens.
class Threads {
 public:
  explicit Threads(int count) { set_num_threads(count); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { set_num_threads(1); }
};

std::string npy(const std::string& descr, const std::string& shape, const std::string& data,
                std::size_t header_bytes = 118, const char* fortran = "False") {
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  header.append(header_bytes - 1 - header.size(), ' ');
  header += '\n';
  return std::string("\x93NUMPY\1\0", 8) + le(header.size(), 2) + header + data;
}

std::string random_text(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed * 7919 + 1);
  std::string text(count, '\0');
  for (char& each : text) each = static_cast<char>(random());
  return text;
}

Strings strings_of(const Names& names) {
  Strings strings;
  for (const std::string& name : names) strings.add(name);
  return strings;
}

std::shared_ptr<FileIndex> index_of(const TemporaryFolder& folder, const Names& names,
                                    const std::optional<RawFormat>& raw = {}, Names fields = {}) {
  FileIndexer::Request request;
  request.root = folder.path();
  request.raw = raw;
  request.fields = std::move(fields);
  request.names = strings_of(names);
  FileIndexer indexer(std::move(request));
  indexer.read_first();
  indexer.read(0, indexer.num_files());
  for (const auto& failure : indexer.failures())
    FAIL(failure.error.path() << ": " << failure.error.problem());
  return indexer.finish();
}

/// What the rows are, field by field; whatever lies behind them must stay as it is.
Names gathered(Source& source, const Rows& rows) {
  constexpr std::size_t kGuard = 32;
  Names results;
  std::vector<std::byte*> outs;
  for (const Field& field : source.fields()) {
    results.emplace_back(rows.size() * static_cast<std::size_t>(field.row_bytes) + kGuard, '\x5A');
  }
  for (std::string& result : results) outs.push_back(reinterpret_cast<std::byte*>(result.data()));
  source.gather(rows, outs);
  for (std::string& result : results) {
    REQUIRE(result.substr(result.size() - kGuard) == std::string(kGuard, '\x5A'));
    result.resize(result.size() - kGuard);
  }
  return results;
}

Error failure_of(Source& source, const Rows& rows) {
  return error_from([&] { return gathered(source, rows); });
}

/// Files of one field: what is in each, and how it reads.
struct Sample {
  TemporaryFolder folder;
  Names names;
  Names rows;  ///< what row i must be
  std::optional<RawFormat> raw;
  std::shared_ptr<FileIndex> index;

  [[nodiscard]] std::shared_ptr<FileSource> source(std::shared_ptr<RowCache> cache = nullptr) const {
    return std::make_shared<FileSource>(FileSource::Part{index, raw, std::move(cache), {}});
  }
  [[nodiscard]] std::shared_ptr<RowCache> cache(std::uint64_t rows_of_budget) const {
    const auto row_bytes = index->fields().front().bytes;
    return std::make_shared<RowCache>(index->num_files(), row_bytes,
                                      rows_of_budget * static_cast<std::uint64_t>(row_bytes));
  }
};

enum class Kind { kNpy, kRaw };

std::unique_ptr<Sample> make_sample(Kind kind, int count, std::size_t row_bytes, std::uint64_t seed = 0) {
  auto sample = std::make_unique<Sample>();
  for (int i = 0; i < count; ++i) {
    sample->rows.push_back(random_text(row_bytes, seed + static_cast<std::uint64_t>(i)));
    const std::string& data = sample->rows.back();
    sample->names.push_back(std::to_string(10'000 + i));
    const std::string shape = "(" + std::to_string(row_bytes) + ",)";
    sample->folder.write(sample->names.back(), kind == Kind::kRaw
                                                   ? "head" + data
                                                   : npy("|u1", shape, data, i % 3 == 0 ? 118 : 182));
  }
  if (kind == Kind::kRaw) sample->raw = RawFormat{DType::kUInt8, {static_cast<std::int64_t>(row_bytes)}, 4};
  sample->index = index_of(sample->folder, sample->names, sample->raw);
  return sample;
}

std::string expected(const Sample& sample, const Rows& rows) {
  std::string text;
  for (const std::int64_t row : rows) text += sample.rows[static_cast<std::size_t>(row)];
  return text;
}

Rows random_rows(std::int64_t num_rows, std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Rows rows(count);
  for (auto& row : rows) row = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(num_rows));
  return rows;
}

void require_gathers(const Sample& sample, Source& source, std::size_t count, std::uint64_t seed) {
  const Rows rows = random_rows(source.num_rows(), count, seed);
  REQUIRE(gathered(source, rows) == Names{expected(sample, rows)});
}

TEST_CASE("rows are files, in any order and as often as they are asked for") {
  for (const Kind kind : {Kind::kNpy, Kind::kRaw}) {
    for (const std::size_t row_bytes : std::vector<std::size_t>{1, 13, 4096, 100'001}) {
      const auto sample = make_sample(kind, 20, row_bytes);
      const auto source = sample->source();
      CHECK(source->num_rows() == 20);
      CHECK(source->num_shards() == 20);
      CHECK(source->rows_per_shard() == Rows(20, 1));
      REQUIRE(source->fields().size() == 1);
      CHECK(source->fields()[0].name == "data");
      CHECK(source->fields()[0].dtype == DType::kUInt8);
      CHECK(source->fields()[0].row_shape == Numbers{static_cast<std::int64_t>(row_bytes)});
      CHECK(source->fields()[0].row_bytes == static_cast<std::int64_t>(row_bytes));
      CHECK(source->row_work() > static_cast<std::int64_t>(row_bytes));
      for (const std::size_t count : std::vector<std::size_t>{0, 1, 2, 20, 57}) {
        require_gathers(*sample, *source, count, count);
      }
    }
  }
}

TEST_CASE("several threads gather the same as one, with and without a cache") {
  const auto sample = make_sample(Kind::kNpy, 300, 1000);
  const Threads threads(4);
  const auto source = sample->source();
  const auto cached = sample->source(sample->cache(100));
  for (std::uint64_t round = 0; round < 5; ++round) {
    require_gathers(*sample, *source, 500, round);
    require_gathers(*sample, *cached, 500, round);
  }
  CHECK(cached->parts()[0].cache->rows_kept() == 100);
}

TEST_CASE("many callers gather from one source at once") {
  const auto sample = make_sample(Kind::kRaw, 100, 500);
  const auto source = sample->source(sample->cache(50));
  const Threads threads(2);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (std::uint64_t i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      for (std::uint64_t round = 0; round < 10; ++round) {
        const Rows rows = random_rows(100, 100, i * 100 + round);
        std::string out(rows.size() * 500, '\0');
        const std::array outs = {reinterpret_cast<std::byte*>(out.data())};
        source->gather(rows, outs);
        wrong += out == expected(*sample, rows) ? 0 : 1;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

// --- layouts ---------------------------------------------------------------------------------------------

TEST_CASE("arrays that are scattered, or of the other byte order, arrive as they should") {
  const TemporaryFolder folder;
  folder.write("a", npy("<i2", "(2, 3)", std::string("\0\1\2\3\4\5\6\7\x8\x9\xA\xB", 12)));
  folder.write("b", npy(">i2", "(2, 3)", std::string("\0\1\2\3\4\5\6\7\x8\x9\xA\xB", 12)));
  folder.write("c", npy("<i2", "(2, 3)", std::string("\0\1\2\3\4\5\6\7\x8\x9\xA\xB", 12), 118, "True"));
  folder.write("d", npy(">i2", "(2, 3)", std::string("\0\1\2\3\4\5\6\7\x8\x9\xA\xB", 12), 118, "True"));
  FileSource source({index_of(folder, {"a", "b", "c", "d"}), {}, nullptr, {}});
  CHECK(gathered(source, {0}).front() == std::string("\0\1\2\3\4\5\6\7\x8\x9\xA\xB", 12));
  CHECK(gathered(source, {1}).front() == std::string("\1\0\3\2\5\4\7\6\x9\x8\xB\xA", 12));
  CHECK(gathered(source, {2}).front() == std::string("\0\1\4\5\x8\x9\2\3\6\7\xA\xB", 12));
  CHECK(gathered(source, {3}).front() == std::string("\1\0\5\4\x9\x8\3\2\7\6\xB\xA", 12));
  CHECK(gathered(source, {3, 0, 3}).front().size() == 36);
}

TEST_CASE("arrays of one element or none are rows too") {
  const TemporaryFolder folder;
  folder.write("a", npy("<f8", "()", "12345678"));
  folder.write("b", npy(">f8", "()", "12345678"));
  FileSource scalars({index_of(folder, {"a", "b"}), {}, nullptr, {}});
  CHECK(gathered(scalars, {1, 0}) == Names{"8765432112345678"});
  folder.write("c", npy("<f8", "(3, 0)", ""));
  folder.write("d", npy(">f8", "(3, 0)", "", 118, "True"));
  FileSource nothing({index_of(folder, {"c", "d"}), {}, nullptr, {}});
  CHECK(gathered(nothing, {1, 0, 1}) == Names{""});
  FileSource cached({index_of(folder, {"c", "d"}), {}, std::make_shared<RowCache>(2, 0, 1000), {}});
  for (int i = 0; i < 3; ++i) CHECK(gathered(cached, {1, 0, 1}) == Names{""});
}

/// A deflate stream of stored blocks.
std::string deflate(const std::string& data) {
  return std::string("\1") + le(data.size(), 2) + le(data.size() ^ 0xFFFFU, 2) + data;
}

std::string archive(const std::string& x, const std::string& y, bool deflated) {
  const std::string first = npy("|u1", "(5,)", x);
  const std::string second = npy(">u2", "(2,)", y);
  if (!deflated) return ZipWriter().add("x.npy", first).add("y.npy", second).finish();
  const auto lies = [](const std::string& data) {
    return ZipWriter::Lies{.method = 8, .crc32 = checksum_of(data), .bytes = data.size()};
  };
  return ZipWriter()
      .add("y.npy", deflate(second), lies(second))
      .add("x.npy", deflate(first), lies(first))
      .finish();
}

TEST_CASE("several fields of a file each go to their own buffer, deflated or not") {
  const TemporaryFolder folder;
  folder.write("a", archive("abcde", "1234", false));
  folder.write("b", archive("fghij", "5678", has_zlib()));
  const auto index = index_of(folder, {"a", "b"}, {}, {"x", "y"});
  for (const std::uint64_t budget : std::vector<std::uint64_t>{0, 9, 18, 1000}) {
    FileSource source({index, {}, std::make_shared<RowCache>(2, 9, budget), {}});
    for (int i = 0; i < 3; ++i) {
      CHECK(gathered(source, {1, 0, 1}) == Names{"fghijabcdefghij", "658721436587"});
    }
    CHECK(source.parts()[0].cache->rows_kept() ==
          static_cast<std::int64_t>(std::min<std::uint64_t>(budget / 9, 2)));
  }
}

TEST_CASE("one field alone, with and without a cache of all") {
  const TemporaryFolder folder;
  folder.write("a", archive("abcde", "1234", false));
  folder.write("b", archive("fghij", "5678", false));
  const auto index = index_of(folder, {"a", "b"}, {}, {"x", "y"});
  FileSource source({index, {}, std::make_shared<RowCache>(2, 9, 1000), {}});
  CHECK(gathered(source, {0, 1}).size() == 2);
  const auto x = source.select(0);
  const auto y = source.select(1);
  REQUIRE(x->fields().size() == 1);
  CHECK(x->fields()[0].name == "x");
  CHECK(y->fields()[0].name == "y");
  CHECK(y->fields()[0].row_bytes == 4);
  CHECK(y->num_rows() == 2);
  CHECK(gathered(*x, {1, 0}) == Names{"fghijabcde"});
  CHECK(gathered(*y, {1, 0}) == Names{"65872143"});
  CHECK(gathered(*y->select(0), {0}) == Names{"2143"});
  CHECK(gathered(*y->followed_by(*y), {3, 0}) == Names{"65872143"});
}

// --- files that are not what they were -------------------------------------------------------------------

TEST_CASE("a file that has been replaced is taken as it is now") {
  const auto sample = make_sample(Kind::kNpy, 3, 6);
  const auto source = sample->source();
  sample->folder.replace(sample->names[1], npy("|u1", "(6,)", "longer", 374));
  CHECK(gathered(*source, {1, 0, 1}).front() == "longer" + sample->rows[0] + "longer");
  sample->folder.write(sample->names[1], npy("|u1", "(6,)", "shortr", 70));  // in place
  CHECK(gathered(*source, {1}).front() == "shortr");
  sample->folder.replace(sample->names[1], ZipWriter().add("any.npy", npy("|u1", "(6,)", "zipped")).finish());
  CHECK(gathered(*source, {1}).front() == "zipped");
}

TEST_CASE("a file that has become something else is an error that names file and row") {
  const auto sample = make_sample(Kind::kNpy, 3, 6);
  const auto source = sample->source();
  const auto failure = [&](const std::string& file) {
    sample->folder.replace(sample->names[2], file);
    const Error error = failure_of(*source, {0, 2, 1});
    CHECK(error.path() == sample->folder.path(sample->names[2]));
    CHECK(error.row() == 2);
    CHECK(gathered(*source, {0, 1}).front() == sample->rows[0] + sample->rows[1]);  // the others are fine
    return error.kind();
  };
  CHECK(failure(npy("|u1", "(7,)", "1234567")) == ErrorKind::kSchema);
  CHECK(failure(npy("|i1", "(6,)", "123456")) == ErrorKind::kSchema);
  CHECK(failure(npy("|u1", "(6,)", "12345")) == ErrorKind::kFormat);
  CHECK(failure("") == ErrorKind::kFormat);
  CHECK(failure("not what it was") == ErrorKind::kFormat);
  sample->folder.remove(sample->names[2]);
  const Error gone = failure_of(*source, {2});
  CHECK(gone.kind() == ErrorKind::kShard);
  CHECK(gone.system_code() == ENOENT);
  std::filesystem::create_directory(sample->folder.path(sample->names[2]));
  CHECK(failure_of(*source, {2}).kind() == ErrorKind::kShard);
}

TEST_CASE("a raw file that has another length is an error") {
  const auto sample = make_sample(Kind::kRaw, 2, 6);
  const auto source = sample->source();
  sample->folder.replace(sample->names[1], "head123456123456");
  CHECK(failure_of(*source, {1}).kind() == ErrorKind::kSchema);
  sample->folder.replace(sample->names[1], "head12345");
  CHECK(failure_of(*source, {1}).kind() == ErrorKind::kFormat);
  sample->folder.replace(sample->names[1], "HEADabcdef");
  CHECK(gathered(*source, {1}).front() == "abcdef");
}

TEST_CASE("a file that is replaced again and again is read as one or the other, never as both") {
  constexpr std::size_t kBytes = 20'000;
  const TemporaryFolder folder;
  const std::string shape = "(" + std::to_string(kBytes) + ",)";
  const std::array files = {npy("|u1", shape, std::string(kBytes, 'a')),
                            npy("|u1", shape, std::string(kBytes, 'b'), 1014)};
  folder.write("x", files[0]);
  const auto index = index_of(folder, {"x"});
  std::atomic<bool> ends{false};
  std::thread writer([&] {
    for (std::size_t i = 0; !ends; ++i) folder.replace("x", files[i % 2]);
  });
  FileSource source({index, {}, nullptr, {}});
  int mixed = 0;
  for (int i = 0; i < 500; ++i) {
    const std::string row = gathered(source, {0}).front();
    mixed += row == std::string(kBytes, row.front()) ? 0 : 1;
  }
  ends = true;
  writer.join();
  CHECK(mixed == 0);
}

TEST_CASE("of several failures one is told, whichever thread met it, and no other row is harmed") {
  const auto sample = make_sample(Kind::kNpy, 200, 100);
  for (const int i : {50, 150}) sample->folder.remove(sample->names[static_cast<std::size_t>(i)]);
  const Threads threads(4);
  const auto source = sample->source();
  Rows rows(200);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i);
  for (int round = 0; round < 5; ++round) {
    const Error error = failure_of(*source, rows);
    const bool known = error.row() == 50 || error.row() == 150;
    CHECK(known);
    CHECK(error.kind() == ErrorKind::kShard);
  }
}

// --- an index that says impossible things ----------------------------------------------------------------

std::shared_ptr<FileIndex> index_that_says(const Sample& sample, std::uint64_t offset, std::int64_t length,
                                           std::uint64_t more_bytes = 0) {
  FileIndex::Parts parts;
  parts.root = sample.folder.path();
  parts.fields = {{"data", DType::kUInt8, {length}, length}};
  parts.names = strings_of({sample.names[0]});
  parts.stamps = {sample.index->stamp(0)};
  parts.stamps[0].size += more_bytes;
  parts.offsets = {offset};
  return FileIndex::make(parts);
}

TEST_CASE(
    "an offset past the end of the file is refused; if the size is wrong too the file itself is asked") {
  const auto sample = make_sample(Kind::kNpy, 1, 60);  // 188 bytes
  const auto row = [&](std::uint64_t offset, std::uint64_t more_bytes) {
    FileSource source({index_that_says(*sample, offset, 60, more_bytes), {}, nullptr, {}});
    return gathered(source, {0}).front();
  };
  CHECK(row(128, 0) == sample->rows[0]);
  for (const std::uint64_t offset : {std::uint64_t{129}, std::uint64_t{188}, std::uint64_t{189},
                                     std::uint64_t{4096}, std::uint64_t{1} << 40U, std::uint64_t{1} << 62U,
                                     std::uint64_t{1} << 63U, UINT64_MAX - 60, UINT64_MAX - 1}) {
    CHECK(error_from([&] { return index_that_says(*sample, offset, 60); }).kind() == ErrorKind::kFormat);
    const std::uint64_t more = std::uint64_t{1} << 50U;
    if (offset < more) CHECK(row(offset, more) == sample->rows[0]);
  }
}

TEST_CASE("an index of other fields than the file's is an error where the file is looked at") {
  const auto sample = make_sample(Kind::kNpy, 1, 60);
  FileSource longer({index_that_says(*sample, FileIndex::kElsewhere, 61), {}, nullptr, {}});
  CHECK(failure_of(longer, {0}).kind() == ErrorKind::kSchema);
  FileSource same({index_that_says(*sample, FileIndex::kElsewhere, 60), {}, nullptr, {}});
  CHECK(gathered(same, {0}).front() == sample->rows[0]);
}

// --- several indexes -------------------------------------------------------------------------------------

TEST_CASE("files of several folders follow one another") {
  const auto a = make_sample(Kind::kNpy, 5, 100, 1);
  const auto b = make_sample(Kind::kRaw, 1, 100, 50);
  const auto c = make_sample(Kind::kNpy, 7, 100, 90);
  const auto both = a->source()->followed_by(*b->source(b->cache(1)));
  const auto all = both->followed_by(*c->source());
  Sample whole;
  for (const Sample* each : {a.get(), b.get(), c.get()}) {
    whole.rows.insert(whole.rows.end(), each->rows.begin(), each->rows.end());
  }
  CHECK(all->num_rows() == 13);
  CHECK(all->rows_per_shard() == Rows(13, 1));
  for (std::uint64_t round = 0; round < 3; ++round) require_gathers(whole, *all, 100, round);
  const auto twice = all->followed_by(*all);
  CHECK(twice->num_rows() == 26);
  CHECK(gathered(*twice, {13, 25, 0}).front() == a->rows[0] + c->rows[6] + a->rows[0]);
  CHECK(gathered(*all->select(0), {5, 12}).front() == b->rows[0] + c->rows[6]);
  for (const std::int64_t row : {11, 12}) {
    const std::string& name = c->names[static_cast<std::size_t>(row - 6)];
    c->folder.remove(name);
    const Error error = failure_of(*all, {0, row});
    CHECK(error.row() == row);
    CHECK(error.path() == c->folder.path(name));
  }
  a->folder.remove(a->names[4]);
  b->folder.remove(b->names[0]);
  CHECK(failure_of(*all, {4}).row() == 4);
  CHECK(gathered(*all, {5}).front() == b->rows[0]);  // which is in its cache
}

std::shared_ptr<ColumnSource> column_of(std::int64_t rows, std::int64_t row_bytes) {
  const auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(rows * row_bytes));
  return std::make_shared<ColumnSource>(
      std::make_shared<Column>(Column::Parts{"data",
                                             DType::kUInt8,
                                             {row_bytes},
                                             {memory_storage(*bytes, bytes)},
                                             {{row_bytes, {1}, false}},
                                             {Shard{}},
                                             {rows}}));
}

TEST_CASE("what does not go together does not follow one another") {
  const auto a = make_sample(Kind::kNpy, 2, 6)->source();
  const auto refused = [](const Source& first, const Source& second) {
    return error_from([&] { return first.followed_by(second); }).kind() == ErrorKind::kSchema;
  };
  CHECK(refused(*a, *make_sample(Kind::kNpy, 2, 7)->source()));
  const TemporaryFolder folder;
  folder.write("x", npy("|i1", "(6,)", "123456"));
  folder.write("y", npy("|u1", "(6, 1)", "123456"));
  folder.write("z", archive("abcde", "1234", false));
  const FileSource other_dtype({index_of(folder, {"x"}), {}, nullptr, {}});
  const FileSource other_shape({index_of(folder, {"y"}), {}, nullptr, {}});
  const FileSource two_fields({index_of(folder, {"z"}), {}, nullptr, {}});
  for (const FileSource* other : {&other_dtype, &other_shape, &two_fields}) {
    CHECK(refused(*a, *other));
    CHECK(refused(*other, *a));
  }
  const auto column = column_of(2, 6);
  CHECK(refused(*a, *column));
  CHECK(refused(*column, *a));
  CHECK(column->followed_by(*column)->num_rows() == 4);
  CHECK(a->followed_by(*a)->num_rows() == 4);
}

TEST_CASE("a field that has been chosen is followed by a lone one like it") {
  const TemporaryFolder folder;
  folder.write("a", archive("abcde", "1234", false));
  folder.write("b", npy("<u2", "(2,)", "5678"));
  FileSource two({index_of(folder, {"a"}, {}, {"x", "y"}), {}, nullptr, {}});
  const FileSource one({index_of(folder, {"b"}), {}, nullptr, {}});
  CHECK(gathered(*two.select(1)->followed_by(one), {1, 0}) == Names{"56782143"});
}

TEST_CASE("a source is told from others by fields and files, not by where they lie or what is in them") {
  const auto a = make_sample(Kind::kNpy, 5, 100, 1);
  const auto elsewhere = make_sample(Kind::kNpy, 5, 100, 77);
  const auto fewer = make_sample(Kind::kNpy, 4, 100, 1);
  const auto longer = make_sample(Kind::kNpy, 5, 101, 1);
  const std::uint64_t fingerprint = a->source()->fingerprint();
  CHECK(a->source()->fingerprint() == fingerprint);
  CHECK(a->source(a->cache(2))->fingerprint() == fingerprint);
  CHECK(elsewhere->source()->fingerprint() == fingerprint);
  CHECK(fewer->source()->fingerprint() != fingerprint);
  CHECK(longer->source()->fingerprint() != fingerprint);
  const auto both = a->source()->followed_by(*fewer->source());
  CHECK(both->fingerprint() != fingerprint);
  CHECK(both->fingerprint() != fewer->source()->followed_by(*a->source())->fingerprint());
  CHECK(column_of(5, 100)->fingerprint() != fingerprint);
  CHECK(column_of(5, 100)->fingerprint() == column_of(5, 100)->fingerprint());
  CHECK(column_of(5, 100)->fingerprint() != column_of(4, 100)->fingerprint());
  CHECK(column_of(5, 100)->fingerprint() != column_of(5, 99)->fingerprint());
  const Table files(std::vector<std::shared_ptr<Source>>{a->source(), column_of(5, 1)});
  const Table turned(std::vector<std::shared_ptr<Source>>{column_of(5, 1), a->source()});
  CHECK(files.fingerprint() != turned.fingerprint());
}

// --- caches ----------------------------------------------------------------------------------------------

TEST_CASE("a row that has been read once needs no file, as far as the budget goes") {
  for (const Kind kind : {Kind::kNpy, Kind::kRaw}) {
    for (const std::uint64_t budget : std::vector<std::uint64_t>{0, 1, 9, 29, 30, 1000}) {
      const auto sample = make_sample(kind, 30, 77);
      const auto cache = sample->cache(budget);
      const auto source = sample->source(cache);
      Rows rows(30);
      for (std::size_t i = 0; i < 30; ++i) rows[i] = static_cast<std::int64_t>(i * 7 % 30);
      for (int round = 0; round < 3; ++round) {
        REQUIRE(gathered(*source, rows).front() == expected(*sample, rows));
      }
      const auto kept = std::min<std::uint64_t>(budget, 30);
      CHECK(cache->rows_kept() == static_cast<std::int64_t>(kept));
      for (const std::string& name : sample->names) sample->folder.remove(name);
      for (std::size_t i = 0; i < 30; ++i) {
        if (i < kept) {
          REQUIRE(gathered(*source, {rows[i]}).front() == expected(*sample, {rows[i]}));
        } else {
          REQUIRE(failure_of(*source, {rows[i]}).row() == rows[i]);
        }
      }
    }
  }
}

TEST_CASE("a row that could not be read is read when it can be") {
  const auto sample = make_sample(Kind::kNpy, 2, 6);
  const auto source = sample->source(sample->cache(2));
  sample->folder.remove(sample->names[1]);
  CHECK(failure_of(*source, {0, 1}).row() == 1);
  sample->folder.write(sample->names[1], npy("|u1", "(6,)", "a new1"));
  CHECK(gathered(*source, {1, 0, 1}).front() == "a new1" + sample->rows[0] + "a new1");
  CHECK(source->parts()[0].cache->rows_kept() == 2);
}

TEST_CASE("rows that a forked child has read are the parent's too") {
  const auto sample = make_sample(Kind::kNpy, 50, 300);
  const auto source = sample->source(sample->cache(50));
  std::vector<pid_t> children;
  for (const std::int64_t first : {0, 20}) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    bool right = true;
    for (std::int64_t row = first; row < first + 30; ++row) {
      right = right && gathered(*source, {row}).front() == expected(*sample, {row});
    }
    ::_exit(right ? 0 : 1);
  }
  for (const pid_t child : children) {
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  for (const std::string& name : sample->names) sample->folder.remove(name);
  require_gathers(*sample, *source, 200, 1);
}

// --- looking ahead ---------------------------------------------------------------------------------------

TEST_CASE("after a slow read files are asked for ahead, for a while; what is missing is no trouble then") {
  constexpr std::int64_t kBytes = std::int64_t{32} << 20U;  // no memory copies that in 200 us
  const TemporaryFolder folder;
  const Names names = {"a", "b", "c", "d"};
  for (const std::string& name : names) {
    folder.write(name, "");
    std::filesystem::resize_file(folder.path(name), static_cast<std::uintmax_t>(kBytes));
  }
  const RawFormat raw{DType::kUInt8, {kBytes}, 0};
  const auto source = std::make_shared<FileSource>(
      FileSource::Part{index_of(folder, names, raw), raw, std::make_shared<RowCache>(4, kBytes, kBytes), {}});
  CHECK_FALSE(source->asks_ahead());
  source->will_need(0, 4);
  std::vector<std::byte> out(static_cast<std::size_t>(kBytes));
  source->gather(Rows{2}, std::array{out.data()});
  REQUIRE(source->asks_ahead());
  folder.remove("b");
  REQUIRE(::mkfifo(folder.path("b").c_str(), 0600) == 0);  // whose opening could wait
  folder.remove("c");                                      // which is in the cache
  folder.remove("d");
  source->will_need(0, 4);
  source->will_need(0, 0);
  source->will_need(Rows{3, 3, 0, 2, 1});
  source->will_need(Rows{});
  source->will_not_need(Rows{0, 1, 2, 3});
  const auto twice = source->followed_by(*source);
  twice->will_need(0, 8);
  CHECK_FALSE(source->select(0)->asks_ahead());  // it has read nothing
  CHECK(failure_of(*source, {3}).system_code() == ENOENT);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  CHECK_FALSE(source->asks_ahead());
}

// --- tables ----------------------------------------------------------------------------------------------

TEST_CASE("a table's fields come from sources of one field and of several") {
  const TemporaryFolder folder;
  folder.write("a", archive("abcde", "1234", false));
  folder.write("b", archive("fghij", "5678", false));
  const auto files = std::make_shared<FileSource>(
      FileSource::Part{index_of(folder, {"a", "b"}, {}, {"x", "y"}), {}, nullptr, {}});
  const auto labels = std::make_shared<std::vector<std::byte>>(std::vector{std::byte{'L'}, std::byte{'M'}});
  const auto label = std::make_shared<ColumnSource>(std::make_shared<Column>(Column::Parts{
      "label", DType::kUInt8, {}, {memory_storage(*labels, labels)}, {{1, {}, false}}, {Shard{}}, {2}}));
  const Table table(std::vector<std::shared_ptr<Source>>{files, label});
  REQUIRE(table.fields().size() == 3);
  CHECK(table.fields()[1].name == "y");
  CHECK(table.fields()[2].name == "label");
  CHECK(table.num_rows() == 2);
  CHECK(table.row_work() == files->row_work() + 1);
  const auto read = [](const Table& from, const Rows& rows) {
    Names results;
    std::vector<std::byte*> outs;
    for (const Field& field : from.fields()) {
      results.emplace_back(rows.size() * static_cast<std::size_t>(field.row_bytes), '\0');
    }
    for (std::string& result : results) outs.push_back(reinterpret_cast<std::byte*>(result.data()));
    from.gather(rows, outs);
    return results;
  };
  CHECK(read(table, {1, 0}) == Names{"fghijabcde", "65872143", "ML"});
  CHECK(read(*table.select(0), {0}) == Names{"abcde"});
  CHECK(read(*table.select(1), {0}) == Names{"2143"});
  CHECK(read(*table.select(2), {1}) == Names{"M"});
  const auto twice = concatenate(table, table);
  CHECK(twice->num_rows() == 4);
  CHECK(read(*twice, {3, 0}) == Names{"fghijabcde", "65872143", "ML"});
  table.will_need(0, 2);
  table.will_need(Rows{1, 0});
  table.will_not_need(Rows{0});

  const auto kind_of = [](const auto& call) { return error_from(call).kind(); };
  CHECK(kind_of([&] { return concatenate(table, *table.select(0)); }) == ErrorKind::kSchema);
  CHECK(kind_of([&] { return concatenate(*table.select(0), *table.select(2)); }) == ErrorKind::kSchema);
  CHECK(kind_of([&] { return Table(std::vector<std::shared_ptr<Source>>{}).num_rows(); }) ==
        ErrorKind::kSchema);
  const auto longer = std::vector<std::shared_ptr<Source>>{files, column_of(3, 1)};
  const Error error = error_from([&] { return Table(longer).num_rows(); });
  CHECK(error.kind() == ErrorKind::kSchema);
  CHECK(error.field() == "data");
  CHECK(contains(error.needed(), "'x'"));
}

TEST_CASE("batches of files are assembled ahead, by threads or by whoever waits, and in a forked child" *
          doctest::skip(kAddressSanitizer)) {
  const auto sample = make_sample(Kind::kNpy, 60, 3000);
  const Table table(std::vector<std::shared_ptr<Source>>{sample->source(sample->cache(20))});
  const auto is_right = [&](PendingBatch& batch, const Rows& rows) {
    if (!batch.wait_for(std::chrono::seconds(30))) return false;
    const auto buffers = batch.take_buffers();
    return as_text({buffers.front().data(), rows.size() * 3000}) == expected(*sample, rows);
  };
  const Threads threads(3);
  std::vector<std::pair<Rows, std::shared_ptr<PendingBatch>>> batches;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Rows rows = random_rows(60, 40, i);
    batches.emplace_back(rows, std::make_shared<PendingBatch>(table, rows));
    submit(batches.back().second);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    bool right = true;
    for (auto& [rows, batch] : batches) right = right && is_right(*batch, rows);
    ::_exit(right ? 0 : 1);
  }
  for (auto& [rows, batch] : batches) REQUIRE(is_right(*batch, rows));
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("a batch of more bytes than there are is refused") {
  const pid_t child = ::fork();
  if (child == 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(nowhere, STDERR_FILENO);  // of what a sanitizer says
    for (const int each : {SIGSEGV, SIGBUS, SIGABRT}) (void)std::signal(each, SIG_DFL);  // not doctest's
    // strides of 0, as in a .pt file of an expanded tensor, make a row of any size out of one byte
    const auto bytes = std::make_shared<std::vector<std::byte>>(1);
    const Table table(std::vector{std::make_shared<Column>(Column::Parts{"x",
                                                                         DType::kUInt8,
                                                                         {std::int64_t{1} << 62U},
                                                                         {memory_storage(*bytes, bytes)},
                                                                         {{0, {0}, false}},
                                                                         {Shard{}},
                                                                         {4}})});
    try {
      (void)PendingBatch(table, {0, 1, 2, 3}).wait_for(std::chrono::seconds(10));
    } catch (const std::exception&) {
      ::_exit(0);
    }
    ::_exit(1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

}  // namespace
}  // namespace penstock
