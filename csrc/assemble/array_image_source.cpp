#include "assemble/array_image_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "assemble/copy_rows.h"
#include "assemble/gather.h"
#include "base/error.h"
#include "base/random.h"
#include "storage/fault_guard.h"

namespace penstock {
namespace {

/// Which dimension of a row is which; channels may be none.
struct Dimensions {
  std::size_t height;
  std::size_t width;
  std::optional<std::size_t> channels;
};

Dimensions dimensions_of(const Column& rows, Layout layout) noexcept {
  if (rows.row_shape().size() == 2) return {0, 1, std::nullopt};
  if (layout == Layout::kChannelsFirst) return {1, 2, 0};
  return {0, 1, 2};
}

struct Shape {
  ImagePlan::Size size;
  std::int32_t channels;
};

Shape require_images(const Column& rows, Layout layout) {
  const auto& shape = rows.row_shape();
  const Dimensions at = dimensions_of(rows, layout);
  const bool has_dimensions = shape.size() == 2 || shape.size() == 3;
  const std::int64_t channels = has_dimensions && at.channels ? shape[*at.channels] : 1;
  const auto is_side = [](std::int64_t side) { return side >= 1 && side <= kLongestSide; };
  if (!has_dimensions || rows.dtype() != DType::kUInt8 || channels < 1 || channels > 4 ||
      !is_side(shape[at.width]) || !is_side(shape[at.height])) {
    throw Error(ErrorKind::kSchema, "these rows are no images")
        .in_field(rows.name())
        .needed("uint8, (height, width), with 1 to 4 channels before or behind");
  }
  return {{static_cast<std::int32_t>(shape[at.width]), static_cast<std::int32_t>(shape[at.height])},
          static_cast<std::int32_t>(channels)};
}

SampleSteps steps_from(const Dimensions& at, std::span<const std::int64_t> strides) noexcept {
  return {strides[at.width], at.channels ? strides[*at.channels] : 0, strides[at.height]};
}

/// Of rows that were read into memory.
SampleSteps steps_in_memory(const Column& rows, Layout layout) noexcept {
  std::array<std::int64_t, 3> strides{};
  std::int64_t bytes = 1;
  for (std::size_t i = rows.row_shape().size(); i-- > 0;) {
    strides[i] = bytes;
    bytes *= rows.row_shape()[i];
  }
  return steps_from(dimensions_of(rows, layout), strides);
}

Field field_of(const ArrayImageSource::Parts& parts, ImagePlan::Size size) {
  const Finisher& finisher = parts.pipeline->finisher();
  const FinishPlan& finish = finisher.plan();
  std::vector<std::int64_t> shape{size.height, size.width};
  if (parts.has_channels) {
    shape.insert(finish.layout == Layout::kChannelsFirst ? shape.begin() : shape.end(), finish.channels);
  }
  return {parts.rows->name(), finish.dtype, std::move(shape), finisher.bytes(size.width, size.height)};
}

bool are_alike(const ArrayImageSource::Parts& a, const ArrayImageSource::Parts& b) noexcept {
  return a.layout == b.layout && a.fill == b.fill && a.has_channels == b.has_channels && a.key == b.key &&
         *a.steps == *b.steps && a.pipeline->finisher().plan() == b.pipeline->finisher().plan() &&
         a.pipeline->options().filter == b.pipeline->options().filter &&
         a.pipeline->options().rule == b.pipeline->options().rule;
}

}  // namespace

/// One row on its way: the part of it that is seen, and where that is in the sample.
struct ArrayImageSource::Job {
  std::int64_t row;
  SampleView pixels;
  Rect place;
  bool flip_horizontally;
  bool flip_vertically;
  bool is_buffered;  ///< the pixels lie in a buffer of the thread's, which the next job may need
  std::byte* out;
};

/// What all rows have in common.
class ArrayImageSource::Slice {
 public:
  explicit Slice(const ArrayImageSource& source)
      : finisher_(&source.parts_.pipeline->finisher()),
        size_(source.size_),
        fill_(source.parts_.fill),
        steps_(close_steps(size_.width, size_.height, source.channels_,
                           steps_in_memory(*source.parts_.rows, source.parts_.layout))) {}

  /// To be called for every job before it is run.
  void prepare(const Job& job) {
    if (fills(job)) return;
    thread_local std::vector<std::uint8_t> buffer;
    buffer.resize(static_cast<std::size_t>(size_.width) * static_cast<std::size_t>(size_.height) *
                  static_cast<std::size_t>(finisher_->plan().channels));
    bordered_ = buffer;
  }

