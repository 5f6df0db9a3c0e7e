#include "image/finish_rows.h"

#include <array>
#include <cstring>

#include "base/vector_clones.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define PENSTOCK_X86 1
#include <immintrin.h>
#endif

namespace penstock {
namespace {

/// Any row. `Value` has the size of a table's entry.
template <typename Sample, typename Value>
void look_up(const FinishRow& row, const FinishTables& tables) noexcept {
  for (std::int32_t c = 0; c < row.channels; ++c) {
    const std::byte* const table = tables.data + static_cast<std::size_t>(c) * tables.bytes;
    const std::uint8_t* pixel = row.pixels + c * row.channel_step;
    std::byte* out = row.out + c * row.out_channel_step;
    for (std::int32_t x = 0; x < row.width; ++x, pixel += row.pixel_step, out += row.out_step) {
      Sample sample = 0;
      std::memcpy(&sample, pixel, sizeof sample);
      Value value = 0;
      std::memcpy(&value, table + std::size_t{sample} * sizeof value, sizeof value);
      std::memcpy(out, &value, sizeof value);
    }
  }
}

// --- bytes that stay what they are ----------------------------------------------------------------------

void copy_lines(const FinishRow& row, const FinishTables& /*tables*/) noexcept {
  for (std::int32_t c = 0; c < row.channels; ++c) {
    std::memcpy(row.out + c * row.out_channel_step, row.pixels + c * row.channel_step,
                static_cast<std::size_t>(row.width));
  }
}

PENSTOCK_VECTOR_CLONES
void copy_reversed(const std::uint8_t* last, std::uint8_t* out, std::int32_t count) noexcept {
  for (std::int32_t x = 0; x < count; ++x) out[x] = last[-x];
}

void copy_lines_reversed(const FinishRow& row, const FinishTables& /*tables*/) noexcept {
  for (std::int32_t c = 0; c < row.channels; ++c) {
    copy_reversed(row.pixels + c * row.channel_step,
                  reinterpret_cast<std::uint8_t*>(row.out + c * row.out_channel_step), row.width);
  }
}

void copy_packed(const FinishRow& row, const FinishTables& /*tables*/) noexcept {
  std::memcpy(row.out, row.pixels, static_cast<std::size_t>(std::int64_t{row.width} * row.channels));
}

#ifdef PENSTOCK_X86

// --- eight values at a time -----------------------------------------------------------------------------

#define PENSTOCK_AVX2 __attribute__((target("avx2")))
#define PENSTOCK_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

/// Looks up eight entries and writes them.
template <typename Value, bool kStreams>
PENSTOCK_AVX2_INLINE void put_eight(const std::byte* table, __m256i samples, std::byte* out) noexcept {
  const auto* const entries = reinterpret_cast<const int*>(table);
  if constexpr (sizeof(Value) == 4) {
    const __m256i values = _mm256_i32gather_epi32(entries, samples, 4);
    auto* const to = reinterpret_cast<__m256i*>(out);
    if constexpr (kStreams) {
      _mm256_stream_si256(to, values);
    } else {
      _mm256_storeu_si256(to, values);
    }
  } else {
    const __m256i wide =
        _mm256_and_si256(_mm256_i32gather_epi32(entries, samples, 2), _mm256_set1_epi32(0xffff));
    const __m128i values = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    auto* const to = reinterpret_cast<__m128i*>(out);
    if constexpr (kStreams) {
      _mm_stream_si128(to, values);
    } else {
      _mm_storeu_si128(to, values);
    }
  }
}

PENSTOCK_AVX2_INLINE __m128i load8(const std::uint8_t* bytes) noexcept {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes));
}

PENSTOCK_AVX2_INLINE __m128i load16(const std::uint8_t* bytes) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

