#include "assemble/image_source.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "assemble/table.h"
#include "base/error.h"
#include "base/random.h"
#include "image/png.h"
#include "image_rows.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using namespace testing;
using Kind = ImageStep::Kind;
using Size = ImagePlan::Size;

constexpr std::int64_t kFiles = 40;

/// 3 x 2 pixels: samples 1 to 18.
const std::string& png() {
  constexpr std::array<unsigned char, 76> kBytes{
      0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
      0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x02, 0x08, 0x02, 0x00, 0x00, 0x00, 0x12, 0x16, 0xf1,
      0x4d, 0x00, 0x00, 0x00, 0x13, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x64, 0x64, 0x62, 0x86,
      0x00, 0x16, 0x4e, 0x4e, 0x4e, 0x08, 0x0b, 0x00, 0x02, 0xc4, 0x00, 0x4b, 0x67, 0x76, 0xc8, 0x5a,
      0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};
  static const std::string text(kBytes.begin(), kBytes.end());
  return text;
}

ImageStep step(Kind kind, Size size = {0, 0}) {
  ImageStep made;
  made.kind = kind;
  made.size = size;
  return made;
}

ImageStep border(std::int32_t width) {
  ImageStep made = step(Kind::kPad);
  made.padding.fill(width);
  return made;
}

/// Every tenth file is no image.
std::shared_ptr<FileIndex> write_files(const TemporaryFolder& folder) {
  FileIndex::Parts parts = image_index_parts(folder.path(), kFiles);
  for (std::int64_t file = 0; file < kFiles; ++file) {
    const std::string name = std::to_string(file) + ".png";
    folder.write(name, file % 10 == 9 ? "no image" : png());
    parts.names.add(name);
  }
  return FileIndex::make(parts);
}

ImageSource::Parts parts_of(const std::shared_ptr<FileIndex>& files, std::vector<ImageStep> steps) {
  FinishPlan finish;
  finish.dtype = DType::kUInt8;
  finish.layout = Layout::kChannelsLast;
  ImageSource::Parts parts;
  parts.images = std::make_shared<ImageFiles>(files);
  parts.pipeline = std::make_shared<ImagePipeline>(ImageOptions{}, finish);
  parts.steps = std::make_shared<ImageSteps>(std::move(steps));
  parts.size = parts.steps->size().value_or(Size{3, 2});
  parts.log = std::make_shared<ImageLog>();
  return parts;
}

bool has_png() { return !png_library().empty(); }

TEST_CASE("plans stay inside, whatever the image") {
  std::mt19937_64 random(1);
  const auto upto = [&random](std::uint64_t most) {
    return static_cast<std::int32_t>(random() % (most + 1));
  };
  ImageStep crop = step(Kind::kRandomCrop);
  crop.pads_if_needed = true;
  for (int i = 0; i < 20'000; ++i) {
    crop.size = {1 + upto(40), 1 + upto(40)};
    const Size size{1 + upto(40), 1 + upto(40)};
    const std::vector<ImageStep> resizes{step(Kind::kResize, size), step(Kind::kResizeShorter, size),
                                         step(Kind::kRandomResizedCrop, size)};
    std::vector<ImageStep> steps{step(Kind::kFlipHorizontally), border(upto(9)), crop,
                                 step(Kind::kCenterCrop, size), step(Kind::kFlipVertically)};
    if (i % 4 > 0) steps.insert(steps.begin(), resizes[static_cast<std::size_t>(i % 4 - 1)]);
    const Size image{1 + upto(60), 1 + upto(60)};
    const ImageSteps all(std::move(steps));
    const SamplePlan plan = all.plan(image, RandomSequence(random()));
    const Size whole = plan.resize.value_or(image);
    if (plan.crop) REQUIRE(is_inside(*plan.crop, image.width, image.height));
    if (plan.visible.width > 0 && plan.visible.height > 0) {
      REQUIRE(is_inside(plan.visible, whole.width, whole.height));
    }
    REQUIRE(plan.window.width == size.width);
    REQUIRE(plan.window.height == size.height);
    REQUIRE(all.size()->width == size.width);
  }
}

TEST_CASE("steps that are not one crop and one resize are refused") {
  const ImageStep resize = step(Kind::kResize, {3, 3});
  for (const ImageStep& before : {resize, border(1), step(Kind::kCenterCrop, {3, 3})}) {
    CHECK_THROWS_AS(ImageSteps({before, resize}), Error);
  }
  CHECK_NOTHROW(ImageSteps({step(Kind::kRandomCrop, {3, 3}), resize}));
}

