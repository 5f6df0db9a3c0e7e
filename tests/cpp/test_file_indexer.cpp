#include "index/file_indexer.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "storage/buffered_file.h"
#include "storage/file.h"
#include "temporary_folder.h"
#include "zip_writer.h"

namespace penstock {
namespace {

using namespace testing;
using Names = std::vector<std::string>;

std::string npy(const std::string& descr, const std::string& shape, std::size_t data_bytes,
                std::size_t header_bytes = 118, const char* fortran = "False") {
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  header.append(header_bytes - 1 - header.size(), ' ');
  header += '\n';
  return std::string("\x93NUMPY\1\0", 8) + le(header.size(), 2) + header + std::string(data_bytes, 'd');
}

const std::string kFloats = npy("<f4", "(2, 3)", 24);

Strings strings_of(const Names& names) {
  Strings strings;
  for (const std::string& name : names) strings.add(name);
  return strings;
}

FileIndexer::Request request_for(const TemporaryFolder& folder, const Names& names, Names fields = {}) {
  FileIndexer::Request request;
  request.root = folder.path();
  request.recipe = "a recipe";
  request.fields = std::move(fields);
  request.names = strings_of(names);
  return request;
}

FileIndexer::Request request_for_raw(const TemporaryFolder& folder, const Names& names, RawFormat raw) {
  FileIndexer::Request request = request_for(folder, names);
  request.raw = std::move(raw);
  return request;
}

void read_all(FileIndexer& indexer) {
  indexer.read_first();
  indexer.read(0, indexer.num_files());
  indexer.settle();
}

std::shared_ptr<FileIndex> index_of(FileIndexer::Request request) {
  FileIndexer indexer(std::move(request));
  read_all(indexer);
  for (const auto& failure : indexer.failures())
    FAIL(failure.error.path() << ": " << failure.error.problem());
  return indexer.finish();
}

std::vector<FileIndexer::Failure> failures_of(FileIndexer::Request request) {
  FileIndexer indexer(std::move(request));
  read_all(indexer);
  return indexer.failures();
}

/// The only failure there is.
Error failure_of(FileIndexer::Request request) {
  const auto failures = failures_of(std::move(request));
  REQUIRE(failures.size() == 1);
  return failures.front().error;
}

Names names_in(const FileIndex& index) {
  Names names;
  for (std::int64_t file = 0; file < index.num_files(); ++file) names.emplace_back(index.name(file));
  return names;
}

Names numbered(int count) {
  Names names;
  for (int i = 0; i < count; ++i) names.push_back(std::to_string(1000 + i) + ".npy");
  return names;
}

TEST_CASE("an index holds names, stamps, fields and offsets of all files, and what was asked for") {
  const TemporaryFolder folder;
  folder.write("a.npy", kFloats);
  folder.write("b.npy", npy("<f4", "(2, 3)", 24, 182));
  FileIndexer::Request request = request_for(folder, {"a.npy", "b.npy"});
  request.folders = strings_of({""});
  request.changed = {17};
  const auto index = index_of(request);
  CHECK(index->root() == folder.path());
  CHECK(index->recipe() == "a recipe");
  CHECK(index->container() == Container::kArray);
  CHECK(names_in(*index) == Names{"a.npy", "b.npy"});
  REQUIRE(index->fields().size() == 1);
  CHECK(index->fields()[0].name == "data");
  CHECK(index->fields()[0].dtype == DType::kFloat32);
  CHECK(index->fields()[0].shape == Numbers{2, 3});
  CHECK(index->fields()[0].bytes == 24);
  CHECK(index->offset(0, 0) == 128);
  CHECK(index->offset(1, 0) == 192);
  for (const std::int64_t file : {0, 1}) {
    const auto identity = identity_of_file(index->path(file));
    REQUIRE(identity.has_value());
    CHECK(index->stamp(file) == FileStamp{identity->size, identity->mtime_ns});
  }
}

TEST_CASE("arrays that do not lie end to end in this machine's byte order are elsewhere") {
  const TemporaryFolder folder;
  const auto offset = [&](const std::string& file) {
    folder.write("x.npy", file);
    return index_of(request_for(folder, {"x.npy"}))->offset(0, 0);
  };
  CHECK(offset(npy("<f4", "(2, 3)", 24)) == 128);
  CHECK(offset(npy(">f4", "(2, 3)", 24)) == FileIndex::kElsewhere);
  CHECK(offset(npy("<f4", "(2, 3)", 24, 118, "True")) == FileIndex::kElsewhere);
  CHECK(offset(npy("<f4", "(1, 6)", 24, 118, "True")) == 128);  // both orders at once
  CHECK(offset(npy(">i1", "(2, 3)", 6)) == 128);                // a byte has no order
  CHECK(offset(npy("<f8", "()", 8)) == 128);
  CHECK(offset(npy(">f8", "()", 8)) == FileIndex::kElsewhere);
  (void)offset(npy("<f4", "(0, 3)", 0));  // wherever nothing lies
}

TEST_CASE("fields are those of the first file, or those that are asked for, in that order") {
  const TemporaryFolder folder;
  const std::string small = npy("|u1", "()", 1);
  folder.write("a.npz", ZipWriter().add("x.npy", kFloats).add("y.npy", small).finish());
  folder.write("b.npz", ZipWriter().add("z.npy", small).add("y.npy", small).add("x.npy", kFloats).finish());
  const Names names = {"a.npz", "b.npz"};
  const auto all = index_of(request_for(folder, names));
  CHECK(all->container() == Container::kMapping);
  REQUIRE(all->fields().size() == 2);
  CHECK(all->fields()[0].name == "x");
  CHECK(all->fields()[1].name == "y");
  CHECK(all->offset(0, 0) < all->offset(0, 1));
  CHECK(all->offset(1, 0) > all->offset(1, 1));  // in the other order there

  const auto turned = index_of(request_for(folder, names, {"y", "x"}));
  REQUIRE(turned->fields().size() == 2);
  CHECK(turned->fields()[0].name == "y");
  for (const std::int64_t file : {0, 1}) {
    CHECK(turned->offset(file, 0) == all->offset(file, 1));
    CHECK(turned->offset(file, 1) == all->offset(file, 0));
  }
  CHECK(index_of(request_for(folder, names, {"y"}))->fields().size() == 1);
  const auto failures = failures_of(request_for(folder, {"b.npz", "a.npz"}));
  REQUIRE(failures.size() == 1);  // z is missing in a.npz
  CHECK(failures[0].file == 1);
  CHECK(failures[0].error.field() == "z");
}

TEST_CASE("a lone array may have any name unless one is asked for; one without a name is what is asked for") {
  const TemporaryFolder folder;
  folder.write("a.npz", ZipWriter().add("x.npy", kFloats).finish());
  folder.write("b.npz", ZipWriter().add("other.npy", kFloats).finish());
  folder.write("c.npy", kFloats);
  CHECK(index_of(request_for(folder, {"a.npz", "b.npz", "c.npy"}))->fields()[0].name == "x");
  CHECK(index_of(request_for(folder, {"a.npz", "c.npy"}, {"x"}))->fields()[0].name == "x");
  CHECK(index_of(request_for(folder, {"c.npy"}, {"x"}))->fields()[0].name == "x");
  for (const Names& names : {Names{"b.npz"}, Names{"a.npz", "b.npz"}, Names{"c.npy", "b.npz"}}) {
    const Error error = failure_of(request_for(folder, names, {"x"}));
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.path() == folder.path("b.npz"));
    CHECK(contains(error.found(), "'other'"));
  }
}

TEST_CASE("files that disagree are failures that name both") {
  const TemporaryFolder folder;
  folder.write("a.npy", kFloats);
  for (const auto& [descr, shape, bytes] : {std::tuple{"<f8", "(2, 3)", 48},
                                            {"<f4", "(3, 2)", 24},
                                            {"<f4", "(2, 3, 1)", 24},
                                            {"<f4", "()", 4},
                                            {"<i4", "(2, 3)", 24}}) {
    folder.write("b.npy", npy(descr, shape, static_cast<std::size_t>(bytes)));
    const Error error = failure_of(request_for(folder, {"a.npy", "b.npy"}));
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.path() == folder.path("b.npy"));
    CHECK(error.field() == "data");
    CHECK(contains(error.needed(), folder.path("a.npy")));
    CHECK(contains(error.needed(), "float32 of (2, 3)"));
    CHECK(contains(error.found(), shape));
  }
}

