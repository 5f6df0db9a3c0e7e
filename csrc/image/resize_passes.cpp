#include "image/resize_passes.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "image/resize_avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define PENSTOCK_X86 1
#include <immintrin.h>
#endif

namespace penstock {
namespace {

constexpr std::int32_t kHalf = 1 << (AxisWeights::kPrecisionBits - 1);

std::uint8_t clipped(std::int32_t sum) noexcept {
  return static_cast<std::uint8_t>(std::clamp(sum >> AxisWeights::kPrecisionBits, 0, 255));
}

/// One output sample of 16 bits from `count` samples that are `step` bytes apart.
void put_wide(const std::uint8_t* samples, std::int64_t step, const double* weights, std::int32_t count,
              std::uint8_t* out) noexcept {
  double sum = 0;
  for (std::int32_t j = 0; j < count; ++j) {
    std::uint16_t sample = 0;
    std::memcpy(&sample, samples + j * step, sizeof sample);
    sum += sample * weights[j];
  }
  const auto rounded = static_cast<std::int32_t>(sum >= 0.0 ? sum + 0.5 : sum - 0.5);
  const auto sample = static_cast<std::uint16_t>(std::clamp(rounded, 0, 65535));
  std::memcpy(out, &sample, sizeof sample);
}

/// One output pixel of `kLanes` bytes.
template <int kLanes>
void put_pixel(const std::uint8_t* pixels, const std::int32_t* weights, std::int32_t count,
               std::uint8_t* out) noexcept {
  std::int32_t sums[kLanes];
  std::fill_n(sums, kLanes, kHalf);
  for (std::int32_t j = 0; j < count; ++j, pixels += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += pixels[lane] * weights[j];
  }
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = clipped(sums[lane]);
}

template <int kLanes>
void put_row(const std::uint8_t* in, std::int32_t origin, const AxisWeights& weights,
             std::uint8_t* out) noexcept {
  for (std::int32_t i = 0; i < weights.size(); ++i, out += kLanes) {
    const AxisWeights::Window window = weights.window(i);
    put_pixel<kLanes>(in + std::int64_t{window.first - origin} * kLanes, weights.fixed(i), window.count, out);
  }
}

void put_wide_row(const std::uint8_t* in, std::int32_t lanes, std::int32_t origin, const AxisWeights& weights,
                  std::uint8_t* out) noexcept {
  const std::int64_t pixel_bytes = std::int64_t{lanes} * 2;
  for (std::int32_t i = 0; i < weights.size(); ++i) {
    const AxisWeights::Window window = weights.window(i);
    const std::uint8_t* const pixels = in + (window.first - origin) * pixel_bytes;
    for (std::int64_t lane = 0; lane < pixel_bytes; lane += 2, out += 2) {
      put_wide(pixels + lane, pixel_bytes, weights.exact(i), window.count, out);
    }
  }
}

void rows_portable(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                   const PixelView& out) noexcept {
  for (std::int32_t y = 0; y < out.height; ++y) {
    if (in.type.sample_bytes == 2) {
      put_wide_row(in.row(y), in.type.lanes(), origin, weights, out.row(y));
    } else if (in.type.lanes() == 4) {
      put_row<4>(in.row(y), origin, weights, out.row(y));
    } else {
      put_row<1>(in.row(y), origin, weights, out.row(y));
    }
  }
}

/// One output row of bytes, a block at a time: the inner loops are over neighbours, so they vectorise.
void put_column_row(const std::uint8_t* in, std::int64_t in_row_bytes, const std::int32_t* weights,
                    std::int32_t count, std::uint8_t* out, std::int64_t width_bytes) noexcept {
  constexpr std::int64_t kBlock = PixelBuffer::kSlack;
  for (std::int64_t x = 0; x < width_bytes; x += kBlock) {
    std::int32_t sums[kBlock];
    std::fill_n(sums, kBlock, kHalf);
    for (std::int32_t j = 0; j < count; ++j) {
      const std::uint8_t* const row = in + j * in_row_bytes + x;
      for (std::int64_t i = 0; i < kBlock; ++i) sums[i] += row[i] * weights[j];
    }
    const std::int64_t end = std::min(kBlock, width_bytes - x);
    for (std::int64_t i = 0; i < end; ++i) out[x + i] = clipped(sums[i]);
  }
}

void columns_portable(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                      const PixelView& out) noexcept {
  const std::int64_t width_bytes = std::int64_t{in.width} * in.type.pixel_bytes();
  for (std::int32_t i = 0; i < out.height; ++i) {
    const AxisWeights::Window window = weights.window(i);
    const std::uint8_t* const first = in.row(window.first - origin);
    if (in.type.sample_bytes == 1) {
      put_column_row(first, in.row_bytes, weights.fixed(i), window.count, out.row(i), width_bytes);
      continue;
    }
    for (std::int64_t x = 0; x < width_bytes; x += 2) {
      put_wide(first + x, in.row_bytes, weights.exact(i), window.count, out.row(i) + x);
    }
  }
}

#ifdef PENSTOCK_X86

// A sum of samples * weights is two sums of 16-bit products, over the low and the high parts of the weights:
// _mm_madd_epi16 makes two products and their sum in each of its lanes. Everything is modulo 2**32, so the
// result is the one of 32-bit multiplications.

#define PENSTOCK_SSE4 __attribute__((target("sse4.1")))
#define PENSTOCK_AVX2 __attribute__((target("avx2")))

/// Two weights, next to each other, in every lane.
std::int32_t pair_at(const std::int16_t* weights, std::int32_t j) noexcept {
  std::int32_t pair = 0;
  std::memcpy(&pair, weights + j, sizeof pair);
  return pair;
}

PENSTOCK_SSE4 inline __m128i load16(const std::uint8_t* bytes) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

PENSTOCK_AVX2 inline __m256i load32(const std::uint8_t* bytes) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

/// From both sums to four samples, 16 bits each.
struct Sums128 {
  __m128i low;
  __m128i high;