TEST_CASE("a window over the edge has a border") {
  if (!has_png()) return;
  const TemporaryFolder folder;
  const auto files = write_files(folder);
  auto parts = parts_of(files, {border(1), step(Kind::kCenterCrop, {5, 4})});
  parts.fill = 7;
  ImageSource source(parts);
  const auto pixels = gathered(source, {0});
  const auto at = [&pixels](std::size_t y, std::size_t x) { return pixels[(y * 5 + x) * 3]; };
  CHECK(at(0, 0) == 7);
  CHECK(at(3, 4) == 7);
  CHECK(at(1, 0) == 7);
  CHECK(at(1, 1) == 1);
  CHECK(at(2, 3) == 16);
}

TEST_CASE("threads and epochs: the same rows, with others in the place of broken ones") {
  if (!has_png()) return;
  const TemporaryFolder folder;
  const auto files = write_files(folder);
  auto parts = parts_of(files, {step(Kind::kRandomCrop, {2, 1}), step(Kind::kFlipHorizontally)});
  std::vector<std::int64_t> rows(kFiles);
  for (std::int64_t i = 0; i < kFiles; ++i) rows[static_cast<std::size_t>(i)] = kFiles - 1 - i;
  CHECK_THROWS_AS(gathered(*std::make_shared<ImageSource>(parts), rows), Error);
  parts.replaces_broken = true;
  const auto source = std::make_shared<ImageSource>(parts);
  const auto expected = gathered(*source, rows);
  CHECK(gathered(*source->in_epoch(5), rows) != expected);
  CHECK(parts.log->broken().first.size() == 4);
  std::vector<std::thread> threads;
  std::array<bool, 4> same{};
  for (bool& each : same) {
    threads.emplace_back([&] { each = gathered(*source, rows) == expected; });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::ranges::count(same, true) == 4);
}

/// One image again and again, from a slow disk.
class SlowImages final : public EncodedImages {
 public:
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return 8; }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override { return {8}; }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return 1; }
  void fetch(std::int64_t /*row*/, Wanted /*wanted*/, std::vector<std::byte>& buffer) const override {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const Bytes bytes = as_bytes(png());
    buffer.assign(bytes.begin(), bytes.end());
  }
  void locate(Error& /*error*/, std::int64_t /*row*/) const override {}
  void will_need(std::int64_t row) const override { asked_.push_back(row); }
  [[nodiscard]] std::uint64_t fingerprint() const override { return 0; }
  [[nodiscard]] const std::vector<std::int64_t>& asked() const { return asked_; }

 private:
  mutable std::vector<std::int64_t> asked_;
};

TEST_CASE("images from a slow disk are asked for ahead") {
  if (!has_png()) return;
  const TemporaryFolder folder;
  const auto images = std::make_shared<SlowImages>();
  auto parts = parts_of(write_files(folder), {step(Kind::kRandomCrop, {2, 1})});
  parts.images = images;
  const auto source = std::make_shared<ImageSource>(parts);
  const std::vector<std::int64_t> rows{5, 2};
  source->will_need(rows);
  CHECK_FALSE(source->asks_ahead());
  CHECK(images->asked().empty());
  (void)gathered(*source, {0});
  CHECK(source->asks_ahead());
  CHECK(source->in_epoch(7)->asks_ahead());
  source->will_need(rows);
  source->will_need(6, 2);
  CHECK(images->asked() == std::vector<std::int64_t>{5, 2, 6, 7});
}

TEST_CASE("two sources as one") {
  if (!has_png()) return;
  const TemporaryFolder folder;
  const auto files = write_files(folder);
  auto parts = parts_of(files, {step(Kind::kRandomCrop, {2, 1})});
  parts.replaces_broken = true;
  const auto first = std::make_shared<ImageSource>(parts);
  auto other = parts_of(files, {step(Kind::kRandomCrop, {2, 1})});
  other.replaces_broken = true;
  const auto both = first->followed_by(ImageSource(other));
  CHECK(both->num_rows() == 2 * kFiles);
  CHECK(gathered(*both, {0, 3}) == gathered(*first, {0, 3}));
  (void)gathered(*both, {9, kFiles + 19});
  CHECK(parts.log->broken().first.front().row == 9);
  REQUIRE(other.log->broken().total >= 1);
  CHECK(other.log->broken().first.front().row == 19);
  CHECK(both->fingerprint() != first->fingerprint());
  for (const auto& steps :
       {std::vector{step(Kind::kRandomCrop, {1, 2})}, std::vector{step(Kind::kCenterCrop, {2, 1})}}) {
    auto unlike = parts_of(files, steps);
    unlike.replaces_broken = true;
    CHECK_THROWS_AS((void)first->followed_by(ImageSource(unlike)), Error);
  }
}

TEST_CASE("all are broken") {
  const TemporaryFolder folder;
  const auto files = write_files(folder);
  for (std::int64_t file = 0; file < kFiles; ++file) folder.write(std::to_string(file) + ".png", "");
  auto parts = parts_of(files, {step(Kind::kCenterCrop, {2, 2})});
  parts.replaces_broken = true;
  ImageSource source(parts);
  CHECK_THROWS_AS(gathered(source, {3}), Error);
}

}  // namespace
}  // namespace penstock
