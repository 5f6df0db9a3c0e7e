#include "assemble/image_batch.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "assemble/table.h"
#include "base/error.h"
#include "image/jpeg.h"
#include "image/png.h"
#include "image_files.h"
#include "image_rows.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using namespace testing;
using Size = ImagePlan::Size;

constexpr std::int64_t kFiles = 24;
constexpr std::uint8_t kFill = 9;

bool has_libraries() { return !png_library().empty() && !jpeg_library().empty(); }

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Every eighth file is no image; of every eighth, half of the data is gone.
std::shared_ptr<FileIndex> write_files(const TemporaryFolder& folder, std::vector<Size>& sizes) {
  std::mt19937 random(1);
  FileIndex::Parts parts = image_index_parts(folder.path(), kFiles);
  for (std::int64_t file = 0; file < kFiles; ++file) {
    const auto width = static_cast<std::int32_t>(1 + random() % 40);
    const auto height = static_cast<std::int32_t>(1 + random() % 40);
    sizes.push_back({width, height});
    std::string data = text_of(file % 2 == 0 ? png_file(width, height) : jpeg_file(width, height, {}));
    if (file % 8 == 5) data = "no image";
    if (file % 8 == 6) data.resize(data.size() - 30);
    const std::string name = std::to_string(file);
    folder.write(name, data);
    parts.names.add(name);
  }
  return FileIndex::make(parts);
}

struct Images {
  TemporaryFolder folder;
  std::vector<Size> sizes;
  std::shared_ptr<FileIndex> files = write_files(folder, sizes);

  [[nodiscard]] std::shared_ptr<ImageSource> source(Layout layout, bool replaces) const {
    FinishPlan finish;
    finish.dtype = DType::kUInt8;
    finish.layout = layout;
    ImageSource::Parts parts;
    parts.images = std::make_shared<ImageFiles>(files);
    parts.pipeline = std::make_shared<ImagePipeline>(ImageOptions{}, finish);
    parts.steps = std::make_shared<ImageSteps>(std::vector<ImageStep>{});
    parts.replaces_broken = replaces;
    parts.log = std::make_shared<ImageLog>();
    return std::make_shared<ImageSource>(std::move(parts));
  }
};

struct Batch {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> values;
  std::vector<std::int64_t> sizes;  ///< height and width of each
  std::vector<std::int64_t> places;
};

Batch gathered(Table& table, const std::vector<std::int64_t>& rows, const RaggedLayout& layout) {
  const std::vector<Padding> padding{{std::byte{kFill}}};
  const auto arranged = table.in_batch(rows, layout, padding);
  const auto count = static_cast<std::int64_t>(rows.size());
  Batch batch;
  batch.shape = arranged->batch_shape(0, count);
  batch.values.resize(arranged->batch_bytes(0, count), 200);
  batch.sizes.resize(2 * rows.size());
  const std::array outs{reinterpret_cast<std::byte*>(batch.values.data()),
                        reinterpret_cast<std::byte*>(batch.sizes.data())};
  arranged->gather(rows, outs);
  for (std::int64_t i = 0; i < count; ++i) batch.places.push_back(arranged->source_of(0).first->place(0, i));
  return batch;
}

RaggedLayout packed() {
  RaggedLayout layout;
  layout.is_packed = true;
  return layout;
}