  PENSTOCK_SSE4 void add(__m128i samples, std::int32_t low_pair, std::int32_t high_pair) noexcept {
    low = _mm_add_epi32(low, _mm_madd_epi16(samples, _mm_set1_epi32(low_pair)));
    high = _mm_add_epi32(high, _mm_madd_epi16(samples, _mm_set1_epi32(high_pair)));
  }
  [[nodiscard]] PENSTOCK_SSE4 __m128i shifted() const noexcept {
    return _mm_srai_epi32(_mm_add_epi32(low, _mm_slli_epi32(high, AxisWeights::kLowBits)),
                          AxisWeights::kPrecisionBits);
  }
};

PENSTOCK_SSE4 inline Sums128 zero_sums128() noexcept { return {_mm_set1_epi32(kHalf), _mm_setzero_si128()}; }

struct Sums256 {
  __m256i low;
  __m256i high;

  PENSTOCK_AVX2 void add(__m256i samples, std::int32_t low_pair, std::int32_t high_pair) noexcept {
    low = _mm256_add_epi32(low, _mm256_madd_epi16(samples, _mm256_set1_epi32(low_pair)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(samples, _mm256_set1_epi32(high_pair)));
  }
  [[nodiscard]] PENSTOCK_AVX2 __m256i shifted() const noexcept {
    return _mm256_srai_epi32(_mm256_add_epi32(low, _mm256_slli_epi32(high, AxisWeights::kLowBits)),
                             AxisWeights::kPrecisionBits);
  }
};

PENSTOCK_AVX2 inline Sums256 zero_sums256() noexcept {
  return {_mm256_set1_epi32(kHalf), _mm256_setzero_si256()};
}

/// Rows of 4-lane pixels: four pixels a load; a shuffle brings the same lane of two of them together.
class RowSse4 {
 public:
  PENSTOCK_SSE4 RowSse4(const std::uint8_t* in, std::int32_t origin, const AxisWeights& weights) noexcept
      : in_(in), origin_(origin), weights_(&weights) {}

