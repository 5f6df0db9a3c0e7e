#include "index/file_index.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/checksum.h"
#include "format_checks.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using namespace testing;
using Names = std::vector<std::string>;

// Where the header's numbers lie: file_index.cpp.
constexpr std::size_t kByteOrderAt = 8;
constexpr std::size_t kVersionAt = 12;
constexpr std::size_t kImageBytesAt = 16;
constexpr std::size_t kChecksumAt = 24;
constexpr std::size_t kFilesAt = 32;
constexpr std::size_t kFieldsAt = 48;
constexpr std::size_t kFieldBytesAt = 56;
constexpr std::size_t kContainerAt = 96;
constexpr std::size_t kHeaderBytes = 104;

Strings strings_of(const Names& names) {
  Strings strings;
  for (const std::string& name : names) strings.add(name);
  return strings;
}

FileIndex::Parts sample_parts() {
  FileIndex::Parts parts;
  parts.root = "/data/set";
  parts.recipe = "as asked";
  parts.container = Container::kMapping;
  parts.fields = {{"image", DType::kUInt8, {3, 4}, 12}, {"y", DType::kFloat32, {}, 4}};
  parts.names = strings_of({"a.npz", "b/c.npz", "d.npz"});
  parts.stamps = {{100, 11}, {200, -22}, {300, 33}};
  parts.offsets = {64, 76, FileIndex::kElsewhere, 80, 128, FileIndex::kElsewhere};
  parts.folders = strings_of({"", "b"});
  parts.changed = {55, 66};
  return parts;
}

std::string image_of(const FileIndex& index) { return std::string(as_text(index.image().bytes())); }

const std::string& sample_image() {
  static const std::string kImage = image_of(*FileIndex::make(sample_parts()));
  return kImage;
}

std::shared_ptr<FileIndex> open(const std::string& image) {
  auto memory = std::make_shared<SharedMemory>(image.size(), SharedMemory::With::kChildren);
  std::copy(image.begin(), image.end(), reinterpret_cast<char*>(memory->data()));
  return std::make_shared<FileIndex>(std::move(memory));
}

constexpr std::string_view kMagic = "PENSTIDX";

/// Whether the image claims to be one at all.
bool claims_to_be_one(const std::string& image) {
  return image.substr(0, kMagic.size()) == kMagic.substr(0, image.size());
}

/// What was said when it was refused; "accepted" when it was not.
std::string refusal(const std::string& image) {
  try {
    (void)open(image);
  } catch (const Error& error) {
    REQUIRE(error.kind() == (claims_to_be_one(image) ? ErrorKind::kFormat : ErrorKind::kArgument));
    return error.problem();
  }
  return "accepted";
}

std::uint64_t number_at(const std::string& image, std::size_t at) {
  return load_le<std::uint64_t>(as_bytes(image), at);
}

void put(std::string& image, std::size_t at, std::uint64_t number) {
  std::memcpy(image.data() + at, &number, sizeof(number));
}

/// The image with the length and checksum that it should have.
std::string sealed(std::string image) {
  put(image, kImageBytesAt, image.size());
  put(image, kChecksumAt, 0);
  const Bytes bytes = as_bytes(image);
  put(image, kChecksumAt, checksum(bytes.first(kHeaderBytes)) ^ checksum(bytes.subspan(kHeaderBytes)));
  return image;
}

/// The sample with another number in it, and a checksum that is right.
std::string with(std::size_t at, std::uint64_t number) {
  std::string image = sample_image();
  put(image, at, number);
  return sealed(std::move(image));
}

/// The sample with these fields, whatever they say.
std::string with_fields(const std::string& text, std::uint64_t count) {
  std::string image = sample_image();
  const std::size_t before = kHeaderBytes + 3 * 16 + 6 * 8 + 3 * 8 + 2 * 8 + 2 * 8;
  const std::size_t now = (number_at(image, kFieldBytesAt) + 7) / 8 * 8;
  image.replace(before, now, text + std::string((8 - text.size() % 8) % 8, '\0'));
  put(image, kFieldBytesAt, text.size());
  put(image, kFieldsAt, count);
  return sealed(std::move(image));
}