  /// Owns nothing and allocates nothing: safe under the fault guard.
  void run(const Job& job) const noexcept {
    const SampleView samples = fills(job) ? job.pixels : with_border(job);
    finisher_->run(samples, job.flip_horizontally, job.flip_vertically,
                   finisher_->packed(job.out, samples.width, samples.height), instructions_);
  }

 private:
  [[nodiscard]] bool fills(const Job& job) const noexcept {
    return job.place.width == size_.width && job.place.height == size_.height;
  }

  [[nodiscard]] SampleView with_border(const Job& job) const noexcept {
    std::memset(bordered_.data(), fill_, bordered_.size());
    copy_samples(job.pixels, finisher_->plan().channels,
                 bordered_.data() + job.place.y * steps_.row + job.place.x * steps_.pixel, steps_);
    return {bordered_.data(), size_.width, size_.height, steps_};
  }

  const Finisher* finisher_;
  Instructions instructions_ = best_instructions();
  ImagePlan::Size size_;
  std::uint8_t fill_;
  SampleSteps steps_;                 ///< of a sample with a border
  std::span<std::uint8_t> bordered_;  ///< where it is put together
};

ArrayImageSource::ArrayImageSource(Parts parts)
    : parts_(std::move(parts)), rows_(std::make_shared<ColumnSource>(parts_.rows)) {
  const Shape shape = require_images(*parts_.rows, parts_.layout);
  channels_ = shape.channels;
  in_size_ = shape.size;
  const std::int32_t wanted = parts_.pipeline->finisher().plan().channels;
  if (channels_ != wanted || (!parts_.has_channels && channels_ != 1)) {
    throw Error(ErrorKind::kSchema, "the images have another number of channels")
        .in_field(parts_.rows->name())
        .needed(std::to_string(wanted))
        .found(std::to_string(channels_));
  }
  const SamplePlan any = plan(0);
  size_ = {any.window.width, any.window.height};
  field_ = field_of(parts_, size_);
  constexpr std::int64_t kToResize = 8;  // bytes that could be copied while one is resized
  const std::int64_t read = std::int64_t{in_size_.width} * in_size_.height * channels_;
  row_work_ = field_.row_bytes + (any.resize ? kToResize * read : std::min(read, field_.row_bytes));
}

SamplePlan ArrayImageSource::plan(std::int64_t row) const {
  return parts_.steps->plan(in_size_,
                            RandomSequence(derive_key(parts_.key, static_cast<std::uint64_t>(row))));
}

void ArrayImageSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  constexpr std::size_t kMostJobs = 32;
  if (rows.empty()) return;
  (void)parts_.rows->views();
  parts_.rows->advise_for(rows);
  Slice slice(*this);
  std::array<Job, kMostJobs> jobs;
  std::size_t count = 0;
  std::byte* out = outs.front();
  for (const std::int64_t row : rows) {
    const Job& job = jobs[count++] = job_of(row, out);
    out += field_.row_bytes;
    slice.prepare(job);
    if (count < kMostJobs && !job.is_buffered) continue;
    run(slice, std::span(jobs).first(count));
    count = 0;
  }
  run(slice, std::span(jobs).first(count));
  parts_.rows->check_now_and_then();
}

ArrayImageSource::Job ArrayImageSource::job_of(std::int64_t row, std::byte* out) const {
  const SamplePlan plan = this->plan(row);
  const Rect seen = overlap(plan.window, plan.visible);
  const Rect place{seen.x - plan.window.x, seen.y - plan.window.y, seen.width, seen.height};
  Job job{row, {}, place, plan.flip_horizontally, plan.flip_vertically, false, out};
  if (seen.width == 0 || seen.height == 0) {
    job.place = {0, 0, 0, 0};
    return job;
  }
  const SampleView image = image_of(row, job.is_buffered);
  job.pixels = plan.resize ? resized(row, image, plan, seen) : image.part(seen);
  job.is_buffered = job.is_buffered || plan.resize;
  return job;
}

