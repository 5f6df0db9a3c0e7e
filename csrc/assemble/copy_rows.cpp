#include "assemble/copy_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock {
namespace {

constexpr std::int64_t kLine = 64;

using Kernel = void (*)(const RowCopy&) noexcept;

[[gnu::always_inline]] inline const std::byte* address_of(const RowCopy& work, std::int64_t i) noexcept {
  const Location at = work.locator.locate(work.rows[i]);
  const ShardView& view = work.views[at.shard];
  return view.first_row + at.row * view.row_stride;
}

// --- rows of at most 256 bytes ---------------------------------------------------------------------

/// One load and one store, as wide as the function this ends up in allows.
template <int Width>
[[gnu::always_inline]] inline void move(std::byte* to, const std::byte* from) noexcept {
  using Vector [[gnu::vector_size(Width)]] = char;
  Vector block;
  std::memcpy(&block, from, sizeof(block));
  std::memcpy(to, &block, sizeof(block));
}

/// 16 * (Blocks - 1) < bytes <= 16 * Blocks, Blocks > 1: the last block overlaps the one before.
template <int Blocks>
struct CopyBlocks {
  static void copy(std::byte* to, const std::byte* from, std::int64_t bytes) noexcept {
    for (std::ptrdiff_t i = 0; i < Blocks - 1; ++i) move<16>(to + 16 * i, from + 16 * i);
    move<16>(to + bytes - 16, from + bytes - 16);
  }
};

/// Exactly Bytes.
template <int Bytes>
struct CopyExactly {
  static void copy(std::byte* to, const std::byte* from, std::int64_t) noexcept {
    std::memcpy(to, from, static_cast<std::size_t>(Bytes));
  }
};

struct CopyAny {
  static void copy(std::byte* to, const std::byte* from, std::int64_t bytes) noexcept {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
  }
};

/// A row of some lines, of which the processor brings those between by itself: the one it begins in, then the
/// one it ends in, into L1.
struct PrefetchEnds {
  static constexpr std::int64_t kFar = 32;
  static constexpr std::int64_t kNear = 16;
  static void near(const std::byte* row, std::int64_t bytes) noexcept {
    __builtin_prefetch(row + bytes - 1, 0, 3);
  }
};

/// A row of at most a line's bytes: a second line only where it reaches into one.
struct PrefetchOneOrTwo : PrefetchEnds {
  static void near(const std::byte* row, std::int64_t bytes) noexcept {
    const std::uint64_t place = reinterpret_cast<std::uintptr_t>(row) % kLine;
    if (place + static_cast<std::uint64_t>(bytes) > kLine) PrefetchEnds::near(row, bytes);
  }
};

// --- rows of some cache lines ----------------------------------------------------------------------

/// All lines of a row into L2 (the L1's few miss buffers would be the limit, not the memory), and the one
/// after them: measured a tenth faster on Intel. Lines: how many there are, or 0 when not known at compile
/// time; then no more than 2 KiB are asked for.
template <int Lines>
struct PrefetchLines {
  static constexpr std::int64_t kFar = 16;
  static constexpr std::int64_t kNear = 8;
  static constexpr std::int64_t kMostBytes = 2048;
  static void near(const std::byte* row, std::int64_t bytes) noexcept {
    const std::int64_t end = Lines > 0 ? Lines * kLine : std::min(bytes, kMostBytes);
    for (std::int64_t at = kLine; at <= end; at += kLine) __builtin_prefetch(row + at, 0, 2);
  }
};

/// Keeps kFar rows looked up and their pages walked to, and kNear rows on their way, while it copies.
template <typename Copy, typename Prefetch>
void copy_pipelined(const RowCopy& borrowed) noexcept {
  constexpr std::int64_t kFar = Prefetch::kFar;
  constexpr std::int64_t kNear = Prefetch::kNear;
  const RowCopy work = borrowed;  // a copy no store can alias: stays in registers
  std::array<const std::byte*, kFar> coming;
  const auto slot = [](std::int64_t i) { return static_cast<std::size_t>(i & (kFar - 1)); };
  const auto look_up = [&](std::int64_t i) {
    const std::byte* row = address_of(work, i);
    __builtin_prefetch(row, 0, 2);
    return row;
  };
  const std::int64_t far_end = std::min(kFar, work.num_rows);
  for (std::int64_t i = 0; i < far_end; ++i) coming[slot(i)] = look_up(i);
  const std::int64_t near_end = std::min(kNear, work.num_rows);
  for (std::int64_t i = 0; i < near_end; ++i) Prefetch::near(coming[slot(i)], work.row_bytes);

  std::byte* out = work.out;
  std::int64_t i = 0;
  for (; i + kFar < work.num_rows; ++i, out += work.row_bytes) {
    const std::byte* row = std::exchange(coming[slot(i)], look_up(i + kFar));
    Prefetch::near(coming[slot(i + kNear)], work.row_bytes);
    Copy::copy(out, row, work.row_bytes);
  }
  for (; i < work.num_rows; ++i, out += work.row_bytes) {
    if (i + kNear < work.num_rows) Prefetch::near(coming[slot(i + kNear)], work.row_bytes);
    Copy::copy(out, coming[slot(i)], work.row_bytes);
  }
}

// --- rows of pages ---------------------------------------------------------------------------------

#if defined(__SSE2__)

/// Stores past the cache: a batch this large would only evict what the training loop needs.
void copy_streaming(std::byte* to, const std::byte* from, std::int64_t bytes) noexcept {
  constexpr std::int64_t kPrefetchAhead = 4096;
  const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) & 15U);
  const std::int64_t head = misaligned == 0 ? 0 : 16 - misaligned;
  std::memcpy(to, from, static_cast<std::size_t>(head));
  std::int64_t at = head;
  for (; at + kLine <= bytes; at += kLine) {
    __builtin_prefetch(from + at + kPrefetchAhead, 0, 2);
    for (std::int64_t i = at; i < at + kLine; i += 16) {
      const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), block);
    }
  }
  std::memcpy(to + at, from + at, static_cast<std::size_t>(bytes - at));
}

