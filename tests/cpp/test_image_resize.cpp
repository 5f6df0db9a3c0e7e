#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/error.h"
#include "image/exif.h"
#include "image/finish.h"
#include "image/resize.h"

namespace penstock {
namespace {

using Samples = std::vector<std::uint8_t>;

std::int32_t draw(std::mt19937& random, std::int32_t least, std::int32_t most) {
  return least + static_cast<std::int32_t>(random() % static_cast<unsigned>(most - least + 1));
}

PixelView noise(PixelBuffer& buffer, std::int32_t width, std::int32_t height, PixelType type,
                std::mt19937& random) {
  const PixelView view = buffer.reset(width, height, type);
  Samples samples(static_cast<std::size_t>(width * height * type.channels * type.sample_bytes));
  for (std::uint8_t& sample : samples) sample = static_cast<std::uint8_t>(random());
  copy_from(samples.data(), view);
  return view;
}

Samples packed(const PixelView& view) {
  Samples samples(
      static_cast<std::size_t>(view.width * view.height * view.type.channels * view.type.sample_bytes));
  copy_to(view, samples.data());
  return samples;
}

ResizePlan draw_plan(std::mt19937& random, std::int32_t width, std::int32_t height) {
  ResizePlan plan;
  plan.in_width = width;
  plan.in_height = height;
  plan.box = {0, 0, static_cast<float>(width), static_cast<float>(height)};
  if (random() % 2 == 0) {
    plan.box.left = static_cast<float>(width) * 0.3F;
    plan.box.bottom = static_cast<float>(height) * 0.9F;
  }
  plan.out_width = random() % 8 == 0 ? width : draw(random, 1, 90);
  plan.out_height = random() % 8 == 0 ? height : draw(random, 1, 90);
  plan.window.x = draw(random, 0, plan.out_width - 1);
  plan.window.y = draw(random, 0, plan.out_height - 1);
  plan.window.width = draw(random, 1, plan.out_width - plan.window.x);
  plan.window.height = draw(random, 1, plan.out_height - plan.window.y);
  plan.filter = random() % 2 == 0 ? Filter::kBilinear : Filter::kBicubic;
  plan.rule = random() % 2 == 0 ? PillowRule::kPillow11 : PillowRule::kPillow13;
  return plan;
}

TEST_CASE("instructions do not show in the result, nor does what else of the input is there") {
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) {
    const PixelType type{draw(random, 1, 4), draw(random, 1, 2)};
    PixelBuffer input;
    const PixelView in = noise(input, draw(random, 1, 120), draw(random, 1, 120), type, random);
    const ResizePlan plan = draw_plan(random, in.width, in.height);
    check_resize(plan);
    ResizeScratch scratch;
    PixelBuffer output;
    const Samples want = packed(resize(plan, in, 0, 0, output, scratch, Instructions::kPortable));
    for (const Instructions better : {Instructions::kSse4, Instructions::kAvx2, Instructions::kAvx512}) {
      if (better > best_instructions()) continue;
      CHECK(packed(resize(plan, in, 0, 0, output, scratch, better)) == want);
      const Rect needs = resize_needs(plan, scratch);
      PixelBuffer smaller;
      const PixelView part = smaller.reset(needs.width, needs.height, type);
      const Samples needed = packed(in.part(needs));
      copy_from(needed.data(), part);
      CHECK(packed(resize(plan, part, needs.x, needs.y, output, scratch, better)) == want);
    }
  }
}

TEST_CASE("weights are whole: they sum to one, within rounding, over pixels that exist") {
  std::mt19937 random(4);
  for (int i = 0; i < 500; ++i) {
    const std::int32_t in_size = draw(random, 1, 5'000);
    const std::int32_t out_size = draw(random, 1, 300);
    const AxisWeights weights({in_size, 0, static_cast<float>(in_size), out_size, 0, out_size,
                               random() % 2 == 0 ? Filter::kBilinear : Filter::kBicubic});
    for (std::int32_t x = 0; x < out_size; ++x) {
      const AxisWeights::Window window = weights.window(x);
      CHECK(window.first >= 0);
      CHECK(window.count >= 1);
      CHECK(window.padded >= window.count);
      CHECK(window.first + window.padded <= in_size);
      std::int64_t sum = 0;
      for (std::int32_t j = 0; j < window.count; ++j) sum += weights.fixed(x)[j];
      CHECK(std::abs(sum - (std::int64_t{1} << AxisWeights::kPrecisionBits)) <= window.count);
      for (std::int32_t j = 0; j < window.count; ++j) {
        CHECK(weights.fixed(x)[j] == weights.high(x)[j] * (1 << AxisWeights::kLowBits) + weights.low(x)[j]);
      }
    }
  }
}

TEST_CASE("quads are the weights, and begin where pixels are needed") {
  constexpr std::int32_t kSize = WeightQuads::kSize;
  std::mt19937 random(7);
  for (int i = 0; i < 500; ++i) {
    const std::int32_t in_size = draw(random, 1, 900);
    const std::int32_t out_size = draw(random, 1, 300);
    const AxisWeights weights({in_size, 0, static_cast<float>(in_size), out_size, 0, out_size,
                               random() % 2 == 0 ? Filter::kBilinear : Filter::kBicubic});
    const WeightQuads& quads = weights.quads();
    if (!quads.are_there()) continue;
    for (std::int32_t x = 0; x < out_size; ++x) {
      const AxisWeights::Window window = weights.window(x);
      REQUIRE(window.count <= quads.per_window() * kSize);
      for (std::int32_t j = 0; j < quads.per_window() * kSize; ++j) {
        const std::int8_t* digit =
            quads.digits(x) + j / kSize * WeightQuads::kDigits * WeightQuads::kPairBytes + j % kSize;
        std::int32_t weight = 0;
        for (std::int32_t k = 0, unit = 1; k < WeightQuads::kDigits; ++k, unit *= 256) {
          weight += digit[k * WeightQuads::kPairBytes] * unit;
        }
        CHECK(weight == (j < window.count ? weights.fixed(x)[j] : 0));
      }
      for (std::int32_t quad = 0; quad < quads.per_window(); ++quad) {
        const std::int32_t first = quads.firsts()[x / 2 * quads.per_window() + quad];
        CHECK(first <= weights.needed().first + weights.needed().count - 1);
        if (x % 2 == 0 && quad * kSize < window.count) CHECK(first == window.first + quad * kSize);
      }
    }
  }
}

TEST_CASE("weights of long sides are not kept between images, those of others are") {
  const auto plan = [](std::int32_t width) {
    return ResizePlan{width, 1, {0, 0, static_cast<float>(width), 1}, 100, 1, {0, 0, 100, 1}};
  };
  ResizeScratch scratch;
  PixelBuffer output;
  std::mt19937 random(7);
  for (const std::int32_t width : {200, 1'500'000, 1'600'000, 1'700'000, 3'000'000}) {
    PixelBuffer input;
    const PixelView in = noise(input, width, 1, {1, 1}, random);
    (void)resize(plan(width), in, 0, 0, output, scratch, best_instructions());
    CHECK(scratch.weights.bytes() <= WeightCache::kMostKept);
  }
  (void)resize_needs(plan(3'000'000), scratch);  // for an image that turns out to be broken
  CHECK(scratch.weights.bytes() > WeightCache::kMostKept);
  (void)resize_needs(plan(200), scratch);
  CHECK(scratch.weights.bytes() <= WeightCache::kMostKept);
  const std::size_t bytes = scratch.weights.bytes();
  CHECK(bytes > 0);
  (void)resize_needs(plan(200), scratch);
  CHECK(scratch.weights.bytes() == bytes);
}

TEST_CASE("boxes and windows that are not inside are refused") {
  ResizePlan plan{10, 10, {0, 0, 10, 10}, 5, 5, {0, 0, 5, 5}};
  CHECK_NOTHROW(check_resize(plan));
  for (const Box& box : {Box{0, 0, 0, 5}, Box{0, 0, 10.5F, 5}, Box{-1, 0, 5, 5}, Box{NAN, 0, 5, 5}}) {
    ResizePlan bad = plan;
    bad.box = box;
    CHECK_THROWS_AS(check_resize(bad), Error);
  }
  plan.window = {3, 0, 3, 5};
  CHECK_THROWS_AS(check_resize(plan), Error);
}

TEST_CASE("finishing: vectors and single pixels agree, flipped or not") {
  std::mt19937 random(5);
  FinishPlan plan;
  plan.mean = {0.4F, 0.5F, 0.6F};
  plan.deviation = {0.2F, 0.3F, 0.4F};
  const Finisher finisher(plan);
  for (std::int32_t width = 1; width < 40; ++width) {
    PixelBuffer buffer;
    const PixelView in = noise(buffer, width, 3, {3, 1}, random);
    const auto bytes = static_cast<std::size_t>(finisher.bytes(width, 3));
    for (const bool flip : {false, true}) {
      std::vector<std::byte> want(bytes);
      std::vector<std::byte> got(bytes);
      finisher.run(in, flip, flip, finisher.packed(want.data(), width, 3), Instructions::kPortable);
      finisher.run(in, flip, flip, finisher.packed(got.data(), width, 3), best_instructions());
      CHECK(got == want);
    }
  }
}

TEST_CASE("any EXIF data has an orientation") {
  std::mt19937 random(6);
  const std::string_view start("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0", 22);
  CHECK(exif_orientation(as_bytes(start)) == 6);
  for (int i = 0; i < 2'000; ++i) {
    std::string text(start.substr(0, random() % 23));
    if (!text.empty()) text[random() % text.size()] = static_cast<char>(random());
    const std::int32_t orientation = exif_orientation(as_bytes(text));
    CHECK(orientation >= 1);
    CHECK(orientation <= 8);
  }
}

}  // namespace
}  // namespace penstock