PENSTOCK_AVX2_INLINE __m256i reversed(__m256i eight) noexcept {
  return _mm256_permutevar8x32_epi32(eight, _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}

/// Single channels: eight neighbours.
struct Lines {
  static constexpr std::int32_t kPixelBytes = 1;

  PENSTOCK_AVX2_INLINE static __m256i samples(const std::uint8_t* pixels, std::int32_t /*channel*/) noexcept {
    return _mm256_cvtepu8_epi32(load8(pixels));
  }
};

/// Three channels next to each other: of eight pixels one channel.
struct Packed {
  static constexpr std::int32_t kPixelBytes = 3;

  PENSTOCK_AVX2_INLINE static __m256i samples(const std::uint8_t* pixels, std::int32_t channel) noexcept {
    const __m256i all =
        _mm256_inserti128_si256(_mm256_castsi128_si256(load16(pixels)), load16(pixels + 8), 1);
    const __m256i first = _mm256_setr_epi32(0, 3, 6, 9, 4, 7, 10, 13);
    const __m256i above = _mm256_set1_epi32(static_cast<int>(0x80808000U));  // those bytes become zero
    const __m256i bytes = _mm256_or_si256(_mm256_add_epi32(first, _mm256_set1_epi32(channel)), above);
    return _mm256_shuffle_epi8(all, bytes);
  }
};

/// Up to four channels in four bytes.
struct Lanes {
  static constexpr std::int32_t kPixelBytes = 4;

  PENSTOCK_AVX2_INLINE static __m256i samples(const std::uint8_t* pixels, std::int32_t channel) noexcept {
    const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pixels));
    return _mm256_and_si256(_mm256_srl_epi32(all, _mm_cvtsi32_si128(8 * channel)), _mm256_set1_epi32(0xff));
  }
};

/// Into an output with channels first.
template <typename Pixels, typename Value, bool kStreams>
PENSTOCK_AVX2 void to_planes(const FinishRow& row, const FinishTables& tables) noexcept {
  constexpr std::ptrdiff_t kBehind = 7 * std::ptrdiff_t{Pixels::kPixelBytes};
  const bool is_flipped = row.pixel_step < 0;
  const std::int32_t in_vectors = row.width / 8 * 8;
  for (std::int32_t c = 0; c < row.channels; ++c) {
    // A channel is a step of its own in Lines, and part of the shuffle elsewhere.
    const bool is_line = Pixels::kPixelBytes == 1;
    const std::uint8_t* pixels = row.pixels + (is_line ? c * row.channel_step : 0);
    const std::byte* const table = tables.data + static_cast<std::size_t>(c) * tables.bytes;
    std::byte* const out = row.out + c * row.out_channel_step;
    if (is_flipped) pixels -= kBehind;
    for (std::ptrdiff_t x = 0; x < in_vectors; x += 8) {
      __m256i samples = Pixels::samples(pixels + x * row.pixel_step, c);
      if (is_flipped) samples = reversed(samples);
      put_eight<Value, kStreams>(table, samples, out + x * row.out_step);
    }
  }
  FinishRow rest = row;
  rest.pixels += in_vectors * row.pixel_step;
  rest.out += in_vectors * row.out_step;
  rest.width -= in_vectors;
  look_up<std::uint8_t, Value>(rest, tables);
}

/// Where the samples of eight pixels of three channels are to be found, in three vectors of eight: the bytes
/// of a load of 16, which begins so far behind the first of the 24.
struct PackedThird {
  std::array<std::int8_t, 8> bytes;
  std::int32_t offset;
};

constexpr std::array<PackedThird, 3> kMirrored{
    {{{13, 14, 15, 10, 11, 12, 7, 8}, 8}, {{13, 8, 9, 10, 5, 6, 7, 2}, 4}, {{7, 8, 3, 4, 5, 0, 1, 2}, 0}}};

/// Three channels next to each other, and so they stay.
template <typename Value, bool kStreams>
PENSTOCK_AVX2 void packed_to_packed(const FinishRow& row, const FinishTables& tables) noexcept {
  const __m256i channels[3] = {// as places in the tables, which lie end to end
                               _mm256_setr_epi32(0, 256, 512, 0, 256, 512, 0, 256),
                               _mm256_setr_epi32(512, 0, 256, 512, 0, 256, 512, 0),
                               _mm256_setr_epi32(256, 512, 0, 256, 512, 0, 256, 512)};
  const bool is_flipped = row.pixel_step < 0;
  const std::int32_t in_vectors = row.width / 8 * 8;
  for (std::ptrdiff_t x = 0; x < in_vectors; x += 8) {
    const std::uint8_t* const pixels = row.pixels + (is_flipped ? -3 * (x + 7) : 3 * x);
    for (std::size_t third = 0; third < 3; ++third) {
      const PackedThird& from = kMirrored[third];
      const __m128i bytes =
          is_flipped ? _mm_shuffle_epi8(load16(pixels + from.offset),
                                        load8(reinterpret_cast<const std::uint8_t*>(from.bytes.data())))
                     : load8(pixels + static_cast<std::ptrdiff_t>(8 * third));
      put_eight<Value, kStreams>(
          tables.data, _mm256_add_epi32(_mm256_cvtepu8_epi32(bytes), channels[third]),
          row.out + x * row.out_step + static_cast<std::ptrdiff_t>(8 * third * sizeof(Value)));
    }
  }
  FinishRow rest = row;
  rest.pixels += in_vectors * row.pixel_step;
  rest.out += in_vectors * row.out_step;
  rest.width -= in_vectors;
  look_up<std::uint8_t, Value>(rest, tables);
}