std::string field_text(const std::string& name, std::uint64_t dtype,
                       const std::vector<std::uint64_t>& shape) {
  std::string text = le(name.size(), 8) + name + le(dtype, 8) + le(shape.size(), 8);
  for (const std::uint64_t length : shape) text += le(length, 8);
  return text + le(0, 8);  // not ragged
}

void require_inside(const SharedMemory& memory, const void* data, std::size_t bytes) {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  REQUIRE(at >= begin);
  REQUIRE(in_bounds(memory.size(), at - begin, bytes));
}

/// Whatever an index says lies inside its image, and where it should.
void require_sound(const FileIndex& index) {
  const std::size_t fields = index.fields().size();
  for (std::int64_t file = 0; file < index.num_files(); ++file) {
    const std::string_view name = index.name(file);
    require_inside(index.image(), name.data(), name.size());
    REQUIRE(index.path(file) == index.root() + "/" + std::string(name));
    require_inside(index.image(), &index.stamp(file), sizeof(FileStamp));
    REQUIRE(reinterpret_cast<std::uintptr_t>(&index.stamp(file)) % alignof(FileStamp) == 0);
    for (std::size_t field = 0; field < fields; ++field) (void)index.offset(file, field);
    (void)index.find(name);
  }
  for (const FileField& field : index.fields()) {
    REQUIRE(field.bytes >= 0);
    REQUIRE(dtype_from_name(dtype_name(field.dtype)) == field.dtype);
    REQUIRE(std::ranges::all_of(field.shape, [](std::int64_t length) { return length >= 0; }));
  }
  (void)index.find("no such name");
  (void)index.is_current();
  REQUIRE(index.same_files_as(index));
}

/// Whether an image of any bytes is accepted. Checks that it is sound or refused as what it is.
bool accepts(const std::string& image) {
  std::shared_ptr<FileIndex> index;
  try {
    index = open(image);
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::kFormat);
    REQUIRE_FALSE(error.problem().empty());
    return false;
  }
  require_sound(*index);
  return true;
}

void require_is_sample(const FileIndex& index) {
  const FileIndex::Parts parts = sample_parts();
  REQUIRE(index.num_files() == 3);
  CHECK(index.root() == parts.root);
  CHECK(index.recipe() == parts.recipe);
  CHECK(index.container() == parts.container);
  REQUIRE(index.fields().size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(index.fields()[i].name == parts.fields[i].name);
    CHECK(index.fields()[i].dtype == parts.fields[i].dtype);
    CHECK(index.fields()[i].shape == parts.fields[i].shape);
    CHECK(index.fields()[i].bytes == parts.fields[i].bytes);
  }
  for (std::size_t file = 0; file < 3; ++file) {
    const auto number = static_cast<std::int64_t>(file);
    CHECK(index.name(number) == parts.names[file]);
    CHECK(index.path(number) == "/data/set/" + std::string(parts.names[file]));
    CHECK(index.stamp(number) == parts.stamps[file]);
    for (std::size_t i = 0; i < 2; ++i) CHECK(index.offset(number, i) == parts.offsets[2 * file + i]);
  }
}

TEST_CASE("an index says what it was made of, and so does one that is opened from its image") {
  const auto made = FileIndex::make(sample_parts());
  require_is_sample(*made);
  const auto opened = open(image_of(*made));
  require_is_sample(*opened);
  require_sound(*opened);
  CHECK(opened->fingerprint() == made->fingerprint());
  CHECK(image_of(*opened) == image_of(*made));
  CHECK(sealed(sample_image()) == sample_image());  // what the tests below rely on
}

