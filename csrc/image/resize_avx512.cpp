#include "image/resize_avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace penstock {
namespace {

// _mm256_dpbusd_epi32 makes four products of a sample and a signed byte in each of its lanes and adds them
// up. A sum of samples * weights is made of three such, by Horner's scheme: that with the highest digits,
// times 2**8, and so on. Everything is modulo 2**32, so the result is the one of 32-bit multiplications.
//
// Why not vectors of 512 bits: behind a multiplication of those the processor lowers its clock for a while,
// and most of that while is the decoder's.

#define PENSTOCK_AVX512 __attribute__((target("avx512vl,avx512bw,avx512vbmi,avx512vnni")))
#define PENSTOCK_AVX512_INLINE \
  __attribute__((target("avx512vl,avx512bw,avx512vbmi,avx512vnni"), always_inline)) inline

constexpr std::int32_t kDigits = WeightQuads::kDigits;
constexpr std::int32_t kSize = WeightQuads::kSize;
constexpr std::ptrdiff_t kPairBytes = WeightQuads::kPairBytes;

PENSTOCK_AVX512_INLINE __m256i load32(const std::uint8_t* bytes) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

PENSTOCK_AVX512_INLINE void store16(std::uint8_t* bytes, __m128i samples) noexcept {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), samples);
}

/// Four bytes in every lane.
PENSTOCK_AVX512_INLINE __m256i everywhere(const std::int8_t* four) noexcept {
  std::int32_t lane = 0;
  std::memcpy(&lane, four, sizeof lane);
  return _mm256_set1_epi32(lane);
}

/// Four bytes in the even lanes, the four behind them in the odd ones.
PENSTOCK_AVX512_INLINE __m256i in_turn(const void* eight) noexcept {
  std::int64_t lanes = 0;
  std::memcpy(&lanes, eight, sizeof lanes);
  return _mm256_set1_epi64x(lanes);
}

/// Any byte to any place. Masked, but nothing is masked out: of the plain one gcc 12 believes that it reads
/// what is not initialised.
PENSTOCK_AVX512_INLINE __m256i shuffled(__m256i bytes, __m256i places) noexcept {
  return _mm256_maskz_permutexvar_epi8(0xffffffffU, places, bytes);
}

/// What four vectors of sums are made of: in each lane four samples, and the weights, which all of them
/// share.
template <int kQuads>
struct Terms {
  __m256i samples[4][kQuads];
  __m256i weights[kQuads][kDigits];

  /// Output samples: of all four vectors the lower halves, then the upper ones.
  [[nodiscard]] PENSTOCK_AVX512_INLINE __m256i sums() const noexcept {
    return _mm256_packus_epi16(_mm256_packs_epi32(sum(0), sum(1)), _mm256_packs_epi32(sum(2), sum(3)));
  }

 private:
  [[nodiscard]] PENSTOCK_AVX512_INLINE __m256i sum(int vector) const noexcept {
    constexpr int kDigitBits = 8;
    constexpr int kHalf = 1 << (AxisWeights::kPrecisionBits - 1);
    __m256i sum = _mm256_set1_epi32(kHalf >> (kDigitBits * (kDigits - 1)));
    for (int digit = kDigits - 1; digit >= 0; --digit) {
      for (int quad = 0; quad < kQuads; ++quad) {
        sum = _mm256_dpbusd_epi32(sum, samples[vector][quad], weights[quad][digit]);
      }
      if (digit > 0) sum = _mm256_slli_epi32(sum, kDigitBits);
    }
    return _mm256_srai_epi32(sum, AxisWeights::kPrecisionBits);
  }
};

using FourRows = std::array<std::uint8_t*, 4>;

/// The rows y to y + 3, or the last one again.
FourRows four_rows(const PixelView& view, std::int32_t y, std::int32_t last) noexcept {
  return {view.row(std::min(y, last)), view.row(std::min(y + 1, last)), view.row(std::min(y + 2, last)),
          view.row(std::min(y + 3, last))};
}

/// Where a WeightQuads has what belongs to a pair of output pixels.
template <int kQuads>
struct Pair {
  const std::int8_t* digits;
  const std::int32_t* firsts;
  const std::uint8_t* offsets;

  [[nodiscard]] Pair next() const noexcept {
    return {digits + kPairBytes * kQuads * kDigits, firsts + kQuads, offsets + kPairBytes};
  }
};

/// A pair of output pixels in four rows, end to end. A shuffle of 32 bytes brings four samples of a channel
/// together: of one pixel in the even lanes, of the other in the odd ones.
template <int kQuads>
PENSTOCK_AVX512_INLINE __m256i two_pixels(const FourRows& in, std::int32_t origin,
                                          const Pair<kQuads>& pair) noexcept {
  const __m256i channels = _mm256_setr_epi8(0, 4, 8, 12, 0, 4, 8, 12, 1, 5, 9, 13, 1, 5, 9, 13,  //
                                            2, 6, 10, 14, 2, 6, 10, 14, 3, 7, 11, 15, 3, 7, 11, 15);
  const __m256i by_row = _mm256_setr_epi8(0, 2, 16, 18, 1, 3, 17, 19, 4, 6, 20, 22, 5, 7, 21, 23,  //
                                          8, 10, 24, 26, 9, 11, 25, 27, 12, 14, 28, 30, 13, 15, 29, 31);
  const __m256i places = _mm256_add_epi8(channels, in_turn(pair.offsets));
  Terms<kQuads> terms;
  for (int quad = 0; quad < kQuads; ++quad) {
    const std::ptrdiff_t x = std::ptrdiff_t{pair.firsts[quad] - origin} * 4;
    for (std::size_t k = 0; k < 4; ++k) {
      terms.samples[k][quad] = shuffled(load32(in[k] + x), places);
    }
    for (int digit = 0; digit < kDigits; ++digit) {
      terms.weights[quad][digit] = in_turn(pair.digits + (quad * kDigits + digit) * kPairBytes);
    }
  }
  return shuffled(terms.sums(), by_row);
}

