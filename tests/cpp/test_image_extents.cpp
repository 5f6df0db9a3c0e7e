#include "assemble/image_extents.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "format_checks.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using namespace testing;

/// Two files, of three images and of one.
ImageExtents::Parts parts_in(const TemporaryFolder& folder) {
  ImageExtents::Parts parts;
  for (const char* const name : {"a", "b"}) {
    folder.write(name, "0123456789");
    const OpenFile file(folder.path(name));
    parts.shards.push_back(
        std::make_shared<FileStorage>(folder.path(name), file.identity(), FileAccess::kRead));
  }
  parts.rows = {3, 1};
  parts.offsets = {0, 4, 10, 1};
  parts.sizes = {4, 6, 0, 2};
  for (const char* const name : {"w", "x", "y", "z"}) parts.names.add(name);
  return parts;
}

std::string text_of(const EncodedImages& images, std::int64_t row, std::uint64_t most = UINT64_MAX) {
  return std::string(as_text(images.read_front(row, most)));
}

TEST_CASE("images of several files, and of two catalogues") {
  const TemporaryFolder folder;
  const auto images = std::make_shared<ImageExtents>(parts_in(folder));
  CHECK(images->num_rows() == 4);
  CHECK(images->num_shards() == 2);
  CHECK(text_of(*images, 0) == "0123");
  CHECK(text_of(*images, 1) == "456789");
  CHECK(text_of(*images, 2).empty());
  CHECK(text_of(*images, 3) == "12");
  CHECK(text_of(*images, 1, 2) == "45");
  CHECK(images->path(3) == folder.path("b/z"));
  for (std::int64_t row = 0; row < 4; ++row) images->will_need(row);
  const JoinedImages both(images, images);
  CHECK(both.num_rows() == 8);
  CHECK(both.rows_per_shard() == Numbers{3, 1, 3, 1});
  CHECK(both.num_shards() == 4);
  CHECK(text_of(both, 5, 3) == "456");
  both.will_need(7);
  CHECK(both.fingerprint() != images->fingerprint());
  Error error = format_error("broken");
  both.locate(error, 7);
  CHECK(error.problem() == "image 'z': broken");
  CHECK(error.path() == folder.path("b"));
}

TEST_CASE("an image of more bytes than any has is refused before it is read") {
  const TemporaryFolder folder;
  const auto images = std::make_shared<ImageExtents>(parts_in(folder));
  CHECK(images->read(1, 6).size() == 6);
  const JoinedImages both(images, images);
  for (const std::int64_t row : {1, 5}) {
    const Error error = error_from([&] { return both.read(row, 5).size(); });
    CHECK(error.kind() == ErrorKind::kFormat);
    CHECK(error.needed() == "5 bytes or fewer");
    CHECK(error.found() == "6 bytes");
  }
  CHECK(text_of(both, 5, 5) == "45678");
}

TEST_CASE("parts that do not fit together") {
  const TemporaryFolder folder;
  const auto refuses = [&](const auto& change) {
    ImageExtents::Parts parts = parts_in(folder);
    change(parts);
    CHECK(error_from([&] { return ImageExtents(parts).num_rows(); }).kind() == ErrorKind::kSchema);
  };
  refuses([](auto& parts) { parts.rows = {3, 2}; });
  refuses([](auto& parts) { parts.rows = {3}; });
  refuses([](auto& parts) { parts.rows = {-1, 5}; });
  refuses([](auto& parts) { parts.rows = {5, -1}; });
  refuses([](auto& parts) { parts.rows = {INT64_MAX, INT64_MAX}; });
  refuses([](auto& parts) { parts.sizes.pop_back(); });
  refuses([](auto& parts) { parts.names.add("more"); });
  refuses([](auto& parts) { parts.sizes[1] = 7; });
  refuses([](auto& parts) { parts.sizes[1] = UINT64_MAX; });
  refuses([](auto& parts) { parts.offsets[2] = 11; });
}

TEST_CASE("a file that changes") {
  const TemporaryFolder folder;
  const ImageExtents images(parts_in(folder));
  CHECK(text_of(images, 0) == "0123");
  folder.write("a", "01");
  CHECK(error_from([&] { return images.read(1, 100).size(); }).kind() == ErrorKind::kShard);
  CHECK(error_from([&] { return images.read(0, 100).size(); }).kind() == ErrorKind::kShard);
  folder.write("a", "abcdefghijkl");
  const Error error = error_from([&] { return images.read(0, 100).size(); });
  CHECK(error.problem() == "the file has changed since it was opened");
  CHECK(error.path() == folder.path("a"));
  CHECK(text_of(images, 3) == "12");
}

TEST_CASE("reads that take long are remembered for a while") {
  SlowReads reads;
  reads.note(100'000);
  CHECK_FALSE(reads.lately());
  reads.note(300'000);
  CHECK(reads.lately());
}

}  // namespace
}  // namespace penstock