TEST_CASE("the same parts make the same image; any other part makes another fingerprint") {
  const std::uint64_t fingerprint = FileIndex::make(sample_parts())->fingerprint();
  CHECK(FileIndex::make(sample_parts())->fingerprint() == fingerprint);
  const auto differs = [&](const auto& change) {
    FileIndex::Parts parts = sample_parts();
    change(parts);
    const auto index = FileIndex::make(parts);
    require_sound(*index);
    return index->fingerprint() != fingerprint;
  };
  CHECK(differs([](auto& parts) { parts.root += "/"; }));
  CHECK(differs([](auto& parts) { parts.recipe = ""; }));
  CHECK(differs([](auto& parts) { parts.container = Container::kSequence; }));
  CHECK(differs([](auto& parts) { parts.fields[0].name = "imago"; }));
  CHECK(differs([](auto& parts) { parts.fields[0].dtype = DType::kInt8; }));
  CHECK(differs([](auto& parts) { parts.fields[0].shape = {4, 3}; }));
  CHECK(differs([](auto& parts) { parts.names = strings_of({"a.npz", "b", "d.npz/c.npz"}); }));
  CHECK(differs([](auto& parts) { ++parts.stamps[2].mtime_ns; }));
  CHECK(differs([](auto& parts) { parts.offsets[1] = 77; }));
  CHECK(differs([](auto& parts) { parts.changed[0] = 0; }));
  CHECK(differs([](auto& parts) { parts.folders = strings_of({"", "c"}); }));
}

TEST_CASE("texts of any length leave every section where it can be read") {
  for (std::size_t length = 0; length < 18; ++length) {
    FileIndex::Parts parts = sample_parts();
    parts.root = std::string(length, 'r');
    parts.recipe = std::string((length * 7) % 13, '\n');
    parts.fields[0].name = std::string((length * 5) % 11, '\0');
    parts.names = strings_of({std::string(length, 'a'), "b", std::string((length * 3) % 10, 'c')});
    const auto index = open(image_of(*FileIndex::make(parts)));
    require_sound(*index);
    CHECK(index->image().size() % 8 == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(index->image().data()) % 8 == 0);
    CHECK(index->root() == parts.root);
    CHECK(index->recipe() == parts.recipe);
    CHECK(index->fields()[0].name == parts.fields[0].name);
    for (std::size_t i = 0; i < 3; ++i) CHECK(index->name(static_cast<std::int64_t>(i)) == parts.names[i]);
    CHECK(index->stamp(2) == parts.stamps[2]);
    CHECK(index->offset(2, 0) == 128);
  }
}

TEST_CASE("an index of no files, folders or texts is one too") {
  FileIndex::Parts parts;
  parts.fields = {{"data", DType::kUInt8, {}, 1}};
  const auto index = open(image_of(*FileIndex::make(parts)));
  require_sound(*index);
  CHECK(index->num_files() == 0);
  CHECK_FALSE(index->find("").has_value());
  CHECK_FALSE(index->is_current());
}

TEST_CASE("every name is found, and nothing between, before or after them") {
  FileIndex::Parts parts;
  Names names;
  for (int i = 0; i < 1000; ++i) names.push_back(std::to_string(i * 2));
  names.emplace_back("\xff\n");
  std::sort(names.begin(), names.end());
  parts.fields = {{"data", DType::kUInt8, {}, 1}};
  parts.names = strings_of(names);
  parts.stamps.resize(names.size(), {1, 0});
  parts.offsets.resize(names.size());
  const auto index = FileIndex::make(parts);
  for (std::size_t i = 0; i < names.size(); ++i) {
    CHECK(index->find(names[i]) == static_cast<std::int64_t>(i));
  }
  for (const char* name : {"", "1", "3", "1999", "2000", "99", "0 ", "\xff", "\xff\n\n"}) {
    CHECK_FALSE(index->find(name).has_value());
  }
}

