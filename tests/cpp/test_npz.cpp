#include "formats/npz.h"

#include <doctest/doctest.h>

#include <random>
#include <string>

#include "recording_source.h"
#include "zip_writer.h"

namespace penstock {
namespace {

using namespace testing;

FileLayout layout_of(const ByteSource& source) { return parse_npz(source, parse_zip_directory(source)); }

FileLayout layout_of(const std::string& file) { return layout_of(MemorySource(as_bytes(file))); }

std::string refusal(const std::string& file) {
  return refusal_of([&] { layout_of(file); });
}

std::string npy(const std::string& descr, const std::string& shape, std::size_t data_bytes) {
  std::string header = "{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + ", }";
  header.append(117 - header.size(), ' ');
  header += '\n';
  return std::string("\x93NUMPY\1\0", 8) + le(header.size(), 2) + header + std::string(data_bytes, 'd');
}

const std::string kFloats = npy("'<f4'", "(2, 3)", 24);

/// A deflate stream of stored blocks, so that no test needs a compressor.
std::string deflate(const std::string& data) {
  return std::string("\1") + le(data.size(), 2) + le(data.size() ^ 0xFFFFU, 2) + data;
}

ZipWriter::Lies deflated(const std::string& data) {
  return {.method = 8, .crc32 = 0x12345678, .bytes = data.size()};
}

TEST_CASE("a stored entry lies where it is in the archive") {
  const std::string file = ZipWriter().add("readme.txt", "hello").add("x.npy", kFloats).finish();
  const FileLayout layout = layout_of(file);
  CHECK(layout.format == "npz");
  CHECK(layout.container == Container::kMapping);
  REQUIRE(layout.arrays.size() == 1);
  const ArrayLayout& x = layout.arrays[0];
  CHECK(x.name == "x");
  CHECK(x.dtype == DType::kFloat32);
  CHECK(x.shape == std::vector<std::int64_t>{2, 3});
  CHECK(x.strides == std::vector<std::int64_t>{12, 4});
  CHECK_FALSE(x.deflated.has_value());
  CHECK(x.offset == file.find(std::string(24, 'd')));
  check_in_bounds(layout, file.size());
}

TEST_CASE("no element of a stored entry is read") {
  const RecordingSource source(ZipWriter().add("x.npy", npy("'|u1'", "(100000,)", 100'000)).finish());
  const FileLayout layout = layout_of(source);
  CHECK_FALSE(source.was_read(layout.arrays.at(0).offset, 100'000));
}

TEST_CASE("a deflated entry carries its stream and an offset into what it inflates to") {
  if (!has_zlib()) return;
  const std::string data = deflate(kFloats);
  const std::string file = ZipWriter().add("x.npy", data, deflated(kFloats)).finish();
  const ArrayLayout x = layout_of(file).arrays.at(0);
  const Deflated expected = {.offset = file.find(data),
                             .compressed_bytes = data.size(),
                             .inflated_bytes = kFloats.size(),
                             .crc32 = 0x12345678};
  CHECK(x.deflated == expected);
  CHECK(x.offset == kFloats.size() - 24);
}

TEST_CASE("only the beginning of a deflated entry is read") {
  if (!has_zlib()) return;
  const std::string array = npy("'|u1'", "(65000,)", 65'000);
  const std::string data = deflate(array);
  const std::string file = ZipWriter().add("x.npy", data, deflated(array)).finish();
  const RecordingSource source(file);
  const ArrayLayout x = layout_of(source).arrays.at(0);
  CHECK(x.shape == std::vector<std::int64_t>{65'000});
  CHECK_FALSE(source.was_read(x.deflated->offset + 32'768, data.size() - 32'768));
}

TEST_CASE("the fields of a structured entry are arrays of their own") {
  const std::string records = npy("[('p', '<f4', (2,)), ('q', '>i2')]", "(3,)", 30);
  const FileLayout layout = layout_of(ZipWriter().add("s.npy", records).add("x.npy", kFloats).finish());
  REQUIRE(layout.arrays.size() == 3);
  CHECK(layout.arrays[0].name == "s.p");
  CHECK(layout.arrays[1].name == "s.q");
  CHECK(layout.arrays[1].byte_swapped);
  CHECK(layout.arrays[1].offset == layout.arrays[0].offset + 8);
  CHECK(layout.arrays[2].name == "x");
}

TEST_CASE("entries torch cannot hold are listed as refused and spare the others") {
  const FileLayout layout = layout_of(ZipWriter()
                                          .add("o.npy", npy("'|O'", "(1,)", 8))
                                          .add("u.npy", npy("'<U2'", "(1,)", 8))
                                          .add("x.npy", kFloats)
                                          .finish());
  REQUIRE(layout.refused.size() == 2);
  CHECK(layout.refused[0].name == "o");
  CHECK(layout.refused[1].name == "u");
  CHECK_FALSE(layout.refused[0].reason.empty());
  CHECK(layout.arrays.size() == 1);
}

TEST_CASE("an error names its entry and the place in the file") {
  const std::string file = ZipWriter().add("x.npy", kFloats).add("bad.npy", "no array").finish();
  try {
    layout_of(file);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kFormat);
    CHECK(error.field() == "bad");
    if (error.offset()) CHECK(*error.offset() >= file.find("no array"));
  }
}

TEST_CASE("an entry may not reach into the next one") {
  const std::string file =
      ZipWriter().add("x.npy", npy("'<f4'", "(2, 3)", 20)).add("y.npy", kFloats).finish();
  CHECK(contains(refusal(file), "cut short"));
}

TEST_CASE("encrypted, unknown and contradictory entries are refused") {
  const auto refusal_with = [](const ZipWriter::Lies& lies) {
    return refusal(ZipWriter().add("x.npy", kFloats, lies).finish());
  };
  CHECK(contains(refusal_with({.flags = 1}), "encrypted"));
  CHECK(contains(refusal_with({.method = 12}), "method"));
  CHECK(contains(refusal_with({.bytes = kFloats.size() + 1}), "two sizes"));
  CHECK(contains(refusal_with({.bytes = kFloats.size() - 1}), "two sizes"));
}

TEST_CASE("a compression that deflate cannot reach is refused before anything is inflated") {
  const ZipWriter::Lies bomb = {.method = 8, .bytes = std::uint64_t{1} << 40U, .zip64 = true};
  CHECK(contains(refusal(ZipWriter().add("x.npy", deflate(kFloats), bomb).finish()), "cannot reach"));
  const ZipWriter::Lies nothing = {.method = 8, .bytes = 1};
  CHECK(contains(refusal(ZipWriter().add("x.npy", "", nothing).finish()), "cannot reach"));
}

TEST_CASE("a deflate stream that is broken or too short is refused") {
  if (!has_zlib()) return;
  const auto with = [](const std::string& stream) {
    return refusal(ZipWriter().add("x.npy", stream, deflated(kFloats)).finish());
  };
  CHECK(contains(with("\7garbage of some length"), "no deflate stream"));
  CHECK(contains(with(deflate(kFloats.substr(0, 100))), "less than"));
  CHECK(contains(with(deflate(kFloats).substr(0, 50)), "less than"));
}

TEST_CASE("entries that overlap are refused") {
  const std::string inner = "PK\3\4" + le(0, 22) + le(5, 2) + le(0, 2) + "b.npy" + kFloats;
  const std::string array = npy("'|u1'", "(" + std::to_string(inner.size()) + ",)", 0) + inner;
  ZipWriter writer;
  const std::uint64_t begin = array.size() - inner.size() + 35;  // of inner: behind a header of a.npy
  writer.add("a.npy", array);
  writer.add("b.npy", "",
             {.bytes = kFloats.size(), .compressed_bytes = kFloats.size(), .header_offset = begin});
  CHECK(contains(refusal(writer.finish()), "a.npy and b.npy overlap"));
  CHECK(contains(refusal(writer.add("c.npy", kFloats).finish()), "overlap"));
}

TEST_CASE("two arrays of one name, or none at all, are refused") {
  const std::string records = npy("[('p', '<f4')]", "(3,)", 12);
  CHECK(contains(refusal(ZipWriter().add("s.npy", records).add("s.p.npy", kFloats).finish()), "same name"));
  CHECK(contains(refusal(ZipWriter().add("readme.txt", "hello").finish()), "no .npy entry"));
}

TEST_CASE("any bytes give a layout in bounds or an error: npz") {
  const std::string valid = ZipWriter()
                                .add("x.npy", kFloats)
                                .add("s.npy", npy("[('p', '<f4', (2,)), ('q', '>i2')]", "(3,)", 30))
                                .add("z.npy", deflate(kFloats), deflated(kFloats))
                                .finish({.zip64 = true});
  std::mt19937 random(2);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::string file = damaged(valid, random);
    accepted += accepts_soundly([&] { return layout_of(file); }, file.size()) ? 1 : 0;
  }
  CHECK((accepted > 100 || !has_zlib()));
}

}  // namespace
}  // namespace penstock