TEST_CASE("padded batches hold the images that packed ones hold") {
  if (!has_libraries()) return;
  const Images images;
  std::mt19937 random(2);
  for (int turn = 0; turn < 30; ++turn) {
    const bool is_planar = turn % 2 == 0;
    Table table({images.source(is_planar ? Layout::kChannelsFirst : Layout::kChannelsLast, true)});
    std::vector<std::int64_t> rows(1 + random() % 9);
    for (auto& row : rows) row = static_cast<std::int64_t>(random() % kFiles);
    const Batch each = gathered(table, rows, packed());
    RaggedLayout layout;
    layout.multiple = 1 + static_cast<std::int64_t>(random() % 20);
    layout.pads_front = turn % 3 == 0;
    const Batch all = gathered(table, rows, layout);
    REQUIRE(all.sizes == each.sizes);
    const std::int64_t height = all.shape[is_planar ? 2 : 1];
    const std::int64_t width = all.shape[is_planar ? 3 : 2];
    REQUIRE(height % layout.multiple == 0);
    std::size_t next = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int64_t own_height = all.sizes[2 * i];
      const std::int64_t own_width = all.sizes[2 * i + 1];
      for (std::int64_t at = 0; at < 3 * height * width; ++at) {
        const std::int64_t c = is_planar ? at / (height * width) : at % 3;
        std::int64_t y = is_planar ? at / width % height : at / 3 / width;
        std::int64_t x = is_planar ? at % width : at / 3 % width;
        if (layout.pads_front) {
          y -= height - own_height;
          x -= width - own_width;
        }
        std::uint8_t expected = kFill;
        if (x >= 0 && y >= 0 && x < own_width && y < own_height) {
          const std::int64_t in_image =
              is_planar ? (c * own_height + y) * own_width + x : (y * own_width + x) * 3 + c;
          expected = each.values[static_cast<std::size_t>(each.places[i] + in_image)];
        }
        REQUIRE(all.values[next++] == expected);
      }
    }
  }
}

TEST_CASE("what stands in is the same in every batch, and fits") {
  if (!has_libraries()) return;
  const Images images;
  Table table({images.source(Layout::kChannelsLast, true)});
  std::vector<std::int64_t> all(kFiles);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const Batch together = gathered(table, all, RaggedLayout{});
  for (const std::int64_t row : all) {
    const Batch alone = gathered(table, {row}, packed());
    const auto at = static_cast<std::size_t>(2 * row);
    REQUIRE(alone.sizes == std::vector<std::int64_t>{together.sizes[at], together.sizes[at + 1]});
    const Size own = images.sizes[static_cast<std::size_t>(row)];
    if (row % 8 == 6) {
      REQUIRE(alone.sizes[0] <= own.height);
      REQUIRE(alone.sizes[1] <= own.width);
    } else if (row % 8 != 5) {
      REQUIRE(alone.sizes == std::vector<std::int64_t>{own.height, own.width});
    }
  }
}

TEST_CASE("errors come where images are read") {
  if (!has_libraries()) return;
  const Images images;
  Table table({images.source(Layout::kChannelsFirst, false)});
  const std::vector<Padding> padding{{std::byte{0}}};
  for (const std::int64_t row : {5, 6}) {
    CHECK_NOTHROW((void)table.in_batch(std::array{row, std::int64_t{0}}, packed(), padding));
    try {
      (void)gathered(table, {0, row}, RaggedLayout{});
      FAIL("it is broken");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kFormat);
      CHECK(error.row() == row);
      CHECK(error.path() == images.folder.path(std::to_string(row)));
    }
  }
  CHECK_THROWS_AS(table.sources().front()->gather(std::array{std::int64_t{0}}, {}), Error);
  RaggedLayout cut;
  cut.max_length = 3;
  CHECK_THROWS_AS((void)table.in_batch(std::array{std::int64_t{0}}, cut, padding), Error);
  RaggedLayout huge;
  huge.multiple = std::int64_t{1} << 40U;
  CHECK_THROWS_AS((void)table.in_batch(std::array{std::int64_t{0}}, huge, padding), Error);
}

TEST_CASE("threads look at headers and read images at once") {
  if (!has_libraries()) return;
  const Images images;
  const auto source = images.source(Layout::kChannelsFirst, true);
  std::vector<std::int64_t> rows(kFiles);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i * 7 % kFiles);
  std::array<Batch, 4> batches;
  std::vector<std::thread> threads;
  for (Batch& batch : batches) {
    threads.emplace_back([&] {
      Table table({source->in_epoch(3)});
      batch = gathered(table, rows, RaggedLayout{});
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Batch& batch : batches) {
    CHECK(batch.values == batches.front().values);
    CHECK(batch.sizes == batches.front().sizes);
  }
}

}  // namespace
}  // namespace penstock