/// Nothing where there is no such kernel.
template <typename Value, bool kStreams>
FinishRowKernel eight_at_a_time(const FinishRow& row) noexcept {
  constexpr std::int64_t kValueBytes = sizeof(Value);
  const std::int64_t pixel_bytes = row.pixel_step < 0 ? -row.pixel_step : row.pixel_step;
  const bool are_whole = row.channel_step == 1 && (row.has_slack || row.channels == pixel_bytes);
  if (row.out_step == kValueBytes) {
    if (pixel_bytes == 1) return &to_planes<Lines, Value, kStreams>;
    if (pixel_bytes == 3 && are_whole) return &to_planes<Packed, Value, kStreams>;
    if (pixel_bytes == 4 && are_whole) return &to_planes<Lanes, Value, kStreams>;
  }
  const bool stays_packed = row.channels == 3 && row.channel_step == 1 && pixel_bytes == 3 &&
                            row.out_channel_step == kValueBytes && row.out_step == 3 * kValueBytes;
  return stays_packed ? &packed_to_packed<Value, kStreams> : nullptr;
}

FinishRowKernel eight_at_a_time(const FinishRow& row, std::int64_t value_bytes) noexcept {
  if (value_bytes == 4) {
    return row.streams ? eight_at_a_time<std::uint32_t, true>(row)
                       : eight_at_a_time<std::uint32_t, false>(row);
  }
  return row.streams ? eight_at_a_time<std::uint16_t, true>(row) : eight_at_a_time<std::uint16_t, false>(row);
}

#endif

FinishRowKernel any_kernel(std::int32_t sample_bytes, std::int64_t value_bytes) noexcept {
  if (sample_bytes == 1) {
    if (value_bytes == 1) return &look_up<std::uint8_t, std::uint8_t>;
    return value_bytes == 2 ? &look_up<std::uint8_t, std::uint16_t> : &look_up<std::uint8_t, std::uint32_t>;
  }
  return value_bytes == 2 ? &look_up<std::uint16_t, std::uint16_t> : &look_up<std::uint16_t, std::uint32_t>;
}

FinishRowKernel byte_kernel(const FinishRow& row) noexcept {
  if (row.out_step == 1 && row.pixel_step == 1) return &copy_lines;
  if (row.out_step == 1 && row.pixel_step == -1) return &copy_lines_reversed;
  const bool is_packed = row.pixel_step == row.channels && row.channel_step == 1 &&
                         row.out_step == row.channels && row.out_channel_step == 1;
  return is_packed ? &copy_packed : &look_up<std::uint8_t, std::uint8_t>;
}

}  // namespace

FinishRowKernel finish_row_kernel(const FinishRow& row, std::int32_t sample_bytes, std::int64_t value_bytes,
                                  Instructions instructions) noexcept {
  if (sample_bytes == 1 && value_bytes == 1) return byte_kernel(row);
#ifdef PENSTOCK_X86
  if (sample_bytes == 1 && instructions >= Instructions::kAvx2) {
    const FinishRowKernel kernel = eight_at_a_time(row, value_bytes);
    if (kernel != nullptr) return kernel;
  }
#endif
  (void)instructions;
  return any_kernel(sample_bytes, value_bytes);
}

void end_streaming() noexcept {
#ifdef PENSTOCK_X86
  _mm_sfence();
#endif
}

}  // namespace penstock
