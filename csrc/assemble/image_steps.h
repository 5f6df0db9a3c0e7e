#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/random.h"
#include "image/color_changes.h"
#include "image/pipeline.h"

namespace penstock {

/// Pixels of a side that an image, or a sample of it, may have.
constexpr std::int64_t kLongestSide = std::int64_t{1} << 24U;

/// One step from an image to a sample, with torchvision's meaning.
struct ImageStep {
  enum class Kind : std::uint8_t {
    kResize,             ///< to `size`
    kResizeShorter,      ///< so that the shorter side is size.width, and the longer at most `longest`
    kCenterCrop,         ///< of `size`; of a smaller image, with a border
    kRandomCrop,         ///< of `size`, at any place
    kRandomResizedCrop,  ///< any part of `scale` of the area and `ratio` of width to height, then to `size`
    kPad,                ///< by `padding`
    kFlipHorizontally,   ///< with `probability`
    kFlipVertically,
    kJitterColors,  ///< with `probability`: changes of `colors`, in any order
    kGray,          ///< with `probability`: three channels that are alike
  };

  Kind kind = Kind::kResize;
  ImagePlan::Size size{0, 0};
  std::int32_t longest = 0;                     ///< 0: no limit
  std::array<std::int32_t, 4> padding{};        ///< left, top, right, bottom: 0 or more
  bool pads_if_needed = false;                  ///< kRandomCrop: by what a side is too short, at both ends
  std::array<double, 2> scale{0.08, 1.0};       ///< least and most
  std::array<double, 2> ratio{3. / 4, 4. / 3};  ///< likewise, above 0
  double probability = 0.5;
  std::array<std::array<double, 2>, 4>
      colors{};  ///< see kColors: least and most; twice the neutral one: none

  [[nodiscard]] bool operator==(const ImageStep&) const = default;
};

/// What a jitter changes, and by which factor nothing changes.
constexpr std::array<ColorChange, 4> kColors{{{ColorChange::Kind::kBrightness, 1},
                                              {ColorChange::Kind::kContrast, 1},
                                              {ColorChange::Kind::kSaturation, 1},
                                              {ColorChange::Kind::kHue, 0}}};

/// What both cover; its sides are 0 where there is nothing.
[[nodiscard]] Rect overlap(const Rect& a, const Rect& b) noexcept;

/// What the steps mean for one image: a part of it, resized; of that a window, flipped. The window may reach
/// over the edges of what is `visible`; what lies there is border.
struct SamplePlan {
  std::optional<Rect> crop;
  std::optional<ImagePlan::Size> resize;
  Rect visible;
  Rect window;
  bool flip_horizontally = false;
  bool flip_vertically = false;
  std::vector<ColorChange> colors;  ///< of the window, border and all
};

/// Steps that come down to one crop, one resize, one window and flips.
///
/// thread-compatible; immutable
class ImageSteps {
 public:
  /// \throws Error kArgument when a step has values that cannot be, or they do not come down to that: a
  /// resize stands behind another one, a flip, a border, or a centre crop (which may have one); anything but
  /// a flip stands behind a change of colors
  explicit ImageSteps(std::vector<ImageStep> steps);

  [[nodiscard]] bool operator==(const ImageSteps&) const = default;

  /// What every image becomes; nothing where that depends on the image.
  [[nodiscard]] std::optional<ImagePlan::Size> size() const noexcept;

  /// Whether two samples of one image may differ.
  [[nodiscard]] bool is_random() const noexcept;

  /// \param image   its size, upright
  /// \param random  numbers for this sample
  /// \throws Error kArgument when the image is smaller than what shall be cut out, or larger than can be
  [[nodiscard]] SamplePlan plan(ImagePlan::Size image, const RandomSequence& random) const;

 private:
  std::vector<ImageStep> steps_;
};

}  // namespace penstock
