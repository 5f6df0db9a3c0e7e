#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "image/finish.h"

namespace penstock {
namespace {

using Bytes8 = std::vector<std::uint8_t>;

/// How an image lies, and no byte more: what is read beyond it is found by the sanitizer.
struct Stored {
  Bytes8 bytes;
  SampleView view;
};

Stored store(std::mt19937_64& random, const SampleSteps& steps, std::int32_t width, std::int32_t height,
             std::int32_t channels) {
  const std::int64_t last =
      (width - 1) * steps.pixel + (height - 1) * steps.row + (channels - 1) * steps.channel;
  Stored stored{Bytes8(static_cast<std::size_t>(last + 1)), {}};
  for (auto& each : stored.bytes) each = static_cast<std::uint8_t>(random());
  stored.view = {stored.bytes.data(), width, height, steps};
  return stored;
}

std::vector<std::byte> finished(const Finisher& finisher, const SampleView& view, bool across, bool down,
                                Instructions instructions) {
  constexpr std::size_t kGuard = 64;
  const auto bytes = static_cast<std::size_t>(finisher.bytes(view.width, view.height));
  std::vector<std::byte> out(bytes + kGuard, std::byte{0xAB});
  finisher.run(view, across, down, finisher.packed(out.data(), view.width, view.height), instructions);
  for (std::size_t i = bytes; i < out.size(); ++i) REQUIRE(out[i] == std::byte{0xAB});
  return out;
}

/// An image of bytes, sample by sample.
void require_samples(const Stored& stored, std::int32_t channels, bool across, bool down) {
  FinishPlan plan;
  plan.dtype = DType::kUInt8;
  plan.layout = Layout::kChannelsLast;
  plan.channels = channels;
  const SampleView& in = stored.view;
  const auto out = finished(Finisher(plan), in, across, down, Instructions::kPortable);
  std::size_t at = 0;
  for (std::int32_t y = 0; y < in.height; ++y) {
    for (std::int32_t x = 0; x < in.width; ++x) {
      for (std::int32_t c = 0; c < channels; ++c) {
        const std::uint8_t expected =
            in.row(down ? in.height - 1 - y
                        : y)[(across ? in.width - 1 - x : x) * in.steps.pixel + c * in.steps.channel];
        REQUIRE(std::to_integer<std::uint8_t>(out[at++]) == expected);
      }
    }
  }
}

TEST_CASE("every kernel gives what the portable one gives, wherever the samples lie") {
  std::mt19937_64 random(1);
  const Instructions best = best_instructions();
  for (int round = 0; round < 600; ++round) {
    const auto upto = [&](std::uint64_t most) { return static_cast<std::int32_t>(random() % (most + 1)); };
    const std::int32_t width = 1 + upto(40);
    const std::int32_t height = 1 + upto(3);
    const std::int32_t channels = 1 + upto(3);
    const std::vector<SampleSteps> ways{
        {1, std::int64_t{width} * height, width},
        {channels, 1, std::int64_t{width} * channels},
        {channels + upto(3), 1, std::int64_t{width} * (channels + 3)},
        {2, std::int64_t{3} * width * height, std::int64_t{2} * width + upto(9)},
        {height, std::int64_t{width} * height, 1},
    };
    for (const SampleSteps& steps : ways) {
      const Stored stored = store(random, steps, width, height, channels);
      for (int flips = 0; flips < 4; ++flips) {
        const bool across = flips % 2 == 1;
        const bool down = flips >= 2;
        require_samples(stored, channels, across, down);
        for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kUInt8}) {
          for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
            FinishPlan plan;
            plan.dtype = dtype;
            plan.layout = layout;
            plan.channels = channels;
            if (dtype != DType::kUInt8) {
              plan.mean = std::vector<float>{0.1F, 0.2F, 0.3F, 0.4F};
              plan.mean.resize(static_cast<std::size_t>(channels));
              plan.deviation = plan.mean;
            }
            const Finisher finisher(plan);
            REQUIRE(finished(finisher, stored.view, across, down, best) ==
                    finished(finisher, stored.view, across, down, Instructions::kPortable));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace penstock