TEST_CASE("an array that is not there, or that torch cannot hold, is a failure that says so") {
  const TemporaryFolder folder;
  folder.write(
      "x.npz",
      ZipWriter().add("x.npy", kFloats).add("y.npy", kFloats).add("o.npy", npy("|O", "(1,)", 8)).finish());
  const Error missing = failure_of(request_for(folder, {"x.npz"}, {"z"}));
  CHECK(missing.kind() == ErrorKind::kSchema);
  CHECK(missing.field() == "z");
  CHECK(contains(missing.found(), "'x', 'y'"));
  for (const Names& fields : {Names{"o"}, Names{}}) {
    const Error refused = failure_of(request_for(folder, {"x.npz"}, fields));
    CHECK(refused.kind() == ErrorKind::kFormat);
    CHECK(refused.field() == "o");
    CHECK(refused.path() == folder.path("x.npz"));
  }
  CHECK(index_of(request_for(folder, {"x.npz"}, {"x", "y"}))->fields().size() == 2);
}

TEST_CASE("files that cannot be read are failures; the first that can says what the others hold") {
  const TemporaryFolder folder;
  folder.write("b.npy", "no array at all");
  folder.write("c.npy", kFloats.substr(0, 100));
  folder.write("d.npy", kFloats);
  folder.write("e.npy", npy("<f4", "(7,)", 28));
  folder.write("f.npy", kFloats);
  std::filesystem::create_directory(folder.path("g.npy"));
  FileIndexer indexer(request_for(folder, {"a.npy", "b.npy", "c.npy", "d.npy", "e.npy", "f.npy", "g.npy"}));
  read_all(indexer);
  const auto failures = indexer.failures();
  REQUIRE(failures.size() == 5);
  const std::array<std::pair<std::int64_t, ErrorKind>, 5> expected = {{{0, ErrorKind::kShard},
                                                                       {1, ErrorKind::kFormat},
                                                                       {2, ErrorKind::kFormat},
                                                                       {4, ErrorKind::kSchema},
                                                                       {6, ErrorKind::kShard}}};
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(failures[i].file == expected[i].first);
    CHECK(failures[i].error.kind() == expected[i].second);
    const std::string name = std::string(1, static_cast<char>('a' + failures[i].file)) + ".npy";
    CHECK(failures[i].error.path() == folder.path(name));
  }
  CHECK(failures[0].error.system_code() == ENOENT);
  CHECK(contains(failures[3].error.needed(), folder.path("d.npy")));
  const auto index = indexer.finish();
  CHECK(names_in(*index) == Names{"d.npy", "f.npy"});
  for (const std::int64_t file : {0, 1}) {
    CHECK(index->offset(file, 0) == 128);
    CHECK(index->stamp(file).size == 152);
  }
}