TEST_CASE("a selection is an index of these files, in their order, and of no folder") {
  FileIndex::Parts parts = sample_parts();
  parts.fields[1].is_ragged = true;
  parts.lengths = {1, 3, 1, 5, 1, 0};
  const auto whole = FileIndex::make(parts);
  const std::vector<std::int64_t> files = {2, 0, 2};
  const auto some = open(image_of(*whole->select(files)));
  REQUIRE(some->num_files() == 3);
  CHECK(some->root() == whole->root());
  CHECK(some->recipe() == whole->recipe());
  CHECK(some->container() == whole->container());
  CHECK(std::ranges::equal(some->fields(), whole->fields()));
  for (std::int64_t i = 0; i < 3; ++i) {
    const std::int64_t file = files[static_cast<std::size_t>(i)];
    CHECK(some->name(i) == whole->name(file));
    CHECK(some->stamp(i) == whole->stamp(file));
    for (std::size_t field = 0; field < 2; ++field) {
      CHECK(some->offset(i, field) == whole->offset(file, field));
      CHECK(some->length(i, field) == whole->length(file, field));
    }
  }
  CHECK(some->num_folders() == 0);
  CHECK(!some->is_current());
  CHECK(whole->select({})->num_files() == 0);
}

TEST_CASE("an image that is cut short anywhere, or longer, is refused") {
  const std::string& image = sample_image();
  for (std::size_t size = 0; size < image.size(); ++size) {
    REQUIRE(refusal(image.substr(0, size)) != "accepted");
  }
  for (std::size_t more = 1; more <= 16; ++more) {
    REQUIRE(refusal(image + std::string(more, '\0')) != "accepted");
  }
}

TEST_CASE("an image that is cut short is refused though its length and checksum are right") {
  for (std::size_t size = kHeaderBytes; size + 8 <= sample_image().size(); ++size) {
    REQUIRE(contains(refusal(sealed(sample_image().substr(0, size))), "damaged"));
  }
}

TEST_CASE("every byte that is another one is found") {
  std::string image = sample_image();
  for (std::size_t at = 0; at < image.size(); ++at) {
    const char before = image[at];
    for (const unsigned flip : {1U, 2U, 4U, 8U, 16U, 32U, 64U, 128U, 255U}) {
      image[at] = static_cast<char>(static_cast<unsigned char>(before) ^ flip);
      REQUIRE(refusal(image) != "accepted");
    }
    image[at] = before;
  }
  require_is_sample(*open(image));
}

TEST_CASE("what is refused is refused as what it is") {
  CHECK(contains(refusal(""), "damaged"));
  CHECK(contains(refusal("PENS"), "damaged"));
  CHECK(contains(refusal("pens"), "no index file"));
  CHECK(contains(refusal(std::string(1000, 'x')), "no index file"));
  CHECK(contains(refusal(sample_image().substr(0, 200)), "damaged"));
  std::string damaged = sample_image();
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  CHECK(contains(refusal(damaged), "damaged"));
  std::string later = sample_image();
  later[kVersionAt] = 3;
  CHECK(contains(refusal(sealed(later)), "another version"));
  std::string mirrored = sample_image();
  std::reverse(mirrored.begin() + kByteOrderAt, mirrored.begin() + kVersionAt);
  CHECK(contains(refusal(sealed(mirrored)), "another kind of machine"));
}