void finish_streaming() noexcept { _mm_sfence(); }

#else

void copy_streaming(std::byte* to, const std::byte* from, std::int64_t bytes) noexcept {
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

void finish_streaming() noexcept {}

#endif

void copy_large(const RowCopy& work) noexcept {
  std::byte* out = work.out;
  for (std::int64_t i = 0; i < work.num_rows; ++i, out += work.row_bytes) {
    if (i + 1 < work.num_rows) PrefetchLines<0>::near(address_of(work, i + 1), work.row_bytes);
    copy_streaming(out, address_of(work, i), work.row_bytes);
  }
  finish_streaming();
}

// --- the choice ------------------------------------------------------------------------------------

constexpr std::int64_t kMostBlockBytes = 256;
constexpr std::int64_t kMostCountedBytes = 1024;

template <int Blocks>
using PrefetchBlocks = std::conditional_t<(Blocks <= kLine / 16), PrefetchOneOrTwo, PrefetchEnds>;

/// For 17 to kMostBlockBytes bytes: one kernel for every 16.
template <int... Index>
constexpr auto block_kernels(std::integer_sequence<int, Index...>) noexcept {
  return std::array<Kernel, sizeof...(Index)>{
      &copy_pipelined<CopyBlocks<Index + 2>, PrefetchBlocks<Index + 2>>...};
}

/// For kMostBlockBytes + 1 to kMostCountedBytes bytes: one kernel for every 64.
template <int... Index>
constexpr auto line_kernels(std::integer_sequence<int, Index...>) noexcept {
  constexpr int kFirst = kMostBlockBytes / kLine + 1;
  return std::array<Kernel, sizeof...(Index)>{&copy_pipelined<CopyAny, PrefetchLines<Index + kFirst>>...};
}

constexpr std::int64_t kMostCachedBytes = 16384;
constexpr std::int64_t kLeastStreamedBatch = std::int64_t{1} << 20U;

Kernel choose(std::int64_t row_bytes, std::int64_t num_rows) noexcept {
  constexpr int kBlocks = kMostBlockBytes / 16 - 1;
  constexpr int kLines = (kMostCountedBytes - kMostBlockBytes) / kLine;
  static constexpr auto kBlockKernels = block_kernels(std::make_integer_sequence<int, kBlocks>{});
  static constexpr auto kLineKernels = line_kernels(std::make_integer_sequence<int, kLines>{});
  switch (row_bytes) {
    case 1: return &copy_pipelined<CopyExactly<1>, PrefetchOneOrTwo>;
    case 2: return &copy_pipelined<CopyExactly<2>, PrefetchOneOrTwo>;
    case 4: return &copy_pipelined<CopyExactly<4>, PrefetchOneOrTwo>;
    case 8: return &copy_pipelined<CopyExactly<8>, PrefetchOneOrTwo>;
    case 12: return &copy_pipelined<CopyExactly<12>, PrefetchOneOrTwo>;
    case 16: return &copy_pipelined<CopyExactly<16>, PrefetchOneOrTwo>;
    default: break;
  }
  if (row_bytes < 16) return &copy_pipelined<CopyAny, PrefetchOneOrTwo>;
  if (row_bytes <= kMostBlockBytes) return kBlockKernels[static_cast<std::size_t>((row_bytes - 17) / 16)];
  if (row_bytes <= kMostCountedBytes) {
    return kLineKernels[static_cast<std::size_t>((row_bytes - kMostBlockBytes - 1) / kLine)];
  }
  const bool streams = row_bytes > kMostCachedBytes && num_rows * row_bytes >= kLeastStreamedBatch;
  return streams ? &copy_large : &copy_pipelined<CopyAny, PrefetchLines<0>>;
}

}  // namespace

void prefetch_row(const std::byte* row, std::int64_t bytes) noexcept {
  __builtin_prefetch(row, 0, 2);
  PrefetchLines<0>::near(row, bytes);
}

void copy_rows(const RowCopy& work) noexcept {
  if (work.num_rows > 0 && work.row_bytes > 0) choose(work.row_bytes, work.num_rows)(work);
}

}  // namespace penstock
