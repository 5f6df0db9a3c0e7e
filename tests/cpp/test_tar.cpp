#include "formats/tar.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "format_checks.h"
#include "index/tar_images.h"
#include "recording_source.h"
#include "tar_writer.h"

namespace penstock {
namespace {

using namespace testing;

const std::string& end() {
  static const std::string blocks(1024, '\0');
  return blocks;
}

/// All members; each in bounds.
std::vector<TarMember> members_of(std::string_view archive) {
  const MemorySource file(as_bytes(archive));
  TarReader reader(file);
  std::vector<TarMember> members;
  while (const auto member = reader.next()) {
    REQUIRE(in_bounds(archive.size(), member->offset, member->size));
    members.push_back(*member);
  }
  CHECK_FALSE(reader.next().has_value());
  return members;
}

Error error_of(std::string_view archive) {
  return error_from([&] { return members_of(archive); });
}

std::string content_of(std::string_view archive, const TarMember& member) {
  return std::string(archive.substr(member.offset, member.size));
}

const std::vector<std::string>& suffixes() {
  static const std::vector<std::string> all{".jpg", ".png"};
  return all;
}

TarImages images_of(std::string_view archive) {
  return read_tar_images(MemorySource(as_bytes(archive)), suffixes());
}

TEST_CASE("members of a tar archive") {
  const std::string archive = tar_member("a.txt", "hello") + tar_member("folder/", "", '5') +
                              tar_member("folder/b", std::string(512, 'b')) + tar_member("old/", "", '\0') +
                              tar_member("l", "", '2') + tar_member("V", "label", 'V') +
                              tar_member("seven", "7", '7') + tar_member("none", "") + end();
  const auto members = members_of(archive);
  REQUIRE(members.size() == 5);
  CHECK(members[0].name == "a.txt");
  CHECK(content_of(archive, members[0]) == "hello");
  CHECK(members[1].name == "folder/b");
  CHECK(members[1].size == 512);
  CHECK(members[2].is_link);
  CHECK(content_of(archive, members[3]) == "7");
  CHECK(members[4].size == 0);
  CHECK(members_of(archive.substr(0, archive.size() - 1024)).size() == 5);
  CHECK(members_of(end()).empty());
  CHECK(members_of(tar_member("a", "1") + std::string(512, '\0') + tar_member("b", "2")).size() == 1);
}

TEST_CASE("names and sizes from elsewhere") {
  const std::string long_name(300, 'n');
  const std::string archive =
      tar_member("././@LongLink", std::string(long_name).append(1, '\0'), 'L') + tar_member("cut", "1") +
      tar_member("pax", pax_record("path", long_name + "x") + pax_record("size", "3"), 'x') +
      tar_header("p", octal(7, 11)) + "abc" + std::string(509, '\0') +
      tar_member("g", pax_record("path", "all"), 'g') + tar_member("q", "2") + tar_member("r", "3") +
      tar_member("k", "a link's name", 'K') + tar_member("s", "", '2') + end();
  const auto members = members_of(archive);
  REQUIRE(members.size() == 5);
  CHECK(members[0].name == long_name);
  CHECK(members[1].name == long_name + "x");
  CHECK(content_of(archive, members[1]) == "abc");
  CHECK(members[2].name == "all");
  CHECK(members[3].name == "all");
  CHECK(members[4].is_link);
}

TEST_CASE("archives that cannot be read say why and where") {
  CHECK(error_of("").problem() == "the archive is cut short");
  CHECK(error_of(std::string(600, 'x')).problem() == "this is no tar archive");
  CHECK(error_of("\x1f\x8b" + std::string(600, 'x')).problem() == "the archive is compressed");
  const std::string member = tar_member("a", "1");
  const Error damaged = error_of(member + std::string(512, 'x'));
  CHECK(damaged.problem() == "a header of the archive is damaged");
  CHECK(damaged.offset() == 1024);
  const Error cut = error_of(tar_header("a", octal(512, 11)) + "x");
  CHECK(cut.problem() == "member 'a': the archive is cut short");
  CHECK(cut.found() == "1 byte");
  CHECK(contains(error_of(tar_header("a", octal((std::uint64_t{1} << 33U) - 1, 11))).problem(), "cut short"));
  CHECK(contains(error_of(tar_header("a", "\x80" + std::string(11, '\xff'))).problem(), "impossible size"));
  CHECK(contains(error_of(tar_header("a", "999")).problem(), "impossible size"));
  CHECK(contains(error_of(tar_member("a", "", 'S')).problem(), "holes"));
  const std::string sparse = tar_member("pax", pax_record("GNU.sparse.major", "1"), 'x');
  CHECK(contains(error_of(sparse + member).problem(), "holes"));
  CHECK(contains(error_of(tar_member("pax", "12 path=x\n", 'x') + member).problem(), "(pax) are damaged"));
  CHECK(contains(error_of(tar_member("pax", pax_record("size", "x"), 'x') + member).problem(), "(pax)"));
  CHECK(contains(error_of(tar_member("pax", pax_record("path", "x"), 'x') + end()).problem(), "cut short"));
  const std::string much = tar_member("pax", std::string((1U << 20U) + 1, ' '), 'x');
  CHECK(contains(error_of(much).problem(), "too long"));
}

TEST_CASE("contents of files are not read") {
  const std::string archive =
      tar_member("a.jpg", std::string(100'000, 'x')) + tar_member("a.cls", "3") + end();
  const RecordingSource file(archive);
  const TarImages found = read_tar_images(file, suffixes());
  CHECK(found.labels == std::vector<std::int64_t>{3});
  CHECK_FALSE(file.was_read(512, 100'000));
}

TEST_CASE("samples of images") {
  const std::string archive = tar_member("x/a.cls", " 5\n") + tar_member("x/a.jpg", "A") +
                              tar_member("x/a.json", "{}") + tar_member("x/b.seg.png", "no") +
                              tar_member("x/b.PNG", "B") + tar_member("notes.txt", "") +
                              tar_member("x/a.jpg", "C") + tar_member(".d.jpg", "hidden") + end();
  const TarImages found = images_of(archive);
  REQUIRE(found.names.size() == 3);
  CHECK(found.names[1] == "x/b.PNG");
  CHECK(found.sizes == std::vector<std::uint64_t>{1, 1, 1});
  CHECK(found.labels == std::vector<std::int64_t>{5, 0, 0});
  CHECK(found.has_labels == std::vector<std::uint8_t>{1, 0, 0});
  CHECK(archive[found.offsets[2]] == 'C');
}

TEST_CASE("images whose names have dots") {
  const std::string archive = tar_member("b.2.cls", "7") + tar_member("b.2.png", "A") +
                              tar_member("b.3.JPG", "B") + tar_member("b.json", "{}") +
                              tar_member("x.1/v1.0_x.png", "C") + tar_member("c.seg.png", "no") +
                              tar_member("c.1.cls", "not read") + tar_member("c.jpg", "D") + end();
  const TarImages found = images_of(archive);
  REQUIRE(found.names.size() == 4);
  CHECK(found.names[0] == "b.2.png");
  CHECK(found.names[1] == "b.3.JPG");
  CHECK(found.names[2] == "x.1/v1.0_x.png");
  CHECK(found.names[3] == "c.jpg");
  CHECK(found.labels == std::vector<std::int64_t>{7, 0, 0, 0});
  CHECK(found.has_labels == std::vector<std::uint8_t>{1, 0, 0, 0});
}

TEST_CASE("any bytes give members in bounds or an error") {
  const std::string good =
      tar_member("././@LongLink", "name.jpg", 'L') + tar_member("a.jpg", std::string(700, 'a')) +
      tar_member("pax", pax_record("path", "b.jpg") + pax_record("size", "5"), 'x') +
      tar_member("b", "bbbbb") + tar_member("b.cls", "1") + tar_member("g", pax_record("comment", "x"), 'g') +
      tar_member("c.png", "c") + end();
  std::mt19937_64 random(1);
  const auto upto = [&random](std::size_t most) { return static_cast<std::size_t>(random() % (most + 1)); };
  int accepted = 0;
  for (int i = 0; i < 30'000; ++i) {
    std::string archive = good.substr(0, i % 3 == 0 ? upto(good.size()) : good.size());
    for (std::size_t changes = upto(3); changes > 0 && !archive.empty(); --changes) {
      archive[upto(archive.size() - 1)] = static_cast<char>(random());
    }
    for (std::size_t at = 0; i % 2 == 0 && at + 512 <= archive.size(); at += 512) {
      if (archive.compare(at + 257, 5, "ustar") == 0)
        archive.replace(at, 512, summed(archive.substr(at, 512)));
    }
    try {
      (void)members_of(archive);
      const TarImages found = images_of(archive);
      for (std::size_t k = 0; k < found.sizes.size(); ++k) {
        REQUIRE(in_bounds(archive.size(), found.offsets[k], found.sizes[k]));
      }
      ++accepted;
    } catch (const Error& error) {
      REQUIRE(error.kind() == ErrorKind::kFormat);
      REQUIRE_FALSE(error.problem().empty());
    }
  }
  CHECK(accepted > 1000);
}

}  // namespace
}  // namespace penstock