TEST_CASE("when no file is left there is no index") {
  const TemporaryFolder folder;
  folder.write("a.npy", "");
  for (const Names& names : {Names{}, Names{"a.npy"}, Names{"gone", "a.npy"}}) {
    FileIndexer indexer(request_for(folder, names));
    read_all(indexer);
    CHECK(indexer.failures().size() == names.size());
    const Error error = error_from([&] { return indexer.finish(); });
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.path() == folder.path());
  }
}

TEST_CASE("a file is told once, however often it is read") {
  const TemporaryFolder folder;
  folder.write("b.npy", kFloats);
  FileIndexer indexer(request_for(folder, {"a.npy", "b.npy"}));
  for (int i = 0; i < 3; ++i) read_all(indexer);
  CHECK(indexer.failures().size() == 1);
  CHECK(indexer.finish()->num_files() == 1);
}

TEST_CASE("a file of the year 1970 is a file like any other") {
  const TemporaryFolder folder;
  for (const char* name : {"a.npy", "b.npy"}) {
    folder.write(name, kFloats);
    folder.set_time(name, {0, 0});
  }
  const auto index = index_of(request_for(folder, {"a.npy", "b.npy"}));
  CHECK(index->stamp(1) == FileStamp{152, 0});
  FileIndexer::Request request = request_for(folder, {"a.npy", "b.npy"});
  request.known = index;
  folder.write_unnoticed("a.npy", 'x');
  CHECK(index_of(request)->same_files_as(*index));
}