  /// One output pixel, 32 bits a lane.
  [[nodiscard]] PENSTOCK_SSE4 __m128i at(std::int32_t i) const noexcept {
    const __m128i first_two = _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
    const __m128i last_two = _mm_setr_epi8(8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
    const AxisWeights::Window window = weights_->window(i);
    const std::int16_t* const low = weights_->low(i);
    const std::int16_t* const high = weights_->high(i);
    const std::uint8_t* const pixels = in_ + std::int64_t{window.first - origin_} * 4;
    Sums128 sums = zero_sums128();
    for (std::int32_t j = 0; j < window.padded; j += 4) {
      const __m128i four = load16(pixels + std::ptrdiff_t{j} * 4);
      sums.add(_mm_shuffle_epi8(four, first_two), pair_at(low, j), pair_at(high, j));
      if (j + 2 >= window.padded) break;
      sums.add(_mm_shuffle_epi8(four, last_two), pair_at(low, j + 2), pair_at(high, j + 2));
    }
    return sums.shifted();
  }

 private:
  const std::uint8_t* in_;
  std::int32_t origin_;
  const AxisWeights* weights_;
};

PENSTOCK_SSE4 void row4_sse4(const std::uint8_t* in, std::int32_t origin, const AxisWeights& weights,
                             std::uint8_t* out) noexcept {
  const RowSse4 row(in, origin, weights);
  std::int32_t i = 0;
  for (; i + 4 <= weights.size(); i += 4) {
    const __m128i left = _mm_packs_epi32(row.at(i), row.at(i + 1));
    const __m128i right = _mm_packs_epi32(row.at(i + 2), row.at(i + 3));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + std::ptrdiff_t{i} * 4), _mm_packus_epi16(left, right));
  }
  for (; i < weights.size(); ++i) {
    const __m128i words = _mm_packs_epi32(row.at(i), _mm_setzero_si128());
    const std::int32_t pixel = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    std::memcpy(out + std::ptrdiff_t{i} * 4, &pixel, sizeof pixel);
  }
}

/// Two rows at once, one in each half of a vector.
class TwoRowsAvx2 {
 public:
  PENSTOCK_AVX2 TwoRowsAvx2(const std::uint8_t* upper, const std::uint8_t* lower, std::int32_t origin,
                            const AxisWeights& weights) noexcept
      : upper_(upper), lower_(lower), origin_(origin), weights_(&weights) {}

  [[nodiscard]] PENSTOCK_AVX2 __m256i at(std::int32_t i) const noexcept {
    const __m256i first_two =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1));
    const __m256i last_two = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1));
    const AxisWeights::Window window = weights_->window(i);
    const std::int16_t* const low = weights_->low(i);
    const std::int16_t* const high = weights_->high(i);
    const std::int64_t at = std::int64_t{window.first - origin_} * 4;
    Sums256 sums = zero_sums256();
    for (std::int32_t j = 0; j < window.padded; j += 4) {
      const std::int64_t here = at + std::int64_t{j} * 4;
      const __m256i four =
          _mm256_inserti128_si256(_mm256_castsi128_si256(load16(upper_ + here)), load16(lower_ + here), 1);
      sums.add(_mm256_shuffle_epi8(four, first_two), pair_at(low, j), pair_at(high, j));
      if (j + 2 >= window.padded) break;
      sums.add(_mm256_shuffle_epi8(four, last_two), pair_at(low, j + 2), pair_at(high, j + 2));
    }
    return sums.shifted();
  }

 private:
  const std::uint8_t* upper_;
  const std::uint8_t* lower_;
  std::int32_t origin_;
  const AxisWeights* weights_;
};

