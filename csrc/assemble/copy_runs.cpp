#include "assemble/copy_runs.h"

#include <algorithm>
#include <array>

#include "assemble/copy_rows.h"

namespace penstock {
namespace {

constexpr std::int64_t kFarthest = 32;  // rows ahead: where the run begins,
constexpr std::int64_t kFar = 16;       // its first line,
constexpr std::int64_t kNear = 8;       // and the others

struct Run {
  const std::byte* values;
  std::int64_t count;
};

Run look_up(const RunCopy& work, std::int64_t i) noexcept {
  const std::int64_t* const offset = work.offsets + work.rows[i];
  const std::int64_t length = offset[1] - offset[0];
  const std::int64_t count = work.arrangement->kept(length);
  if (count == 0) return {nullptr, 0};
  const Location at = work.locator.locate(offset[0] + work.arrangement->first_kept(length));
  const ShardView& view = work.views[at.shard];
  const std::byte* const values = view.first_row + at.row * view.row_stride;
  __builtin_prefetch(values, 0, 2);
  return {values, count};
}

}  // namespace

void copy_runs(RunCopy& work_and_place) noexcept {
  const RunCopy work = work_and_place;  // a copy no store can alias: stays in registers
  std::array<Run, kFar> coming;
  const auto slot = [](std::int64_t i) { return static_cast<std::size_t>(i & (kFar - 1)); };
  const auto bring = [&](std::int64_t i) {
    const Run& run = coming[slot(i)];
    prefetch_row(run.values, run.count * work.arrangement->value_bytes());
  };
  for (std::int64_t i = 0; i < std::min(kFar, work.num_rows); ++i) coming[slot(i)] = look_up(work, i);
  for (std::int64_t i = 0; i < std::min(kNear, work.num_rows); ++i) bring(i);
  std::byte* place = work.place;
  for (std::int64_t i = 0; i < work.num_rows; ++i) {
    const Run run = coming[slot(i)];
    if (i + kFarthest < work.num_rows) __builtin_prefetch(work.offsets + work.rows[i + kFarthest], 0, 2);
    if (i + kFar < work.num_rows) coming[slot(i)] = look_up(work, i + kFar);
    if (i + kNear < work.num_rows) bring(i + kNear);
    place = work.arrangement->put(place, run.values, run.count);
  }
  work_and_place.place = place;
}

}  // namespace penstock