TEST_CASE("threads that read parts of the files make the same index, with the same failures") {
  const TemporaryFolder folder;
  const Names names = numbered(240);
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i % 10 == 3) continue;  // missing
    folder.write(names[i],
                 i % 10 == 7 ? npy("<f4", "(9,)", 36) : npy("<f4", "(2, 3)", 24, i % 2 == 0 ? 118 : 182));
  }
  FileIndexer one(request_for(folder, names));
  read_all(one);
  for (int round = 0; round < 5; ++round) {
    FileIndexer several(request_for(folder, names));
    several.read_first();
    std::vector<std::thread> threads;
    for (std::int64_t part = 7; part >= 0; --part) {
      threads.emplace_back([&several, part] { several.read(part * 30, part * 30 + 30); });
    }
    threads.emplace_back([&several] {
      for (int i = 0; i < 20; ++i) (void)several.failures();
    });
    for (std::thread& thread : threads) thread.join();
    const auto failures = several.failures();
    REQUIRE(failures.size() == 48);
    CHECK(std::is_sorted(failures.begin(), failures.end(),
                         [](const auto& a, const auto& b) { return a.file < b.file; }));
    for (const auto& failure : failures) {
      const bool missing = failure.file % 10 == 3;
      REQUIRE(failure.error.kind() == (missing ? ErrorKind::kShard : ErrorKind::kSchema));
    }
    CHECK(several.finish()->fingerprint() == one.finish()->fingerprint());
  }
}

// --- an older index --------------------------------------------------------------------------------------

TEST_CASE("of what an older index knows only what has changed is read") {
  const TemporaryFolder folder;
  const Names names = {"a.npy", "b.npy", "c.npy", "d.npy"};
  for (const std::string& name : names) folder.write(name, kFloats);
  const auto known = index_of(request_for(folder, names));
  folder.write_unnoticed("a.npy", 'x');                   // not to be read
  folder.write("b.npy", npy("<f4", "(2, 3)", 24, 182));   // another size
  folder.write("c2.npy", npy("<f4", "(2, 3)", 24, 246));  // a new one
  std::filesystem::remove(folder.path("d.npy"));
  FileIndexer::Request request = request_for(folder, {"a.npy", "b.npy", "c.npy", "c2.npy"});
  request.known = known;
  const auto index = index_of(request);
  CHECK(names_in(*index) == Names{"a.npy", "b.npy", "c.npy", "c2.npy"});
  CHECK(index->stamp(0) == known->stamp(0));
  CHECK(index->stamp(1).size == 216);
  CHECK(index->offset(0, 0) == 128);
  CHECK(index->offset(1, 0) == 192);
  CHECK(index->offset(2, 0) == 128);
  CHECK(index->offset(3, 0) == 256);
  CHECK(index->container() == known->container());
  CHECK(index->fields()[0].shape == known->fields()[0].shape);
}

