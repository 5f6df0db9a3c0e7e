#include "image/finish.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "image/finish_rows.h"

namespace penstock {
namespace {

bool is_float(DType dtype) noexcept {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

/// Cuts `bits` off, rounding to nearest and ties to even.
std::uint32_t rounded_off(std::uint32_t value, std::uint32_t bits) noexcept {
  const std::uint32_t half = 1U << (bits - 1);
  return (value + half - 1 + ((value >> bits) & 1U)) >> bits;
}

/// \pre not a NaN
std::uint16_t to_bfloat16(float value) noexcept {
  return static_cast<std::uint16_t>(rounded_off(std::bit_cast<std::uint32_t>(value), 16));
}

/// \pre not a NaN
std::uint16_t to_float16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t exponent = magnitude >> 23U;
  std::uint32_t half = 0;
  if (exponent >= 143) {  // 2**16 and more
    half = 0x7c00U;
  } else if (exponent >= 113) {  // normal; may round up to infinity
    half = rounded_off(magnitude - (112U << 23U), 13);
  } else if (exponent >= 102) {  // subnormal: multiples of 2**-24
    half = rounded_off((magnitude & 0x7fffffU) | 0x800000U, 126 - exponent);
  }
  return static_cast<std::uint16_t>(sign | half);
}

void put(DType dtype, float value, std::byte* out) noexcept {
  if (dtype == DType::kFloat32) {
    std::memcpy(out, &value, sizeof value);
  } else {
    const std::uint16_t half = dtype == DType::kFloat16 ? to_float16(value) : to_bfloat16(value);
    std::memcpy(out, &half, sizeof half);
  }
}

void put(std::uint32_t sample, std::int64_t bytes, std::byte* out) noexcept {
  const auto narrow = static_cast<std::uint8_t>(sample);
  const auto wide = static_cast<std::uint16_t>(sample);
  std::memcpy(out, bytes == 1 ? static_cast<const void*>(&narrow) : &wide, static_cast<std::size_t>(bytes));
}

/// The bytes a page behind a row whose pixels lie close, which the processor would not fetch by itself.
void prefetch_ahead(const std::uint8_t* row, std::int32_t width, std::int64_t pixel_step) noexcept {
  constexpr std::int64_t kPage = 4096;
  constexpr std::int64_t kLine = 64;
  constexpr std::int64_t kClose = 4;
  const std::int64_t bytes = pixel_step <= kClose ? width * pixel_step : 0;
  for (std::int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(row + kPage + at, 0, 2);
}

Error contradiction(const char* problem) { return {ErrorKind::kArgument, problem}; }

}  // namespace

Finisher::Finisher(FinishPlan plan) : plan_(std::move(plan)) {
  check();
  fill_tables();
}

void Finisher::check() const {
  const DType own = plan_.sample_bytes == 1 ? DType::kUInt8 : DType::kUInt16;
  if (!is_float(plan_.dtype) && plan_.dtype != own) {
    throw contradiction("these samples cannot become that dtype")
        .needed(std::string("float32, float16, bfloat16 or ") + std::string(dtype_name(own)))
        .found(std::string(dtype_name(plan_.dtype)));
  }
  if (plan_.channels < 1 || plan_.channels > 4) {
    throw contradiction("an image has 1 to 4 channels").found(std::to_string(plan_.channels));
  }
  if (plan_.mean.empty() && plan_.deviation.empty()) return;
  if (!is_float(plan_.dtype)) throw contradiction("only floats can be normalised");
  const auto channels = static_cast<std::size_t>(plan_.channels);
  if (plan_.mean.size() != channels || plan_.deviation.size() != channels) {
    throw contradiction("mean and std do not fit the channels")
        .needed(std::to_string(channels) + " of each")
        .found(std::to_string(plan_.mean.size()) + " and " + std::to_string(plan_.deviation.size()));
  }
  for (const float deviation : plan_.deviation) {
    if (!(deviation > 0)) throw contradiction("a std must be positive").found(std::to_string(deviation));
  }
}

void Finisher::fill_tables() {
  const auto item = static_cast<std::size_t>(item_bytes(plan_.dtype));
  const std::uint32_t count = plan_.sample_bytes == 1 ? 256 : 65'536;
  table_bytes_ = count * item;
  tables_.resize(table_bytes_ * static_cast<std::size_t>(plan_.channels) + FinishTables::kSlack);
  std::byte* out = tables_.data();
  for (std::size_t c = 0; c < static_cast<std::size_t>(plan_.channels); ++c) {
    for (std::uint32_t sample = 0; sample < count; ++sample, out += item) {
      if (!is_float(plan_.dtype)) {
        put(sample, plan_.sample_bytes, out);
        continue;
      }
      auto value = static_cast<float>(sample);
      if (plan_.scale) value /= static_cast<float>(count - 1);
      if (!plan_.mean.empty()) value = (value - plan_.mean[c]) / plan_.deviation[c];
      put(plan_.dtype, value, out);
    }
  }
}

std::int64_t Finisher::bytes(std::int32_t width, std::int32_t height) const noexcept {
  return std::int64_t{width} * height * plan_.channels * item_bytes(plan_.dtype);
}

FinishTarget Finisher::packed(std::byte* out, std::int32_t width, std::int32_t height) const noexcept {
  const bool is_planar = plan_.layout == Layout::kChannelsFirst;
  const std::int64_t row_bytes = bytes(width, 1) / (is_planar ? plan_.channels : 1);
  return {out, row_bytes, row_bytes * height};
}

void Finisher::run(const PixelView& in, bool flip_horizontally, bool flip_vertically, const FinishTarget& out,
                   Instructions instructions) const noexcept {
  run(samples_of(in), flip_horizontally, flip_vertically, out, instructions);
}

void Finisher::run(const SampleView& in, bool flip_horizontally, bool flip_vertically,
                   const FinishTarget& out, Instructions instructions) const noexcept {
  constexpr std::int64_t kLeastStreamed = std::int64_t{128} << 10U;  // bytes of an image
  constexpr std::uint64_t kAligned = 32;
  const std::int64_t item = item_bytes(plan_.dtype);
  const bool is_planar = plan_.layout == Layout::kChannelsFirst;
  const std::uint64_t places = std::bit_cast<std::uintptr_t>(out.data) |
                               static_cast<std::uint64_t>(out.row_bytes) |
                               static_cast<std::uint64_t>(is_planar ? out.plane_bytes : 0);
  FinishRow row{};
  row.pixel_step = flip_horizontally ? -in.steps.pixel : in.steps.pixel;
  row.channel_step = in.steps.channel;
  row.out_channel_step = is_planar ? out.plane_bytes : item;
  row.out_step = is_planar ? item : item * plan_.channels;
  row.width = in.width;
  row.channels = plan_.channels;
  row.has_slack = in.has_slack;
  row.streams = bytes(in.width, in.height) >= kLeastStreamed && places % kAligned == 0;
  const FinishRowKernel finish = finish_row_kernel(row, plan_.sample_bytes, item, instructions);
  FinishTables tables{tables_.data(), table_bytes_};
  const std::int32_t rounds = is_planar && in.steps.pixel == 1 ? plan_.channels : 1;  // plane by plane
  row.channels /= rounds;
  for (std::int32_t round = 0; round < rounds; ++round, tables.data += tables.bytes) {
    for (std::int32_t y = 0; y < in.height; ++y) {
      row.pixels = in.row(flip_vertically ? in.height - 1 - y : y) + round * in.steps.channel;
      prefetch_ahead(row.pixels, in.width, in.steps.pixel);
      if (flip_horizontally) row.pixels += (in.width - 1) * in.steps.pixel;
      row.out = out.data + y * out.row_bytes + round * row.out_channel_step;
      finish(row, tables);
    }
  }
  if (row.streams) end_streaming();
}

}  // namespace penstock