TEST_CASE("numbers of a header that are impossible are refused, though the checksum is right") {
  const std::vector<std::uint64_t> numbers = {std::uint64_t{1} << 20U,
                                              std::uint64_t{1} << 31U,
                                              std::uint64_t{1} << 32U,
                                              std::uint64_t{1} << 60U,
                                              (std::uint64_t{1} << 60U) + 1,
                                              std::uint64_t{1} << 61U,
                                              std::uint64_t{1} << 62U,
                                              std::numeric_limits<std::int64_t>::max(),
                                              std::uint64_t{1} << 63U,
                                              UINT64_MAX / 16,
                                              UINT64_MAX / 8 + 1,
                                              UINT64_MAX - 7,
                                              UINT64_MAX};
  for (std::size_t at = kFilesAt; at <= kContainerAt; at += 8) {
    for (const std::uint64_t number : numbers) REQUIRE(refusal(with(at, number)) != "accepted");
    const std::uint64_t before = number_at(sample_image(), at);
    for (std::uint64_t near = 0; near < before + 64; ++near) (void)accepts(with(at, near));
  }
  CHECK(refusal(with(kContainerAt, 3)) != "accepted");
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{1} << 40U, UINT64_MAX}) {
    std::string image = sample_image();
    put(image, kImageBytesAt, bytes);
    CHECK(refusal(image) != "accepted");
  }
}

TEST_CASE("two numbers of a header that are impossible together") {
  std::mt19937_64 random(3);
  const auto number = [&random]() -> std::uint64_t {
    const std::uint64_t of_bits = std::uint64_t{1} << random() % 64;
    return std::array{random() % 8, of_bits, of_bits - 1, UINT64_MAX / of_bits, random()}[random() % 5];
  };
  for (int round = 0; round < 5000; ++round) {
    std::string image = sample_image();
    for (int i = 0; i < 2; ++i) put(image, kFilesAt + random() % 9 * 8, number());
    (void)accepts(sealed(image));
  }
}

TEST_CASE("ends of names that are out of order, or past the names, are refused") {
  const std::size_t ends = kHeaderBytes + 3 * 16 + 6 * 8;
  REQUIRE(number_at(sample_image(), ends) == 5);
  REQUIRE(number_at(sample_image(), ends + 8) == 12);
  REQUIRE(number_at(sample_image(), ends + 16) == 17);
  for (const std::uint64_t end : {std::uint64_t{13}, std::uint64_t{17}, UINT64_MAX}) {
    CHECK(refusal(with(ends, end)) != "accepted");
  }
  CHECK(refusal(with(ends + 8, 4)) != "accepted");
  CHECK(refusal(with(ends + 8, 18)) != "accepted");
  for (const std::uint64_t end : {std::uint64_t{0}, std::uint64_t{16}, std::uint64_t{18}, UINT64_MAX}) {
    CHECK(refusal(with(ends + 16, end)) != "accepted");
  }
  CHECK(open(with(ends, 12))->name(1).empty());  // names may be empty
  const std::size_t of_folders = ends + 3 * 8 + 2 * 8;
  REQUIRE(number_at(sample_image(), of_folders) == 0);
  REQUIRE(number_at(sample_image(), of_folders + 8) == 1);
  CHECK(refusal(with(of_folders, 2)) != "accepted");
  CHECK(refusal(with(of_folders + 8, 0)) != "accepted");
}

TEST_CASE("lengths of sequences are checked with the rest") {
  FileIndex::Parts parts = sample_parts();
  parts.fields[1].is_ragged = true;
  parts.lengths = {1, 5, 1, 0, 1, 7};
  parts.offsets = {64, 76, FileIndex::kElsewhere, 80, 128, 272};
  const auto index = FileIndex::make(parts);
  CHECK(index->length(0, 0) == 1);
  CHECK(index->length(2, 1) == 7);
  CHECK(index->bytes(0, 1) == 20);
  CHECK(index->most_bytes(1) == 28);
  CHECK(index->same_files_as(*open(image_of(*index))));
  for (const std::int64_t length : {std::int64_t{8}, std::int64_t{-1}, std::int64_t{1} << 62U}) {
    parts.lengths.back() = length;
    CHECK_THROWS_AS((void)FileIndex::make(parts), Error);
  }
  parts.lengths.pop_back();
  CHECK_THROWS_AS((void)FileIndex::make(parts), Error);
}

