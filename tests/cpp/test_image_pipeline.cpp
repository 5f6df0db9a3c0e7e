#include <doctest/doctest.h>

#include <cstring>
#include <optional>
#include <random>

#include "base/error.h"
#include "image/open_image.h"
#include "image/pipeline.h"
#include "image_files.h"

namespace penstock {
namespace {

TEST_CASE("what is no image is refused by name") {
  const DecodeOptions options;
  CHECK_THROWS_AS((void)open_image({}, options), Error);
  CHECK_THROWS_AS((void)open_image(as_bytes("GIF89a"), options), Error);
}

#if defined(PENSTOCK_HAVE_JPEG) && defined(PENSTOCK_HAVE_SPNG)

constexpr JpegKind kKinds[] = {{1, 1, false}, {2, 1, false}, {2, 2, false}, {1, 2, false},
                               {4, 1, false}, {2, 2, true},  {2, 1, true}};

std::vector<std::vector<std::byte>> files(int width, int height) {
  std::vector<std::vector<std::byte>> all{png_file(width, height)};
  for (const JpegKind& kind : kKinds) all.push_back(jpeg_file(width, height, kind));
  return all;
}

using Sample = std::vector<std::byte>;

ImagePipeline bytes_pipeline() {
  FinishPlan finish;
  finish.dtype = DType::kUInt8;
  finish.layout = Layout::kChannelsLast;
  return {{}, finish};
}

/// nothing: refused
std::optional<Sample> run(const ImagePipeline& pipeline, Bytes file, const ImagePlan& plan,
                          ImageScratch& scratch) {
  try {
    const auto image = pipeline.open(file);
    const PreparedImage prepared = pipeline.prepare(*image, plan, scratch);
    Sample sample(
        static_cast<std::size_t>(pipeline.finisher().bytes(prepared.pixels.width, prepared.pixels.height)));
    pipeline.finish(prepared, plan, sample);
    return sample;
  } catch (const Error&) {
    return std::nullopt;
  }
}

Sample cut(const Sample& whole, std::int32_t width, const Rect& part) {
  Sample result;
  for (std::int32_t y = part.y; y < part.y + part.height; ++y) {
    const auto* const row = whole.data() + (std::ptrdiff_t{y} * width + part.x) * 3;
    result.insert(result.end(), row, row + std::ptrdiff_t{part.width} * 3);
  }
  return result;
}

TEST_CASE("a part is what the whole has there") {
  constexpr std::int32_t kWidth = 61;
  constexpr std::int32_t kHeight = 47;
  const ImagePipeline pipeline = bytes_pipeline();
  ImageScratch scratch;
  for (const auto& file : files(kWidth, kHeight)) {
    const Sample whole = run(pipeline, file, {}, scratch).value();
    std::mt19937 random(1);
    for (int i = 0; i < 60; ++i) {
      Rect part;
      part.x = static_cast<std::int32_t>(random() % kWidth);
      part.y = static_cast<std::int32_t>(random() % kHeight);
      part.width = 1 + static_cast<std::int32_t>(random() % static_cast<unsigned>(kWidth - part.x));
      part.height = 1 + static_cast<std::int32_t>(random() % static_cast<unsigned>(kHeight - part.y));
      ImagePlan plan;
      plan.crop = part;
      CHECK(run(pipeline, file, plan, scratch).value() == cut(whole, kWidth, part));
    }
  }
}

TEST_CASE("in strips or as a whole: the same") {
  const ImagePipeline pipeline = bytes_pipeline();
  ImageScratch scratch;
  for (const auto& file : files(150, 101)) {
    PixelBuffer input;
    const Sample whole = run(pipeline, file, {}, scratch).value();
    const PixelView pixels = input.reset(150, 101, {3, 1});
    copy_from(reinterpret_cast<const std::uint8_t*>(whole.data()), pixels);
    ResizePlan resizing{150, 101, {0, 0, 150, 101}, 33, 47, {2, 3, 30, 41}, Filter::kBicubic};
    PixelBuffer output;
    const PixelView wanted = resize(resizing, pixels, 0, 0, output, scratch.resize, Instructions::kPortable);
    Sample want(std::size_t{30} * 41 * 3);
    copy_to(wanted, reinterpret_cast<std::uint8_t*>(want.data()));
    ImagePlan plan;
    plan.resize = {33, 47};
    plan.window = Rect{2, 3, 30, 41};
    ImageOptions options;
    options.filter = Filter::kBicubic;
    FinishPlan finish = pipeline.finisher().plan();
    CHECK(run(ImagePipeline(options, finish), file, plan, scratch).value() == want);
  }
}

TEST_CASE("a scratch keeps nothing of the image before") {
  const ImagePipeline pipeline = bytes_pipeline();
  ImageScratch used;
  ImagePlan plan;
  plan.resize = {20, 30};
  for (const auto& file : files(64, 48)) {
    ImageScratch fresh;
    CHECK(run(pipeline, file, plan, used) == run(pipeline, file, plan, fresh));
  }
}

/// The bytes are exactly as long as their memory, so that a sanitizer sees a read past them.
TEST_CASE("any bytes are decoded or refused") {
  const ImagePipeline pipeline = bytes_pipeline();
  ImageScratch scratch;
  ImagePlan plan;
  plan.resize = {16, 16};
  std::mt19937 random(2);
  for (const auto& file : files(40, 30)) {
    for (std::size_t size = 0; size < file.size(); size += 1 + file.size() / 200) {
      const std::vector<std::byte> cut_short(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
      CHECK_FALSE(run(pipeline, cut_short, {}, scratch).has_value());
    }
    for (int i = 0; i < 400; ++i) {
      std::vector<std::byte> changed = file;
      for (unsigned n = random() % 4 + 1; n > 0; --n) {
        changed[random() % (i % 2 == 0 ? changed.size() : 200)] = static_cast<std::byte>(random());
      }
      ImageOptions options;
      options.decode.max_pixels = 1'000'000;
      options.decode.read_orientation = i % 3 == 0;
      options.decode.mode = i % 5 == 0 ? ColorMode::kL : ColorMode::kRGB;
      (void)run(ImagePipeline(options, pipeline.finisher().plan()), changed, plan, scratch);
    }
  }
}

#endif

}  // namespace
}  // namespace penstock
