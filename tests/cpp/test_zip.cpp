#include "formats/zip.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "recording_source.h"
#include "zip_writer.h"

namespace penstock {
namespace {

using namespace testing;

ZipDirectory directory_of(const std::string& file) {
  return parse_zip_directory(MemorySource(as_bytes(file)));
}

std::string refusal(const std::string& file) {
  return refusal_of([&] { directory_of(file); });
}

std::uint64_t data_offset(const std::string& file, std::size_t entry = 0) {
  const MemorySource source(as_bytes(file));
  const ZipDirectory directory = parse_zip_directory(source);
  return zip_data_offset(source, directory, directory.entries.at(entry));
}

std::string record_refusal(const std::string& file) {
  return refusal_of([&] { data_offset(file); });
}

ZipWriter two_records() {
  ZipWriter writer;
  writer.add("b/first", "hello", {.crc32 = 7, .local_extra = std::string("FB\2\0ZZ", 6)});
  writer.add("a/second", "");
  return writer;
}

TEST_CASE("a directory lists its records in order and finds them by name") {
  const std::string file = two_records().finish();
  const ZipDirectory directory = directory_of(file);
  REQUIRE(directory.entries.size() == 2);
  const ZipEntry& first = directory.entries[0];
  CHECK(first.name == "b/first");
  CHECK(first.method == 0);
  CHECK(first.crc32 == 7);
  CHECK(first.bytes == 5);
  CHECK(first.compressed_bytes == 5);
  CHECK_FALSE(first.encrypted);
  CHECK(directory.find("b/first") == &first);
  CHECK(directory.find("a/second") == &directory.entries[1]);
  CHECK(directory.find("a/secon") == nullptr);
  CHECK(directory.find("z") == nullptr);
  CHECK(file.substr(data_offset(file), 5) == "hello");
}

TEST_CASE("zip64 records and end records mean the same as plain ones") {
  ZipWriter writer;
  writer.add("a", "12345", {.zip64 = true}).add("b", "678");
  const std::string file = writer.finish({.zip64 = true});
  const ZipDirectory directory = directory_of(file);
  REQUIRE(directory.entries.size() == 2);
  CHECK(directory.entries[0].bytes == 5);
  CHECK(directory.directory_offset == writer.size());
  CHECK(file.substr(data_offset(file, 0), 5) == "12345");
  CHECK(file.substr(data_offset(file, 1), 3) == "678");
}

TEST_CASE("a comment, and up to 64 bytes of junk, may follow an archive") {
  const ZipWriter writer = two_records();
  CHECK(directory_of(writer.finish({.comment = std::string(65535, 'c')})).entries.size() == 2);
  CHECK(directory_of(writer.finish({.junk = std::string(64, 'j')})).entries.size() == 2);
  CHECK(contains(refusal(writer.finish({.junk = std::string(65, 'j')})), "no end"));
}

TEST_CASE("an empty archive has no records") {
  const ZipDirectory directory = directory_of(ZipWriter().finish());
  CHECK(directory.entries.empty());
  CHECK(directory.find("") == nullptr);
}

TEST_CASE("no byte of a record is read for the directory and its headers") {
  ZipWriter writer;
  writer.add("a", std::string(200'000, 'x')).add("b", std::string(200'000, 'y'));
  const RecordingSource source(writer.finish());
  const ZipDirectory directory = parse_zip_directory(source);
  for (const ZipEntry& entry : directory.entries) {
    CHECK_FALSE(source.was_read(zip_data_offset(source, directory, entry), entry.bytes));
  }
}

TEST_CASE("what is no archive, or its beginning alone, has no end") {
  const std::string file = two_records().finish({.zip64 = true});
  for (std::size_t bytes = 0; bytes < file.size(); ++bytes) {
    CHECK(contains(refusal(file.substr(0, bytes)), "no end"));
  }
  CHECK(contains(refusal(std::string(100'000, '\0')), "no end"));
}

TEST_CASE("a directory must lie inside the archive and be as large as its records") {
  const ZipWriter writer = two_records();
  CHECK(contains(refusal(writer.finish({.directory_offset = 1'000'000})), "does not lie inside"));
  CHECK(contains(refusal(writer.finish({.directory_bytes = 1'000'000})), "does not lie inside"));
  CHECK(contains(refusal(writer.finish({.entries = 40'000})), "too small"));
  CHECK(contains(refusal(writer.finish({.entries = 1})), "larger than its records"));
  CHECK(contains(refusal(writer.finish({.directory_offset = 0})), "bytes stand between"));
  CHECK(contains(refusal(writer.finish({.directory_offset = 1})), "bytes stand between"));
  CHECK(contains(refusal(writer.finish({.directory_bytes = 100})), "bytes stand between"));
  const std::uint64_t huge = ~std::uint64_t{0};
  CHECK(contains(refusal(writer.finish({.zip64 = true, .directory_offset = huge})), "does not lie inside"));
  CHECK(contains(refusal(writer.finish({.zip64 = true, .directory_bytes = huge})), "does not lie inside"));
  CHECK(contains(refusal(writer.finish({.zip64 = true, .entries = huge})), "too small"));
}

TEST_CASE("archives over several disks are refused") {
  CHECK(contains(refusal(two_records().finish({.disk = 1})), "split"));
}

TEST_CASE("the two end records must agree") {
  std::string file = two_records().finish({.zip64 = true});
  file[file.size() - 22 + 10] = 1;
  file[file.size() - 22 + 8] = 1;
  CHECK(contains(refusal(file), "contradict"));
}

TEST_CASE("a zip64 end record must be where its locator says") {
  const std::string file = two_records().finish({.zip64 = true});
  std::string elsewhere = file;
  elsewhere[file.size() - 22 - 12] = static_cast<char>(elsewhere[file.size() - 22 - 12] - 1);
  CHECK(contains(refusal(elsewhere), "no zip64 end record"));
  std::string outside = file;
  outside.replace(file.size() - 22 - 12, 8, le(~std::uint64_t{0}, 8));
  CHECK(contains(refusal(outside), "outside the archive"));
}

TEST_CASE("two records of one name are refused") {
  CHECK(contains(refusal(two_records().add("b/first", "x").finish()), "two records named b/first"));
}

TEST_CASE("names must be UTF-8 text without zeros") {
  for (const std::string& name : {std::string("\xff"), std::string("\xed\xa0\x80"), std::string("\xc0\x80"),
                                  std::string("\xe2\x82"), std::string("a\0b", 3)}) {
    CHECK(contains(refusal(ZipWriter().add(name, "").finish()), "UTF-8"));
  }
  const std::string name = "sp\xc3\xa4\xc3\x9f/\xe6\x97\xa5/\xf0\x9f\x98\x80";
  CHECK(directory_of(ZipWriter().add(name, "").finish()).entries[0].name == name);
}

TEST_CASE("a wide size without its zip64 field is refused") {
  CHECK(contains(refusal(ZipWriter().add("a", "x", {.bytes = 0xFFFFFFFF}).finish()), "lacks its zip64"));
}

TEST_CASE("a record's own header must match its entry") {
  CHECK(contains(record_refusal(ZipWriter().add("a", "x", {.local_name = "b"}).finish()), "another name"));
  CHECK(contains(record_refusal(ZipWriter().add("a", "x", {.local_name = "ab"}).finish()), "another name"));
  CHECK(contains(record_refusal(ZipWriter().add("a", "xxx", {.header_offset = 1}).finish()), "no header"));
  CHECK(contains(record_refusal(ZipWriter().add("a", "x", {.header_offset = 99}).finish()), "outside"));
  std::string file = ZipWriter().add("a", "x").finish();
  file[8] = 8;
  CHECK(contains(record_refusal(file), "compressed otherwise"));
}

TEST_CASE("a record must end before the directory begins") {
  CHECK(contains(record_refusal(ZipWriter().add("a", "x", {.compressed_bytes = 2}).finish()), "inside"));
  const std::uint64_t huge = ~std::uint64_t{0};
  const ZipWriter::Lies far_size = {.compressed_bytes = huge, .zip64 = true};
  CHECK(contains(record_refusal(ZipWriter().add("a", "x", far_size).finish()), "inside"));
  const ZipWriter::Lies far_header = {.header_offset = huge, .zip64 = true};
  CHECK(contains(record_refusal(ZipWriter().add("a", "x", far_header).finish()), "outside"));
}

TEST_CASE("encrypted records are marked") {
  CHECK(directory_of(ZipWriter().add("a", "x", {.flags = 1}).finish()).entries[0].encrypted);
}

TEST_CASE("any bytes give a directory in bounds or an error: zip") {
  const std::string plain = two_records().add("c", "12", {.zip64 = true}).finish({.comment = "comment"});
  const std::string wide = two_records().add("c", "12", {.zip64 = true}).finish({.zip64 = true});
  std::mt19937 random(1);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string file = damaged(i % 2 == 0 ? plain : wide, random);
    const MemorySource source(as_bytes(file));
    try {
      const ZipDirectory directory = parse_zip_directory(source);
      REQUIRE(directory.directory_offset <= file.size());
      for (const ZipEntry& entry : directory.entries) {
        const std::uint64_t at = zip_data_offset(source, directory, entry);
        REQUIRE(in_bounds(directory.directory_offset, at, entry.compressed_bytes));
      }
      ++accepted;
    } catch (const Error& error) {
      REQUIRE(error.kind() == ErrorKind::kFormat);
    }
  }
  CHECK(accepted > 100);
}

}  // namespace
}  // namespace penstock