TEST_CASE("fields that are impossible are refused, though the checksum is right") {
  const std::string good = field_text("x", 1, {3, 4});
  REQUIRE(open(with_fields(good + good, 2))->fields().size() == 2);
  const auto refused = [](const std::string& text, std::uint64_t count = 1) {
    // other counts than two make other sections, so the second field is always a sound one
    return refusal(with_fields(text + field_text("y", 1, {}), count + 1)) != "accepted";
  };
  REQUIRE_FALSE(refused(good));
  const auto bit = [](unsigned n) { return std::uint64_t{1} << n; };
  CHECK(refused(field_text("x", static_cast<std::uint64_t>(DType::kFloat4E2M1FNx2) + 1, {3})));
  CHECK(refused(field_text("x", 256, {3})));  // would be a dtype if it were cut to a byte
  CHECK(refused(field_text("x", UINT64_MAX, {3})));
  CHECK(refused(field_text("x", 1, {UINT64_MAX})));
  CHECK(refused(field_text("x", 1, {bit(63)})));
  CHECK(refused(field_text("x", 1, {bit(32), bit(31)})));
  CHECK(refused(field_text("x", 1, {bit(32), bit(32)})));
  CHECK(refused(field_text("x", static_cast<std::uint64_t>(DType::kFloat64), {bit(60)})));
  CHECK(refused(field_text("x", 1, {bit(62), 0, bit(62)})));
  CHECK(refused(field_text("x", 1, std::vector<std::uint64_t>(65, 1))));
  CHECK_FALSE(refused(field_text("x", 1, std::vector<std::uint64_t>(64, 1))));
  CHECK(refused(le(UINT64_MAX, 8)));                // a name that is longer than all there is
  CHECK(refused(le(0, 8) + le(1, 8) + le(64, 8)));  // dimensions that are not there
  for (std::size_t size = 0; size < good.size(); ++size) {
    REQUIRE(refusal(with_fields(good + good.substr(0, size), 2)) != "accepted");
  }
  CHECK(refusal(with_fields(good, UINT64_MAX)) != "accepted");
}

TEST_CASE("fields that together are impossibly large are refused") {
  const std::string large = field_text("x", 1, {std::uint64_t{1} << 62U});
  CHECK(refusal(with_fields(large + large, 2)) != "accepted");
}

TEST_CASE("any damage under a checksum that is right gives a sound index or a refusal") {
  std::mt19937_64 random(11);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string image = sample_image();
    for (std::uint64_t left = 1 + random() % 3; left > 0; --left) {
      const std::size_t at = kFilesAt + random() % (image.size() - kFilesAt);
      switch (random() % 4) {
        case 0: image[at] = static_cast<char>(random()); break;
        case 1: image[at] = static_cast<char>(image[at] ^ (1 << random() % 7)); break;
        case 2: put(image, at / 8 * 8, random() % 40); break;
        default: put(image, at / 8 * 8, UINT64_MAX >> random() % 64);
      }
    }
    if (random() % 8 == 0) image.resize(kHeaderBytes + random() % (image.size() - kHeaderBytes));
    accepted += accepts(sealed(image)) ? 1 : 0;
  }
  CHECK(accepted > 1000);
  CHECK(accepted < 19'000);
}

TEST_CASE("a file that is no index is refused by its header, without memory for the rest") {
  const TemporaryFolder folder;
  const std::string path = folder.path("huge");
  constexpr off_t kHuge = off_t{1} << 40U;  // takes no room on the disk
  const auto refusal_of = [&](const std::string& front, off_t bytes) {
    folder.write("huge", front);
    REQUIRE(::truncate(path.c_str(), bytes) == 0);
    return error_from([&] { return FileIndex::open(path); });
  };
  const std::string image(as_text(FileIndex::make(sample_parts())->image().bytes()));
  for (const auto& [front, bytes, kind] : {std::tuple{std::string("no index"), kHuge, ErrorKind::kArgument},
                                           {image, kHuge, ErrorKind::kFormat},
                                           {"n", off_t{1}, ErrorKind::kArgument},
                                           {image, off_t{10}, ErrorKind::kFormat},
                                           {"", off_t{0}, ErrorKind::kFormat}}) {
    const Error error = refusal_of(front, bytes);
    CHECK(error.kind() == kind);
    CHECK(error.path() == path);
  }
  CHECK(error_from([&] { return FileIndex::open(folder.path("gone")); }).path() == folder.path("gone"));
}