/// Four output pixels at a time, also at the end: a PixelBuffer's rows are a multiple of them apart.
template <int kQuads>
PENSTOCK_AVX512 void put_four_rows(FourRows in, std::int32_t origin, const AxisWeights& weights,
                                   FourRows out) noexcept {
  const WeightQuads& quads = weights.quads();
  const std::int32_t size = weights.size();
  Pair<kQuads> pair{quads.digits(0), quads.firsts(), quads.offsets()};
  for (std::int32_t i = 0; i < size; i += 4) {
    const __m256i left = two_pixels(in, origin, pair);
    const __m256i right = two_pixels(in, origin, pair.next());
    const __m256i even = _mm256_unpacklo_epi64(left, right);
    const __m256i odd = _mm256_unpackhi_epi64(left, right);
    const std::ptrdiff_t x = std::ptrdiff_t{i} * 4;
    store16(out[0] + x, _mm256_castsi256_si128(even));
    store16(out[1] + x, _mm256_castsi256_si128(odd));
    store16(out[2] + x, _mm256_extracti128_si256(even, 1));
    store16(out[3] + x, _mm256_extracti128_si256(odd, 1));
    pair = pair.next().next();
  }
}

/// One output row, 32 samples at a time. Unpacking and packing both work within halves, so the order comes
/// out right.
template <int kQuads>
PENSTOCK_AVX512 void put_column_row(const PixelView& in, std::int32_t first, std::int32_t count,
                                    const std::int8_t* digits, std::uint8_t* out,
                                    std::int64_t width_bytes) noexcept {
  Terms<kQuads> terms;
  FourRows rows[kQuads];
  for (int quad = 0; quad < kQuads; ++quad) {
    rows[quad] = four_rows(in, first + quad * kSize, first + count - 1);
    for (int digit = 0; digit < kDigits; ++digit) {
      terms.weights[quad][digit] = everywhere(digits + (quad * kDigits + digit) * kPairBytes);
    }
  }
  for (std::int64_t x = 0; x < width_bytes; x += 32) {
    for (int quad = 0; quad < kQuads; ++quad) {
      const __m256i samples[4] = {load32(rows[quad][0] + x), load32(rows[quad][1] + x),
                                  load32(rows[quad][2] + x), load32(rows[quad][3] + x)};
      const __m256i a = _mm256_unpacklo_epi8(samples[0], samples[1]);
      const __m256i b = _mm256_unpackhi_epi8(samples[0], samples[1]);
      const __m256i c = _mm256_unpacklo_epi8(samples[2], samples[3]);
      const __m256i d = _mm256_unpackhi_epi8(samples[2], samples[3]);
      terms.samples[0][quad] = _mm256_unpacklo_epi16(a, c);
      terms.samples[1][quad] = _mm256_unpackhi_epi16(a, c);
      terms.samples[2][quad] = _mm256_unpacklo_epi16(b, d);
      terms.samples[3][quad] = _mm256_unpackhi_epi16(b, d);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), terms.sums());
  }
}

}  // namespace

void resize_rows_avx512(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                        const PixelView& out) noexcept {
  constexpr std::array kKernels{&put_four_rows<1>, &put_four_rows<2>, &put_four_rows<3>};
  static_assert(kKernels.size() == WeightQuads::kMost);
  const auto put = kKernels[static_cast<std::size_t>(weights.quads().per_window() - 1)];
  const std::int32_t last = out.height - 1;
  for (std::int32_t y = 0; y < out.height; y += 4) {
    put(four_rows(in, y, last), origin, weights, four_rows(out, y, last));
  }
}

void resize_columns_avx512(const PixelView& in, std::int32_t origin, const AxisWeights& weights,
                           const PixelView& out) noexcept {
  constexpr std::array kKernels{&put_column_row<1>, &put_column_row<2>, &put_column_row<3>};
  static_assert(kKernels.size() == WeightQuads::kMost);
  const std::int64_t width_bytes = std::int64_t{in.width} * in.type.pixel_bytes();
  for (std::int32_t i = 0; i < out.height; ++i) {  // in this order: a row may write into the ones below
    const AxisWeights::Window window = weights.window(i);
    const auto put = kKernels[static_cast<std::size_t>((window.count - 1) / kSize)];
    const std::int8_t* const digits = weights.quads().digits(i);
    put(in, window.first - origin, window.count, digits, out.row(i), width_bytes);
  }
}

}  // namespace penstock

#endif
