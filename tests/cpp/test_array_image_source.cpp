#include "assemble/array_image_source.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "image_rows.h"
#include "storage/file.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using namespace testing;
using Kind = ImageStep::Kind;

constexpr std::int64_t kRows = 40;
constexpr std::int64_t kHeight = 3;
constexpr std::int64_t kWidth = 4;
constexpr std::int64_t kChannels = 3;
constexpr std::int64_t kRowBytes = kHeight * kWidth * kChannels;

/// Channels last; sample k of row i is i + k.
std::string rows_of_images() {
  std::string bytes;
  for (std::int64_t i = 0; i < kRows; ++i) {
    for (std::int64_t k = 0; k < kRowBytes; ++k) bytes += static_cast<char>(i + k);
  }
  return bytes;
}

std::shared_ptr<Column> column_of(std::shared_ptr<Storage> storage, DType dtype = DType::kUInt8) {
  Column::Parts parts;
  parts.name = "image";
  parts.dtype = dtype;
  parts.row_shape = {kHeight, kWidth, kChannels};
  parts.storages.push_back(std::move(storage));
  parts.layouts.push_back({kRowBytes, {kWidth * kChannels, kChannels, 1}, false});
  parts.shards.push_back({0, 0, 0});
  parts.rows = {kRows};
  return std::make_shared<Column>(std::move(parts));
}

std::shared_ptr<Column> column_in_memory() {
  const auto bytes = std::make_shared<std::string>(rows_of_images());
  return column_of(memory_storage(std::as_bytes(std::span(*bytes)), bytes));
}

ImageStep step(Kind kind, ImagePlan::Size size = {0, 0}) {
  ImageStep made;
  made.kind = kind;
  made.size = size;
  return made;
}

ArrayImageSource::Parts parts_of(std::shared_ptr<Column> rows, std::vector<ImageStep> steps) {
  FinishPlan finish;
  finish.dtype = DType::kUInt8;
  finish.layout = Layout::kChannelsLast;
  ArrayImageSource::Parts parts;
  parts.rows = std::move(rows);
  parts.layout = Layout::kChannelsLast;
  parts.pipeline = std::make_shared<ImagePipeline>(ImageOptions{}, finish);
  parts.steps = std::make_shared<ImageSteps>(std::move(steps));
  return parts;
}

std::vector<std::int64_t> all_rows() {
  std::vector<std::int64_t> rows(kRows);
  for (std::int64_t i = 0; i < kRows; ++i) rows[static_cast<std::size_t>(i)] = kRows - 1 - i;
  return rows;
}

TEST_CASE("the middle of an image, and a border around what there is not") {
  const auto middle =
      std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), {step(Kind::kCenterCrop, {2, 1})}));
  CHECK(middle->fields().front().row_shape == std::vector<std::int64_t>{1, 2, 3});
  CHECK(gathered(*middle, {5}) == std::vector<std::uint8_t>{20, 21, 22, 23, 24, 25});
  auto parts = parts_of(column_in_memory(), {step(Kind::kCenterCrop, {6, 5})});
  parts.fill = 7;
  const auto bordered = gathered(*std::make_shared<ArrayImageSource>(parts), {0});
  const auto at = [&bordered](std::size_t y, std::size_t x) { return bordered[(y * 6 + x) * 3]; };
  CHECK(at(0, 3) == 7);
  CHECK(at(4, 3) == 7);
  CHECK(at(2, 0) == 7);
  CHECK(at(1, 1) == 0);
  CHECK(at(3, 4) == 33);
}

TEST_CASE("threads, epochs and pieces of a batch: the same rows") {
  const auto source = std::make_shared<ArrayImageSource>(
      parts_of(column_in_memory(), {step(Kind::kRandomCrop, {2, 1}), step(Kind::kFlipHorizontally)}));
  const auto rows = all_rows();
  const auto expected = gathered(*source, rows);
  CHECK(source->is_random());
  CHECK(gathered(*source->in_epoch(5), rows) != expected);
  std::vector<std::uint8_t> one_by_one;
  for (const std::int64_t row : rows) {
    const auto one = gathered(*source, {row});
    one_by_one.insert(one_by_one.end(), one.begin(), one.end());
  }
  CHECK(one_by_one == expected);
  std::array<bool, 4> same{};
  std::vector<std::thread> threads;
  for (bool& each : same) {
    threads.emplace_back([&] { each = gathered(*source, rows) == expected; });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(same == std::array<bool, 4>{true, true, true, true});
}

TEST_CASE(
    "files that are mapped, and those that are read, give what memory gives; and are noticed when short") {
  const TemporaryFolder folder;
  const std::vector<std::vector<ImageStep>> ways{{step(Kind::kRandomCrop, {3, 2})},
                                                 {step(Kind::kRandomResizedCrop, {5, 4})},
                                                 {step(Kind::kCenterCrop, {9, 9})}};
  for (const auto& steps : ways) {
    const auto expected =
        gathered(*std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), steps)), all_rows());
    for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
      folder.write("rows", rows_of_images());
      const std::string path = folder.path() + "/rows";
      const auto storage = std::make_shared<FileStorage>(path, OpenFile(path).identity(), access);
      const auto source = std::make_shared<ArrayImageSource>(parts_of(column_of(storage), steps));
      CHECK(gathered(*source, all_rows()) == expected);
      REQUIRE(::truncate(path.c_str(), 0) == 0);
      CHECK_THROWS_AS(gathered(*source, all_rows()), Error);
    }
  }
}

TEST_CASE("what is no image, or of other channels, or too small, is refused") {
  const auto crop = [](std::int32_t side) { return std::vector{step(Kind::kRandomCrop, {side, side})}; };
  CHECK_THROWS_AS(std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), crop(4))), Error);
  auto parts = parts_of(column_in_memory(), crop(3));
  parts.layout = Layout::kChannelsFirst;  // then it has 3 channels of 4 x 3, which is well
  CHECK_NOTHROW(std::make_shared<ArrayImageSource>(parts));
  parts.has_channels = false;
  CHECK_THROWS_AS(std::make_shared<ArrayImageSource>(parts), Error);
  CHECK_THROWS_AS(
      std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), {step(Kind::kCenterCrop, {0, 1})})),
      Error);
}

TEST_CASE("one after the other, unless something else is done to them") {
  const auto first = std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), {}));
  const auto second = std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), {}));
  const auto both = first->followed_by(*second);
  CHECK(both->num_rows() == 2 * kRows);
  CHECK(gathered(*both, {kRows + 3}) == gathered(*first, {3}));
  const auto other =
      std::make_shared<ArrayImageSource>(parts_of(column_in_memory(), {step(Kind::kFlipVertically)}));
  CHECK_THROWS_AS((void)first->followed_by(*other), Error);
}

}  // namespace
}  // namespace penstock