SampleView ArrayImageSource::image_of(std::int64_t row, bool& is_buffered) const {
  Column& column = *parts_.rows;
  const Location at = column.index().locate(row);
  const ShardView& view = column.views()[static_cast<std::size_t>(at.shard)];
  is_buffered = view.first_row == nullptr;
  const std::byte* first = nullptr;
  if (is_buffered) {
    thread_local std::vector<std::byte> buffer;
    buffer.resize(static_cast<std::size_t>(column.row_bytes()));
    gather_slice(column, {&row, 1}, buffer.data());
    first = buffer.data();
  } else {
    first = view.first_row + at.row * view.row_stride;
  }
  const SampleSteps steps =
      is_buffered ? steps_in_memory(column, parts_.layout)
                  : steps_from(dimensions_of(column, parts_.layout), column.layout_of(at.shard).strides);
  return {reinterpret_cast<const std::uint8_t*>(first), in_size_.width, in_size_.height, steps};
}

SampleView ArrayImageSource::resized(std::int64_t row, const SampleView& image, const SamplePlan& plan,
                                     const Rect& seen) const {
  ImageScratch& scratch = thread_image_scratch();
  const Rect& crop = *plan.crop;
  const ImagePlan::Size size = *plan.resize;
  const Box whole{0, 0, static_cast<float>(crop.width), static_cast<float>(crop.height)};
  const ImageOptions& options = parts_.pipeline->options();
  const ResizePlan resize_plan{crop.width,  crop.height, whole,          size.width,
                               size.height, seen,        options.filter, options.rule};
  check_resize(resize_plan);
  const Rect needed = resize_needs(resize_plan, scratch.resize);
  const PixelView pixels = scratch.stored.reset(needed.width, needed.height, {channels_, 1});
  copy_guarded(row, image.part({crop.x + needed.x, crop.y + needed.y, needed.width, needed.height}), pixels);
  return samples_of(
      resize(resize_plan, pixels, needed.x, needed.y, scratch.resized, scratch.resize, best_instructions()));
}

void ArrayImageSource::copy_guarded(std::int64_t row, const SampleView& from, const PixelView& to) const {
  struct Copy {
    const SampleView* from;
    const PixelView* to;
    std::int32_t channels;
  } copy{&from, &to, channels_};
  const auto body = [](void* context) {
    const auto& [in, out, channels] = *static_cast<Copy*>(context);
    copy_samples(*in, channels, out->data, samples_of(*out).steps);
  };
  const void* fault = run_guarded(body, &copy);
  if (fault != nullptr) parts_.rows->raise_fault(fault, std::optional(row));
}

void ArrayImageSource::run(const Slice& slice, std::span<const Job> jobs) const {
  struct Work {
    const Slice* slice;
    std::span<const Job> jobs;
  } work{&slice, jobs};
  const auto body = [](void* context) {
    const Work& all = *static_cast<Work*>(context);
    for (std::size_t i = 0; i < all.jobs.size(); ++i) {
      if (i + 1 < all.jobs.size()) {
        const SampleView& next = all.jobs[i + 1].pixels;
        prefetch_row(reinterpret_cast<const std::byte*>(next.data), next.height * next.steps.row);
      }
      all.slice->run(all.jobs[i]);
    }
  };
  const void* fault = run_guarded(body, &work);
  if (fault == nullptr) return;
  std::vector<std::int64_t> rows;
  for (const Job& job : jobs) rows.push_back(job.row);
  parts_.rows->raise_fault(fault, rows);
}

std::uint64_t ArrayImageSource::fingerprint() const {
  return mix64(fingerprint_of(fields()) ^ mix64(rows_->fingerprint()));
}

std::shared_ptr<Source> ArrayImageSource::select(std::size_t /*field*/) { return shared_from_this(); }

std::shared_ptr<Source> ArrayImageSource::followed_by(const Source& other) const {
  const auto* images = dynamic_cast<const ArrayImageSource*>(&other);
  if (images == nullptr) throw different_kinds(field_);
  if (!are_alike(parts_, images->parts_)) {
    throw Error(ErrorKind::kSchema, "the datasets disagree in what is done to their images")
        .in_field(field_.name);
  }
  Parts parts = parts_;
  parts.rows = concatenate(*parts_.rows, *images->parts_.rows);
  return std::make_shared<ArrayImageSource>(std::move(parts));
}

std::shared_ptr<Source> ArrayImageSource::in_epoch(std::uint64_t key) {
  if (!is_random() || key == parts_.key) return shared_from_this();
  Parts parts = parts_;
  parts.key = key;
  return std::make_shared<ArrayImageSource>(std::move(parts));
}

}  // namespace penstock
