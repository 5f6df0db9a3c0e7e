#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "format_checks.h"
#include "formats/detect.h"
#include "recording_source.h"
#include "zip_writer.h"

using namespace penstock;
using namespace penstock::testing;
using namespace std::string_literals;

namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

/// An archive of stored records.
std::string zip_of(const Records& records) {
  ZipWriter writer;
  for (const auto& [name, bytes] : records) writer.add(name, bytes, {.crc32 = checksum_of(bytes)});
  return writer.finish();
}

std::string npy(const std::string& data) {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
  return "\x93NUMPY\1\0"s + le(header.size(), 2) + header + data;
}

/// What torch.save writes for torch.zeros(2).
const std::string kPickle =
    "\x80\x02"
    "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
    "0X\x03\0\0\0cpuK\x02tQK\0K\x02\x85K\x01\x85\x89"
    "ccollections\nOrderedDict\n)RtR."s;

const std::string kSafetensors =
    le(60, 8) + R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})" + std::string(7, ' ') + "12345678";

FileLayout parse(std::string_view file) { return parse_file(MemorySource(as_bytes(file))); }

Error error_of(std::string_view file) {
  return error_from([&] { return parse(file); });
}

}  // namespace

TEST_CASE("files are recognised by what is in them") {
  CHECK(parse(npy("12345678")).format == "npy");
  CHECK(parse(kSafetensors).format == "safetensors");
  CHECK(parse(zip_of({{"a.npy", npy("12345678")}})).format == "npz");
  const FileLayout torch =
      parse(zip_of({{"m/data.pkl", kPickle}, {"m/byteorder", "little"}, {"m/data/0", "12345678"}}));
  CHECK(torch.format == "torch");
  REQUIRE(torch.arrays.size() == 1);
  CHECK(torch.arrays[0].shape == Numbers{2});
}

TEST_CASE("no byte of the data is read to recognise and parse a file") {
  for (const std::string& file : {npy("12345678"), kSafetensors}) {
    const RecordingSource source(file);
    (void)parse_file(source);
    CHECK(source.furthest() == file.size() - 8);
  }
}

TEST_CASE("an archive that is neither of torch nor of numpy is refused with what is in it") {
  const Error error = error_of(zip_of({{"word/document.xml", "<a/>"}, {"b", ""}}));
  CHECK(error.kind() == ErrorKind::kFormat);
  CHECK(error.found() == "'word/document.xml', 'b'");
  CHECK(error_of(zip_of({{"a", ""}, {"b", ""}, {"c", ""}, {"d", ""}, {"e", ""}, {"f", ""}, {"g", ""}}))
            .found() == "'a', 'b', 'c', 'd', 'e' and 2 more");
  CHECK(error_of(zip_of({})).found() == "no records at all");
}

TEST_CASE("archives of TorchScript and torch.export go to the parser that refuses them by name") {
  for (const std::string record : {"m/constants.pkl", "m/archive_format"}) {
    CHECK(error_of(zip_of({{record, "x"}})).found().find("'m/") == std::string::npos);
  }
}

TEST_CASE("a broken file of ours is told as that and not as unknown") {
  CHECK(error_of(npy("1234567")).problem() == "the data is cut short");
  CHECK(error_of(le(1000, 8) + "{\"a\":").problem() == "the header is cut short");
  CHECK(error_of(le(200'000'000, 8) + "{\"a\":").problem() == "the header is too long");
  CHECK(error_of(le(4, 8) + "  {}").problem() == "the header does not begin with '{'");
  const std::string archive = zip_of({{"a.npy", npy("12345678")}});
  CHECK(error_of(archive.substr(0, archive.size() - 30)).kind() == ErrorKind::kFormat);
}

TEST_CASE("files of others are named, with what to do") {
  struct Case {
    std::string bytes;
    std::string problem;
    std::string hint;
  };
  const std::string tar = "data.txt" + std::string(249, '\0') + "ustar" + std::string(250, '\0');
  const std::vector<Case> cases = {
      {"", "empty", "again"},
      {std::string(4, '\0'), "nothing but zeros", "again"},
      {std::string(4096, '\0'), "nothing but zeros", "again"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs", "git lfs pull"},
      {"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02", "legacy",
       "Re-save it with torch.save"},
      {"\x80\x02}q\0."s, "never executes", "Convert"},
      {"\x80\x05\x95\0\0\0"s, "never executes", "Convert"},
      {"\x89HDF\r\n\x1a\n\0\0"s, "HDF5", "Convert"},
      {"\x1f\x8b\x08\0\0\0"s, "gzip", "Decompress"},
      {"\x28\xb5\x2f\xfd\x04\0"s, "zstd", "Decompress"},
      {tar, "tar", "ImageDataset"},
      {"PAR1\x15\x04"s, "Parquet", "Convert"},
      {"ARROW1\0\0"s, "Arrow", "Convert"},
      {"\xff\xd8\xff\xe0\0\x10JFIF"s, "JPEG", "Decode"},
      {"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"s, "PNG", "Decode"},
      {"\n<!DOCTYPE HTML>\n<html>", "HTML", "Download"},
      {"<html><body>404</body></html>", "HTML", "Download"},
      {"{\"data\": [1, 2, 3], \"more\": {}}", "JSON", ""},
      {"  [1, 2, 3, 4, 5, 6, 7, 8, 9]", "JSON", ""},
      {"1,2,3\n4,5,6\n", "text", ""},
      {"\x01\x02\x03\x04\x05", "no format that Penstock reads", "raw"},
      {std::string(3000, '\xfe'), "no format that Penstock reads", "raw"},
  };
  for (const Case& each : cases) {
    CAPTURE(each.problem);
    const Error error = error_of(each.bytes);
    CHECK(error.kind() == ErrorKind::kFormat);
    CHECK(error.problem().find(each.problem) != std::string::npos);
    CHECK(error.hint().find(each.hint) != std::string::npos);
  }
}

TEST_CASE("messages about foreign bytes are plain text") {
  const Error error = error_of("\x01\xff\xfe'\n\t\x80\x90");
  CHECK(error.found() == "a file that begins with '\\x01\\xff\\xfe'\\x0a\\x09\\x80\\x90'");
}

TEST_CASE("a file of any format cut anywhere is refused") {
  for (const std::string& file : {npy("12345678"), kSafetensors, zip_of({{"a.npy", npy("12345678")}}),
                                  zip_of({{"m/data.pkl", kPickle}, {"m/data/0", "12345678"}})}) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      CAPTURE(size);
      CHECK_THROWS_AS(parse(std::string_view(file).substr(0, size)), Error);
    }
  }
}

TEST_CASE("any bytes in a file of any format give a layout in bounds or an error") {
  std::mt19937_64 random(20240609);
  const std::vector<std::string> seeds = {npy("12345678"), kSafetensors, zip_of({{"a.npy", npy("12345678")}}),
                                          zip_of({{"m/data.pkl", kPickle}, {"m/data/0", "12345678"}})};
  for (int round = 0; round < 20'000; ++round) {
    std::string file = seeds[random() % seeds.size()];
    for (std::uint64_t change = random() % 3 + 1; change > 0; --change) {
      file[random() % file.size()] = static_cast<char>(random());
    }
    (void)accepts_soundly([&] { return parse(file); }, file.size());
  }
}
