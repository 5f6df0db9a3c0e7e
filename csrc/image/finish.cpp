#include "image/finish.h"

#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define PENSTOCK_X86 1
#include <immintrin.h>
#endif

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

/// One channel of one row. `Value` has the size of an element.
template <typename Sample, typename Value>
void look_up(const std::uint8_t* pixel, std::int64_t pixel_step, const std::byte* table, std::byte* out,
             std::int64_t out_step, std::int32_t count) noexcept {
  for (std::int32_t x = 0; x < count; ++x, pixel += pixel_step, out += out_step) {
    Sample sample = 0;
    std::memcpy(&sample, pixel, sizeof sample);
    Value value = 0;
    std::memcpy(&value, table + std::size_t{sample} * sizeof value, sizeof value);
    std::memcpy(out, &value, sizeof value);
  }
}

/// A row on its way out.
struct Row {
  const std::uint8_t* pixels;  ///< the one that comes first in the output
  std::int64_t pixel_step;     ///< bytes; negative when flipped
  std::int64_t lane_step;      ///< bytes; 0 when one lane makes all channels
  std::byte* out;
  std::int64_t channel_bytes;  ///< from one channel of the output to the next
  std::int64_t out_step;       ///< bytes from one pixel of the output to the next
  std::int32_t width;
};

template <typename Sample, typename Value>
void put_row(const Row& row, std::int32_t channels, const std::byte* tables,
             std::size_t table_bytes) noexcept {
  for (std::int32_t c = 0; c < channels; ++c) {
    look_up<Sample, Value>(row.pixels + c * row.lane_step, row.pixel_step,
                           tables + static_cast<std::size_t>(c) * table_bytes,
                           row.out + c * row.channel_bytes, row.out_step, row.width);
  }
}

#ifdef PENSTOCK_X86

/// put_row for 4-lane pixels of bytes and 32-bit elements, channels first: eight pixels at a time.
__attribute__((target("avx2"))) void put_row_avx2(const Row& row, std::int32_t channels,
                                                  const std::byte* tables, std::size_t table_bytes) noexcept {
  const __m256i one_byte = _mm256_set1_epi32(0xff);
  const __m256i reversed = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
  const bool is_flipped = row.pixel_step < 0;
  const std::int32_t in_vectors = row.width / 8 * 8;
  for (std::int32_t c = 0; c < channels; ++c) {
    const auto* const table =
        reinterpret_cast<const int*>(tables + static_cast<std::size_t>(c) * table_bytes);
    std::byte* const out = row.out + c * row.channel_bytes;
    for (std::int32_t x = 0; x < in_vectors; x += 8) {
      const std::int32_t first = is_flipped ? -x - 7 : x;
      __m256i pixels =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.pixels + std::ptrdiff_t{first} * 4));
      if (is_flipped) pixels = _mm256_permutevar8x32_epi32(pixels, reversed);
      const __m256i samples = _mm256_and_si256(_mm256_srl_epi32(pixels, _mm_cvtsi32_si128(8 * c)), one_byte);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + std::ptrdiff_t{x} * 4),
                          _mm256_i32gather_epi32(table, samples, 4));
    }
  }
  Row rest = row;
  rest.pixels += in_vectors * row.pixel_step;
  rest.out += in_vectors * row.out_step;
  rest.width -= in_vectors;
  put_row<std::uint8_t, std::uint32_t>(rest, channels, tables, table_bytes);
}

#endif

using PutRow = void (*)(const Row&, std::int32_t, const std::byte*, std::size_t) noexcept;

PutRow put_row_for(std::int32_t sample_bytes, std::int64_t value_bytes) noexcept {
  if (sample_bytes == 1) {
    if (value_bytes == 1) return &put_row<std::uint8_t, std::uint8_t>;
    return value_bytes == 2 ? &put_row<std::uint8_t, std::uint16_t> : &put_row<std::uint8_t, std::uint32_t>;
  }
  return value_bytes == 2 ? &put_row<std::uint16_t, std::uint16_t> : &put_row<std::uint16_t, std::uint32_t>;
}

/// The fastest way for such rows; the results are equal.
PutRow put_row_for(const PixelType& type, const FinishPlan& plan, Instructions instructions) noexcept {
  const std::int64_t value_bytes = item_bytes(plan.dtype);
#ifdef PENSTOCK_X86
  const bool is_regular = type.pixel_bytes() == 4 && type.sample_bytes == 1 && value_bytes == 4;
  if (instructions == Instructions::kAvx2 && is_regular && plan.layout == Layout::kChannelsFirst) {
    return &put_row_avx2;
  }
#endif
  (void)instructions;
  return put_row_for(type.sample_bytes, value_bytes);
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
  tables_.resize(table_bytes_ * static_cast<std::size_t>(plan_.channels));
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

void Finisher::run(const PixelView& in, bool flip_horizontally, bool flip_vertically, std::byte* out,
                   Instructions instructions) const noexcept {
  run(in, flip_horizontally, flip_vertically, packed(out, in.width, in.height), instructions);
}

void Finisher::run(const PixelView& in, bool flip_horizontally, bool flip_vertically, const FinishTarget& out,
                   Instructions instructions) const noexcept {
  const std::int64_t item = item_bytes(plan_.dtype);
  const bool is_planar = plan_.layout == Layout::kChannelsFirst;
  const PutRow put_one = put_row_for(in.type, plan_, instructions);
  Row row{};
  row.pixel_step = flip_horizontally ? -in.type.pixel_bytes() : in.type.pixel_bytes();
  row.lane_step = in.type.channels == 1 ? 0 : in.type.sample_bytes;
  row.channel_bytes = is_planar ? out.plane_bytes : item;
  row.out_step = is_planar ? item : item * plan_.channels;
  row.width = in.width;
  for (std::int32_t y = 0; y < in.height; ++y) {
    row.pixels = in.row(flip_vertically ? in.height - 1 - y : y);
    if (flip_horizontally) row.pixels += std::int64_t{in.width - 1} * in.type.pixel_bytes();
    row.out = out.data + y * out.row_bytes;
    put_one(row, plan_.channels, tables_.data(), table_bytes_);
  }
}

}  // namespace penstock