TEST_CASE("a file of another time is read again though its size is the same") {
  const TemporaryFolder folder;
  for (const char* name : {"a.npy", "b.npy"}) folder.write(name, kFloats);
  FileIndexer::Request request = request_for(folder, {"a.npy", "b.npy"});
  request.known = index_of(request);
  folder.write_unnoticed("b.npy", 'x');
  CHECK(failures_of(request).empty());
  folder.set_time("b.npy", {1'000'000'000, 1});
  const Error error = failure_of(request);
  CHECK(error.path() == folder.path("b.npy"));
  CHECK(error.kind() == ErrorKind::kFormat);
}

TEST_CASE("a known file that is gone is a failure, and one that disagrees names a known one") {
  const TemporaryFolder folder;
  const Names names = {"a.npy", "b.npy", "c.npy"};
  for (const std::string& name : names) folder.write(name, kFloats);
  FileIndexer::Request request = request_for(folder, names);
  request.known = index_of(request);
  std::filesystem::remove(folder.path("b.npy"));
  folder.write("c.npy", npy("<f8", "(2, 3)", 48));
  const auto failures = failures_of(request);
  REQUIRE(failures.size() == 2);
  CHECK(failures[0].error.system_code() == ENOENT);
  CHECK(failures[1].error.kind() == ErrorKind::kSchema);
  CHECK(contains(failures[1].error.needed(), folder.path("a.npy")));
}

TEST_CASE("an index made again of the same files holds the same, read by any number of threads") {
  const TemporaryFolder folder;
  const Names names = numbered(100);
  for (const std::string& name : names) folder.write(name, kFloats);
  FileIndexer::Request request = request_for(folder, names);
  const auto known = index_of(request);
  request.known = known;
  for (const std::string& name : names) folder.write_unnoticed(name, '?');
  FileIndexer indexer(request);
  indexer.read_first();
  std::vector<std::thread> threads;
  for (std::int64_t part = 0; part < 5; ++part) {
    threads.emplace_back([&indexer, part] { indexer.read(part * 20, part * 20 + 20); });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(indexer.failures().empty());
  CHECK(indexer.finish()->same_files_as(*known));
  CHECK(indexer.finish()->fingerprint() == known->fingerprint());
}

TEST_CASE("files that have all become others agree with the first of them") {
  const TemporaryFolder folder;
  const Names names = {"a.npy", "b.npy"};
  for (const std::string& name : names) folder.write(name, kFloats);
  FileIndexer::Request request = request_for(folder, names);
  request.known = index_of(request);
  for (const std::string& name : names) folder.write(name, npy("<f8", "(2, 3)", 48));
  FileIndexer indexer(request);
  read_all(indexer);
  REQUIRE(indexer.failures().empty());
  CHECK(indexer.finish()->fields()[0].dtype == DType::kFloat64);
}

TEST_CASE("an older index of another root says nothing of these files") {
  const TemporaryFolder before;
  const TemporaryFolder now;
  before.write("a.npy", kFloats);
  now.write("a.npy", npy("<f4", "(2, 3)", 24, 182));
  FileIndexer::Request request = request_for(now, {"a.npy"});
  request.known = index_of(request_for(before, {"a.npy"}));
  CHECK(index_of(request)->offset(0, 0) == 192);
}

// --- files without a header ------------------------------------------------------------------------------

TEST_CASE("a file without a header holds one row, of the shape that was said") {
  const TemporaryFolder folder;
  folder.write("a.bin", std::string(5 + 24, 'x'));
  folder.write("b.bin", std::string(5 + 24, 'y'));
  const auto index = index_of(request_for_raw(folder, {"a.bin", "b.bin"}, {DType::kFloat32, {2, 3}, 5}));
  CHECK(index->fields()[0].name == "data");
  CHECK(index->fields()[0].shape == Numbers{2, 3});
  CHECK(index->fields()[0].bytes == 24);
  CHECK(index->offset(1, 0) == 5);
  CHECK(index->container() == Container::kArray);
  const auto scalar = index_of(request_for_raw(folder, {"a.bin"}, {DType::kUInt8, {}, 28}));
  CHECK(scalar->fields()[0].shape.empty());
  CHECK(scalar->offset(0, 0) == 28);
}

TEST_CASE("a file without a header that holds no row, two, or a part of one is a failure") {
  const TemporaryFolder folder;
  folder.write("a.bin", std::string(24, 'x'));
  const auto failure = [&](std::size_t bytes) {
    folder.write("b.bin", std::string(bytes, 'y'));
    return failure_of(request_for_raw(folder, {"a.bin", "b.bin"}, {DType::kFloat32, {2, 3}, 0}));
  };
  for (const std::size_t bytes : std::vector<std::size_t>{0, 48}) {
    const Error error = failure(bytes);
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.path() == folder.path("b.bin"));
    CHECK(contains(error.found(), std::to_string(bytes / 24) + " rows"));
    CHECK(contains(error.needed(), "float32 rows of (2, 3)"));
  }
  for (const std::size_t bytes : std::vector<std::size_t>{1, 23, 25, 47}) {
    CHECK(failure(bytes).kind() == ErrorKind::kFormat);
  }
  const auto short_of = failures_of(request_for_raw(folder, {"a.bin"}, {DType::kUInt8, {1}, 100}));
  CHECK(short_of.size() == 1);
}

TEST_CASE("raw files that change keep to what was said") {
  const TemporaryFolder folder;
  folder.write("a.bin", "abcd");
  FileIndexer::Request request = request_for_raw(folder, {"a.bin", "b.bin"}, {DType::kUInt8, {4}, 0});
  folder.write("b.bin", "efgh");
  request.known = index_of(request);
  folder.write("b.bin", "efghijkl");
  CHECK(failure_of(request).kind() == ErrorKind::kSchema);
}

// --- what the indexer and the source of rows share -------------------------------------------------------

TEST_CASE("an array is plain if its elements lie end to end in this machine's byte order") {
  const auto plain = [](DType dtype, const Numbers& shape, const Numbers& strides, bool swapped = false) {
    ArrayLayout array;
    array.dtype = dtype;
    array.shape = shape;
    array.strides = strides;
    array.byte_swapped = swapped;
    return is_plain(array);
  };
  CHECK(plain(DType::kFloat32, {}, {}));
  CHECK(plain(DType::kFloat32, {2, 3}, {12, 4}));
  CHECK(plain(DType::kFloat32, {1, 3, 1}, {999, 4, 0}));  // strides of a length of one mean nothing
  CHECK_FALSE(plain(DType::kFloat32, {2, 3}, {4, 8}));
  CHECK_FALSE(plain(DType::kFloat32, {2, 3}, {16, 4}));
  CHECK_FALSE(plain(DType::kFloat32, {3}, {0}));
  CHECK_FALSE(plain(DType::kFloat32, {2, 3}, {12, 4}, true));
  CHECK_FALSE(plain(DType::kComplex64, {}, {}, true));
  CHECK(plain(DType::kUInt8, {5}, {1}, true));
  ArrayLayout deflated;
  deflated.deflated = Deflated{};
  CHECK_FALSE(is_plain(deflated));
}

TEST_CASE("a buffered file reads like the file, below and above what is buffered") {
  const TemporaryFolder folder;
  for (const std::size_t size : std::vector<std::size_t>{0, 1, 1000, 32767, 32768, 32769, 100'000}) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 % 251);
    folder.write("x", text);
    const OpenFile file(folder.path("x"));
    const BufferedFile buffered(file);
    REQUIRE(buffered.size() == size);
    CHECK(as_text(buffered.read(0, size)) == text);
    for (const std::size_t at : {size / 2, size - std::min<std::size_t>(size, 1), size}) {
      CHECK(as_text(buffered.read(at, size - at)) == text.substr(at));
      CHECK(buffered.read(at, 0).empty());
      CHECK_THROWS_AS((void)buffered.read(at, size - at + 1), Error);
    }
    CHECK_THROWS_AS((void)buffered.read(size + 1, 0), Error);
    CHECK_THROWS_AS((void)buffered.read(1, UINT64_MAX), Error);
  }
}

TEST_CASE("a file that shrinks while it is read is an error") {
  const TemporaryFolder folder;
  folder.write("x", std::string(1000, 'x'));
  folder.write("y", std::string(100'000, 'y'));
  const OpenFile small(folder.path("x"));
  const OpenFile large(folder.path("y"));
  const BufferedFile buffered(large);
  for (const char* name : {"x", "y"}) REQUIRE(::truncate(folder.path(name).c_str(), 10) == 0);
  CHECK(error_from([&] { return BufferedFile(small).size(); }).kind() == ErrorKind::kShard);
  CHECK(error_from([&] { return buffered.read(0, 100); }).kind() == ErrorKind::kShard);
}

}  // namespace
// --- sequences -------------------------------------------------------------------------------------------

FileIndexer::Request request_for_sequences(const TemporaryFolder& folder, FileIndexer::Ragged ragged) {
  folder.write("a.npy", npy("<f4", "(3, 2)", 24));
  folder.write("b.npy", npy("<f4", "(0, 2)", 0));
  folder.write("c.npy", npy("<f4", "(5, 2)", 40));
  FileIndexer::Request request = request_for(folder, {"a.npy", "b.npy", "c.npy"});
  request.ragged = ragged;
  return request;
}

TEST_CASE("arrays that differ in their first dimension are sequences, if that is wanted or most of them do") {
  const TemporaryFolder folder;
  for (const auto ragged : {FileIndexer::Ragged::kIfAny, FileIndexer::Ragged::kIfMost}) {
    FileIndexer::Request request = request_for_sequences(folder, ragged);
    const auto index = index_of(request);
    CHECK(index->fields().front().is_ragged);
    CHECK(index->fields().front().shape == std::vector<std::int64_t>{2});
    CHECK(index->length(0, 0) == 3);
    CHECK(index->length(1, 0) == 0);
    CHECK(index->bytes(2, 0) == 40);
    CHECK(index->most_bytes(0) == 40);
    CHECK(index->array(2, 0).shape == std::vector<std::int64_t>{5, 2});
    request.known = index;
    folder.write_unnoticed("c.npy", 'x');
    CHECK(index_of(request)->same_files_as(*index));
  }
  CHECK(failures_of(request_for_sequences(folder, FileIndexer::Ragged::kNever)).size() == 2);
  folder.write("d.npy", npy("<f4", "(3, 2)", 24));
  FileIndexer::Request half = request_for_sequences(folder, FileIndexer::Ragged::kIfMost);
  for (const char* name : {"d.npy", "a.npy"}) half.names.add(name);
  const auto failures = failures_of(half);
  REQUIRE(failures.size() == 2);
  CHECK(failures.front().error.path() == folder.path("b.npy"));
  CHECK(contains(failures.front().error.needed(), "(3, 2) as in " + folder.path("a.npy")));
}

}  // namespace penstock