TEST_CASE("an index is written whole, readable by all, and leaves nothing else behind") {
  const TemporaryFolder folder;
  const std::string path = folder.path("set.index");
  const auto first = FileIndex::make(sample_parts());
  first->write(path);
  const auto read = FileIndex::open(path);
  require_is_sample(*read);
  CHECK(read->fingerprint() == first->fingerprint());

  FileIndex::Parts parts = sample_parts();
  parts.recipe = "as asked later";
  FileIndex::make(parts)->write(path);
  require_is_sample(*read);
  CHECK(FileIndex::open(path)->recipe() == "as asked later");
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777U) == 0644U);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("an index that cannot be written is an error that names it, and leaves nothing behind") {
  const TemporaryFolder folder;
  const auto index = FileIndex::make(sample_parts());
  const Error gone = error_from([&] { return index->write(folder.path("no/set.index")), 0; });
  CHECK(gone.kind() == ErrorKind::kShard);
  CHECK(gone.path() == folder.path("no/set.index"));
  CHECK(gone.system_code() == ENOENT);
  std::filesystem::create_directories(folder.path("taken/inner"));
  const Error taken = error_from([&] { return index->write(folder.path("taken")), 0; });
  CHECK(taken.kind() == ErrorKind::kShard);
  CHECK(taken.system_code() != 0);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a reader finds an index whole while it is written again and again") {
  const TemporaryFolder folder;
  const std::string path = folder.path("set.index");
  const auto first = FileIndex::make(sample_parts());
  FileIndex::Parts parts = sample_parts();
  parts.recipe = std::string(100'000, 'x');
  const auto second = FileIndex::make(parts);
  first->write(path);
  std::thread writer([&] {
    for (int i = 0; i < 50; ++i) (i % 2 == 0 ? second : first)->write(path);
  });
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t found = FileIndex::open(path)->fingerprint();
    const bool known = found == first->fingerprint() || found == second->fingerprint();
    CHECK(known);
  }
  writer.join();
}

TEST_CASE("an index is opened in the memory of another process") {
  const auto index = FileIndex::make(sample_parts());
  if (index->descriptor() < 0) return;
  const FileIndex mapped(SharedMemory::from_descriptor(index->descriptor()));
  require_is_sample(mapped);
  CHECK(mapped.fingerprint() == index->fingerprint());
  CHECK(mapped.same_files_as(*index));
  CHECK(index->descriptor() == index->descriptor());  // made once
}

TEST_CASE("files are told from others by their names and sizes, and by nothing else") {
  const std::uint64_t fingerprint = FileIndex::make(sample_parts())->fingerprint_of_files();
  const auto differs = [&](const auto& change) {
    FileIndex::Parts parts = sample_parts();
    change(parts);
    return FileIndex::make(parts)->fingerprint_of_files() != fingerprint;
  };
  CHECK(differs([](auto& parts) { ++parts.stamps[1].size; }));
  CHECK(differs([](auto& parts) { std::swap(parts.stamps[1].size, parts.stamps[0].size); }));
  CHECK(differs([](auto& parts) { parts.names = strings_of({"a.npz", "b/c.npz", "e.npz"}); }));
  CHECK_FALSE(differs([](auto& parts) { ++parts.stamps[1].mtime_ns; }));
  CHECK_FALSE(differs([](auto& parts) { parts.root = "/elsewhere"; }));
  CHECK_FALSE(differs([](auto& parts) { parts.offsets[0] = 1; }));
  CHECK_FALSE(differs([](auto& parts) { parts.changed[0] = 0; }));
}