PENSTOCK_AVX2 void two_rows4_avx2(const PixelView& in, std::int32_t y, std::int32_t origin,
                                  const AxisWeights& weights, const PixelView& out) noexcept {
  const TwoRowsAvx2 rows(in.row(y), in.row(y + 1), origin, weights);
  std::uint8_t* upper = out.row(y);
  std::uint8_t* lower = out.row(y + 1);
  std::int32_t i = 0;
  for (; i + 4 <= weights.size(); i += 4, upper += 16, lower += 16) {
    const __m256i left = _mm256_packs_epi32(rows.at(i), rows.at(i + 1));
    const __m256i right = _mm256_packs_epi32(rows.at(i + 2), rows.at(i + 3));
    const __m256i pixels = _mm256_packus_epi16(left, right);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(upper), _mm256_castsi256_si128(pixels));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lower), _mm256_extracti128_si256(pixels, 1));
  }
  for (; i < weights.size(); ++i, upper += 4, lower += 4) {
    const __m256i words = _mm256_packs_epi32(rows.at(i), _mm256_setzero_si256());
    const __m256i pixels = _mm256_packus_epi16(words, words);
    const std::int32_t upper_pixel = _mm256_extract_epi32(pixels, 0);
    const std::int32_t lower_pixel = _mm256_extract_epi32(pixels, 4);
    std::memcpy(upper, &upper_pixel, sizeof upper_pixel);
    std::memcpy(lower, &lower_pixel, sizeof lower_pixel);
  }
}

/// Rows of single samples: eight neighbours a load.
PENSTOCK_SSE4 void row1_sse4(const std::uint8_t* in, std::int32_t origin, const AxisWeights& weights,
                             std::uint8_t* out) noexcept {
  for (std::int32_t i = 0; i < weights.size(); ++i) {
    const AxisWeights::Window window = weights.window(i);
    const std::uint8_t* const samples = in + (window.first - origin);
    __m128i low = _mm_setzero_si128();
    __m128i high = _mm_setzero_si128();
    for (std::int32_t j = 0; j < window.count; j += AxisWeights::kGroup) {
      const __m128i eight = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(samples + j)));
      const auto* const low_weights = reinterpret_cast<const __m128i*>(weights.low(i) + j);
      const auto* const high_weights = reinterpret_cast<const __m128i*>(weights.high(i) + j);
      low = _mm_add_epi32(low, _mm_madd_epi16(eight, _mm_loadu_si128(low_weights)));
      high = _mm_add_epi32(high, _mm_madd_epi16(eight, _mm_loadu_si128(high_weights)));
    }
    __m128i sum = _mm_add_epi32(low, _mm_slli_epi32(high, AxisWeights::kLowBits));
    sum = _mm_hadd_epi32(sum, sum);
    sum = _mm_hadd_epi32(sum, sum);
    out[i] = clipped(_mm_cvtsi128_si32(sum) + kHalf);
  }
}

/// The rows j and j + 1 of a window, or j twice: then the second weight is zero.
struct RowPair {
  const std::uint8_t* upper;
  const std::uint8_t* lower;

  RowPair(const PixelView& in, std::int32_t first, std::int32_t j, std::int32_t count) noexcept
      : upper(in.row(first + j)), lower(in.row(first + std::min(j + 1, count - 1))) {}
};

/// One output row, 16 samples at a time.
PENSTOCK_SSE4 void column_row_sse4(const PixelView& in, std::int32_t first, std::int32_t count,
                                   const std::int16_t* low, const std::int16_t* high, std::uint8_t* out,
                                   std::int64_t width_bytes) noexcept {
  const __m128i zero = _mm_setzero_si128();
  for (std::int64_t x = 0; x < width_bytes; x += 16) {
    Sums128 sums[4] = {zero_sums128(), zero_sums128(), zero_sums128(), zero_sums128()};
    for (std::int32_t j = 0; j < count; j += 2) {
      const RowPair rows(in, first, j, count);
      const __m128i upper = load16(rows.upper + x);
      const __m128i lower = load16(rows.lower + x);
      const __m128i left = _mm_unpacklo_epi8(upper, lower);
      const __m128i right = _mm_unpackhi_epi8(upper, lower);
      sums[0].add(_mm_unpacklo_epi8(left, zero), pair_at(low, j), pair_at(high, j));
      sums[1].add(_mm_unpackhi_epi8(left, zero), pair_at(low, j), pair_at(high, j));
      sums[2].add(_mm_unpacklo_epi8(right, zero), pair_at(low, j), pair_at(high, j));
      sums[3].add(_mm_unpackhi_epi8(right, zero), pair_at(low, j), pair_at(high, j));
    }
    const __m128i left = _mm_packs_epi32(sums[0].shifted(), sums[1].shifted());
    const __m128i right = _mm_packs_epi32(sums[2].shifted(), sums[3].shifted());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + x), _mm_packus_epi16(left, right));
  }
}

