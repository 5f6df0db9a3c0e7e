#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "image/instructions.h"
#include "image/pixels.h"

namespace penstock {

enum class Layout : std::uint8_t { kChannelsFirst, kChannelsLast };

/// What the samples of an image become.
struct FinishPlan {
  DType dtype = DType::kFloat32;  ///< kFloat32, kFloat16, kBFloat16, or the samples' own: kUInt8, kUInt16
  Layout layout = Layout::kChannelsFirst;
  std::int32_t channels = 3;
  std::int32_t sample_bytes = 1;
  bool scale = true;        ///< floats: divide by 255 (65,535 for 16 bits) first
  std::vector<float> mean;  ///< floats: subtract, then divide by `deviation`. One for each channel, or none
  std::vector<float> deviation;

  friend bool operator==(const FinishPlan&, const FinishPlan&) = default;
};

/// Flips, casts, normalises and lays out in one pass.
///
/// Every value that a sample can have is computed once, as torch computes it in float32 and then casts, so
/// the results are torch's to the bit; a pass only looks them up.
///
/// thread-compatible; immutable
class Finisher {
 public:
  /// \throws Error kArgument when the plan contradicts itself
  explicit Finisher(FinishPlan plan);

  [[nodiscard]] const FinishPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] std::int64_t bytes(std::int32_t width, std::int32_t height) const noexcept;

  /// \param in   of plan().sample_bytes, and plan().channels or one, which then makes them all
  /// \param out  bytes(in.width, in.height)
  void run(const PixelView& in, bool flip_horizontally, bool flip_vertically, std::byte* out,
           Instructions instructions) const noexcept;

 private:
  void check() const;
  void fill_tables();

  FinishPlan plan_;
  std::size_t table_bytes_ = 0;    ///< of one channel
  std::vector<std::byte> tables_;  ///< what each sample becomes, one table a channel
};

}  // namespace penstock