TEST_CASE("files whose names only read the same end to end are others") {
  FileIndex::Parts parts = sample_parts();
  parts.names = strings_of({"a.npzb", "/c.npz", "d.npz"});
  CHECK(FileIndex::make(sample_parts())->fingerprint_of_files() !=
        FileIndex::make(parts)->fingerprint_of_files());
}

void set_changed(const std::string& path, std::int64_t seconds) {
  const timespec time{static_cast<time_t>(seconds), 5};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), std::array{time, time}.data(), 0) == 0);
}

/// An index of nothing but the folders as they are now.
std::shared_ptr<FileIndex> listed(const std::string& root) {
  Folder folder = list_folder(root, {});
  FileIndex::Parts parts;
  parts.root = root;
  parts.fields = {{"data", DType::kUInt8, {}, 1}};
  parts.folders = std::move(folder.folders);
  parts.changed = std::move(folder.changed);
  return FileIndex::make(parts);
}

TEST_CASE("an index is current until a folder changes, and only if that could be told") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path("a/b"));
  CHECK_FALSE(listed(folder.path())->is_current());  // the folders are too young
  CHECK_FALSE(listed(folder.path())->is_settled());
  for (const char* name : {"a/b", "a", ""}) set_changed(folder.path(name), 1'000'000);
  const auto index = listed(folder.path());
  CHECK(index->is_settled());
  CHECK(index->is_current());
  CHECK(open(image_of(*index))->is_current());
  set_changed(folder.path("a/b"), 1'000'001);
  CHECK_FALSE(index->is_current());
  set_changed(folder.path("a/b"), 1'000'000);
  CHECK(index->is_current());
  std::filesystem::remove(folder.path("a/b"));
  set_changed(folder.path("a"), 1'000'000);
  CHECK_FALSE(index->is_current());  // a folder is gone
  CHECK_FALSE(FileIndex::make(sample_parts())->is_current());
  FileIndex::Parts parts = sample_parts();
  parts.folders = {};
  parts.changed = {};
  CHECK_FALSE(FileIndex::make(parts)->is_current());  // folders were not listed
  CHECK_FALSE(FileIndex::make(parts)->is_settled());
}

TEST_CASE("the same files: names, stamps and offsets, wherever the index comes from") {
  const auto index = FileIndex::make(sample_parts());
  CHECK(index->same_files_as(*FileIndex::make(sample_parts())));
  const auto same = [&](const auto& change) {
    FileIndex::Parts parts = sample_parts();
    change(parts);
    const auto other = FileIndex::make(parts);
    const bool is_same = index->same_files_as(*other);
    CHECK(other->same_files_as(*index) == is_same);
    return is_same;
  };
  CHECK_FALSE(same([](auto& parts) { parts.names = strings_of({"a.npz", "b/c.npz", "e.npz"}); }));
  CHECK_FALSE(same([](auto& parts) { parts.names = strings_of({"a.npzb", "/c.npz", "d.npz"}); }));
  CHECK_FALSE(same([](auto& parts) { ++parts.stamps[0].mtime_ns; }));
  CHECK_FALSE(same([](auto& parts) { ++parts.stamps[1].size; }));
  CHECK_FALSE(same([](auto& parts) { parts.offsets[3] = 81; }));
  CHECK_FALSE(same([](auto& parts) {
    parts.names = strings_of({"a.npz", "b/c.npz"});
    parts.stamps.pop_back();
    parts.offsets.resize(4);
  }));
}

TEST_CASE("an index of other fields does not hold the same") {
  FileIndex::Parts parts = sample_parts();
  parts.fields[1].dtype = DType::kInt32;
  CHECK_FALSE(FileIndex::make(sample_parts())->same_files_as(*FileIndex::make(parts)));
}

}  // namespace
}  // namespace penstock