/// The same, 32 at a time. Unpacking and packing both work within halves, so the order comes out right.
PENSTOCK_AVX2 void column_row_avx2(const PixelView& in, std::int32_t first, std::int32_t count,
                                   const std::int16_t* low, const std::int16_t* high, std::uint8_t* out,
                                   std::int64_t width_bytes) noexcept {
  const __m256i zero = _mm256_setzero_si256();
  for (std::int64_t x = 0; x < width_bytes; x += 32) {
    Sums256 sums[4] = {zero_sums256(), zero_sums256(), zero_sums256(), zero_sums256()};
    for (std::int32_t j = 0; j < count; j += 2) {
      const RowPair rows(in, first, j, count);
      const __m256i upper = load32(rows.upper + x);
      const __m256i lower = load32(rows.lower + x);
      const __m256i left = _mm256_unpacklo_epi8(upper, lower);
      const __m256i right = _mm256_unpackhi_epi8(upper, lower);
      sums[0].add(_mm256_unpacklo_epi8(left, zero), pair_at(low, j), pair_at(high, j));
      sums[1].add(_mm256_unpackhi_epi8(left, zero), pair_at(low, j), pair_at(high, j));
      sums[2].add(_mm256_unpacklo_epi8(right, zero), pair_at(low, j), pair_at(high, j));
      sums[3].add(_mm256_unpackhi_epi8(right, zero), pair_at(low, j), pair_at(high, j));
    }
    const __m256i left = _mm256_packs_epi32(sums[0].shifted(), sums[1].shifted());
    const __m256i right = _mm256_packs_epi32(sums[2].shifted(), sums[3].shifted());
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), _mm256_packus_epi16(left, right));
  }
}

void rows4(const PixelView& in, std::int32_t origin, const AxisWeights& weights, const PixelView& out,
           Instructions instructions) noexcept {
  if (instructions == Instructions::kAvx512 && weights.quads().are_dense()) {
    return resize_rows_avx512(in, origin, weights, out);
  }
  std::int32_t y = 0;
  if (instructions >= Instructions::kAvx2) {
    for (; y + 2 <= out.height; y += 2) two_rows4_avx2(in, y, origin, weights, out);
  }
  for (; y < out.height; ++y) row4_sse4(in.row(y), origin, weights, out.row(y));
}

#endif  // PENSTOCK_X86

}  // namespace

void resize_rows(const PixelView& in, std::int32_t origin, const AxisWeights& weights, const PixelView& out,
                 Instructions instructions) noexcept {
#ifdef PENSTOCK_X86
  if (instructions != Instructions::kPortable && in.type.sample_bytes == 1) {
    if (in.type.lanes() == 4) return rows4(in, origin, weights, out, instructions);
    for (std::int32_t y = 0; y < out.height; ++y) row1_sse4(in.row(y), origin, weights, out.row(y));
    return;
  }
#endif
  (void)instructions;
  rows_portable(in, origin, weights, out);
}

void resize_columns(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                    const PixelView& out, Instructions instructions) noexcept {
#ifdef PENSTOCK_X86
  if (instructions != Instructions::kPortable && in.type.sample_bytes == 1) {
    if (instructions == Instructions::kAvx512 && weights.quads().are_there()) {
      return resize_columns_avx512(in, origin, weights, out);
    }
    const auto row = instructions >= Instructions::kAvx2 ? &column_row_avx2 : &column_row_sse4;
    const std::int64_t width_bytes = std::int64_t{in.width} * in.type.pixel_bytes();
    for (std::int32_t i = 0; i < out.height; ++i) {  // in this order: a row may write into the ones below
      const AxisWeights::Window window = weights.window(i);
      row(in, window.first - origin, window.count, weights.low(i), weights.high(i), out.row(i), width_bytes);
    }
    return;
  }
#endif
  (void)instructions;
  columns_portable(in, origin, weights, out);
}

}  // namespace penstock
