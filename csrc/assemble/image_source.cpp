#include "assemble/image_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "assemble/image_batch.h"
#include "base/error.h"
#include "base/random.h"

namespace penstock {
namespace {

constexpr std::size_t kImage = 0;

std::vector<std::int64_t> shape_of(const FinishPlan& finish, ImagePlan::Size size) {
  if (finish.layout == Layout::kChannelsLast) return {size.height, size.width, finish.channels};
  return {finish.channels, size.height, size.width};
}

Field image_field(const ImageSource::Parts& parts) {
  const Finisher& finisher = parts.pipeline->finisher();
  const auto [width, height] = parts.size.value_or(ImagePlan::Size{1, 1});
  const std::int64_t bytes = finisher.bytes(width, height);
  const bool is_ragged = !parts.size;
  return {"image",
          finisher.plan().dtype,
          shape_of(finisher.plan(), parts.size.value_or(ImagePlan::Size{-1, -1})),
          bytes,
          is_ragged,
          is_ragged};
}

/// A window of `size` filled with border, and at `place` of it these pixels (none where `is_empty`).
PixelView bordered(const PixelView& pixels, const Rect& place, ImagePlan::Size size, std::uint8_t fill,
                   bool is_empty) {
  thread_local PixelBuffer buffer;
  const PixelView all = buffer.reset(size.width, size.height, pixels.type);
  const auto row_bytes =
      static_cast<std::size_t>(size.width) * static_cast<std::size_t>(pixels.type.pixel_bytes());
  for (std::int32_t y = 0; y < size.height; ++y) std::memset(all.row(y), fill, row_bytes);
  if (is_empty) return all;
  const PixelView part = all.part(place);
  const auto part_bytes =
      static_cast<std::size_t>(place.width) * static_cast<std::size_t>(pixels.type.pixel_bytes());
  for (std::int32_t y = 0; y < place.height; ++y) std::memcpy(part.row(y), pixels.row(y), part_bytes);
  return all;
}

std::string size_text(ImagePlan::Size size) { return penstock::size_text(size.width, size.height); }

std::string samples_text(const ImageSource::Parts& parts) {
  return parts.size ? size_text(*parts.size) : "images of any size";
}

/// Whether one source can read the rows of both.
bool are_made_alike(const ImageSource::Parts& a, const ImageSource::Parts& b) {
  return a.size == b.size && a.fill == b.fill && *a.steps == *b.steps && a.chosen == b.chosen &&
         a.replaces_broken == b.replaces_broken && a.pipeline->options() == b.pipeline->options() &&
         a.pipeline->finisher().plan() == b.pipeline->finisher().plan();
}

std::uint64_t largest_file(const ImagePipeline& pipeline) noexcept {
  return penstock::largest_file(pipeline.options().decode.max_pixels);
}

/// Whether it is the file's fault.
bool is_of_the_file(const Error& error) noexcept {
  return error.kind() == ErrorKind::kFormat || error.kind() == ErrorKind::kShard;
}

}  // namespace

ImageSource::ImageSource(Parts parts) : parts_(std::move(parts)) {
  if (num_rows() == 0) throw Error(ErrorKind::kSchema, "there is no image");
  if (parts_.column && parts_.column->num_rows() != num_rows()) {
    throw Error(ErrorKind::kSchema, "there is not one row for every image")
        .in_field(parts_.column->fields().front().name)
        .needed(std::to_string(num_rows()))
        .found(std::to_string(parts_.column->num_rows()));
  }
  if (!parts_.column) std::erase(parts_.chosen, 1);
  if (!parts_.size && !parts_.sizes) parts_.sizes = std::make_shared<ImageSizes>(num_rows());
  constexpr std::int64_t kToDecode = std::int64_t{16} << 20U;  // a millisecond or two of copying
  for (const std::size_t field : parts_.chosen) {
    fields_.push_back(field == kImage ? image_field(parts_) : parts_.column->fields().front());
    row_work_ += fields_.back().row_bytes + (field == kImage ? kToDecode : 0);
  }
}

SamplePlan ImageSource::plan(std::int64_t row, ImagePlan::Size image) const {
  return parts_.steps->plan(image, RandomSequence(derive_key(parts_.key, static_cast<std::uint64_t>(row))));
}

ImagePlan::Size ImageSource::image_size(std::int64_t row) const {
  if (const std::optional<ImagePlan::Size> known = parts_.sizes->find(row)) return *known;
  try {
    const ImagePlan::Size size = read_image_size(*parts_.images, row, *parts_.pipeline);
    parts_.sizes->remember(row, size);
    return size;
  } catch (Error& error) {
    error.at_row(row);
    throw;
  }
}

ImagePlan::Size ImageSource::sample_size(std::int64_t row) const {
  const ImagePlan::Size image = image_size(row);
  try {
    const Rect window = plan(row, image).window;
    return {window.width, window.height};
  } catch (Error& error) {
    parts_.images->locate(error.at_row(row), row);
    throw;
  }
}

std::vector<std::int64_t> ImageSource::sample_shape(ImagePlan::Size size) const {
  return shape_of(parts_.pipeline->finisher().plan(), size);
}

std::int64_t ImageSource::stand_in(std::int64_t row, std::uint64_t attempt) const noexcept {
  if (attempt == 0) return row;
  const RandomSequence others(derive_key(~parts_.key, static_cast<std::uint64_t>(row)));
  return static_cast<std::int64_t>(scale_to(others.at(attempt - 1), static_cast<std::uint64_t>(num_rows())));
}

bool ImageSource::replaces(std::int64_t row, const Error& error) const {
  if (!parts_.replaces_broken || !is_of_the_file(error)) return false;
  parts_.log->note_broken(row, error.problem());
  return true;
}

std::shared_ptr<Source> ImageSource::in_batch(std::span<const std::int64_t> rows, const RaggedLayout& layout,
                                              std::span<const Padding> paddings) {
  if (std::ranges::none_of(fields_, &Field::is_image)) return shared_from_this();
  return std::make_shared<ImageBatch>(std::static_pointer_cast<ImageSource>(shared_from_this()), rows, layout,
                                      paddings.front());
}

void ImageSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  if (fields_.front().is_image) {
    throw Error(ErrorKind::kSchema, "images of different sizes must be laid out first")
        .in_field(fields_.front().name);
  }
  for (std::size_t k = 0; k < rows.size(); ++k) {
    std::int64_t row = rows[k];
    for (std::size_t i = 0; i < fields_.size(); ++i) {  // the image first: it says which row it is
      const auto bytes = static_cast<std::size_t>(fields_[i].row_bytes);
      std::byte* const out = outs[i] + k * bytes;
      if (parts_.chosen[i] == kImage) {
        row = read_some_image(row, out);
      } else {
        parts_.column->gather({&row, 1}, {&out, 1});
      }
    }
  }
}

std::int64_t ImageSource::read_some_image(std::int64_t row, std::byte* out) const {
  constexpr std::uint64_t kAttempts = 100;
  const ImagePlan::Size size = *parts_.size;
  const FinishTarget target = parts_.pipeline->finisher().packed(out, size.width, size.height);
  for (std::uint64_t attempt = 0;; ++attempt) {
    const std::int64_t other = stand_in(row, attempt);
    try {
      read_image(other, size, target);
      return other;
    } catch (const Error& error) {
      if (attempt == kAttempts || !replaces(other, error)) throw;
    }
  }
}

void ImageSource::read_image(std::int64_t row, ImagePlan::Size size, const FinishTarget& out) const {
  try {
    decode(row, parts_.images->read(row, largest_file(*parts_.pipeline)), size, out);
  } catch (Error& error) {
    parts_.images->locate(error.at_row(row), row);
    throw;
  }
}

Error ImageSource::has_another_size(std::int64_t row, ImagePlan::Size size, ImagePlan::Size found) const {
  if (!parts_.size) parts_.sizes->forget(row);
  Error error = parts_.size
                    ? Error(ErrorKind::kSchema, "the image has another size than the others")
                    : Error(ErrorKind::kShard, "the image has another size than when it was looked at");
  return error.needed(size_text(size)).found(size_text(found));
}

void ImageSource::decode(std::int64_t row, Bytes bytes, ImagePlan::Size size, const FinishTarget& out) const {
  const ImagePipeline& pipeline = *parts_.pipeline;
  const auto decoder = pipeline.open(bytes);
  const SamplePlan plan = this->plan(row, upright_size(decoder->info()));
  const auto [x, y, width, height] = plan.window;
  if (width != size.width || height != size.height) throw has_another_size(row, size, {width, height});
  Rect seen = overlap(plan.window, plan.visible);
  const bool is_empty = seen.width == 0 || seen.height == 0;
  if (is_empty) seen = {0, 0, 1, 1};  // decoded all the same, so that a broken file is noticed
  const ImagePlan image{plan.crop, plan.resize, seen, plan.flip_horizontally, plan.flip_vertically};
  PreparedImage prepared = pipeline.prepare(*decoder, image, thread_image_scratch());
  if (prepared.report.num_warnings > 0) parts_.log->note_warning(row, prepared.report.first_warning);
  if (is_empty || !(seen == plan.window)) {
    const Rect place{seen.x - x, seen.y - y, seen.width, seen.height};
    prepared.pixels = bordered(prepared.pixels, place, size, parts_.fill, is_empty);
  }
  change_colors(prepared.pixels, plan.colors);
  pipeline.finish(prepared, image, out);
}

void ImageSource::will_need(std::int64_t first, std::int64_t count) {
  if (!asks_ahead()) return;
  for (std::int64_t row = first; row < first + count; ++row) parts_.images->will_need(row);
}

void ImageSource::will_need(std::span<const std::int64_t> rows) {
  if (!asks_ahead()) return;
  for (const std::int64_t row : rows) parts_.images->will_need(row);
}

std::uint64_t ImageSource::fingerprint() const {
  const std::uint64_t column = parts_.column ? parts_.column->fingerprint() : 0;
  return mix64(fingerprint_of(fields()) ^ mix64(parts_.images->fingerprint() ^ mix64(column)));
}

std::shared_ptr<Source> ImageSource::select(std::size_t field) {
  Parts parts = parts_;
  parts.chosen = {parts_.chosen[field]};
  return std::make_shared<ImageSource>(std::move(parts));
}

std::shared_ptr<Source> ImageSource::followed_by(const Source& other) const {
  const auto* const images = dynamic_cast<const ImageSource*>(&other);
  if (images == nullptr) throw different_kinds(fields_.front());
  const Parts& more = images->parts_;
  if (!are_made_alike(parts_, more)) {
    throw Error(ErrorKind::kSchema, "the datasets make their samples of images in different ways")
        .in_field(fields_.front().name)
        .needed(samples_text(parts_) + ", and the same transform and options")
        .found(samples_text(more))
        .hint("torch.utils.data.ConcatDataset takes any datasets, sample by sample.");
  }
  Parts both = parts_;
  both.images = std::make_shared<JoinedImages>(parts_.images, more.images);
  both.sizes = nullptr;
  both.log = std::make_shared<ImageLog>(parts_.log, num_rows(), more.log);
  if (both.column) {
    both.column = std::make_shared<ColumnSource>(concatenate(parts_.column->column(), more.column->column()));
  }
  return std::make_shared<ImageSource>(std::move(both));
}

std::shared_ptr<Source> ImageSource::in_epoch(std::uint64_t key) {
  if (!is_random() || key == parts_.key) return shared_from_this();
  Parts parts = parts_;
  parts.key = key;
  return std::make_shared<ImageSource>(std::move(parts));
}

ImagePlan::Size read_image_size(const EncodedImages& images, std::int64_t row,
                                const ImagePipeline& pipeline) {
  constexpr std::uint64_t kEnough = std::uint64_t{64} << 10U;
  try {
    const Bytes front = images.read_front(row, kEnough);
    const bool may_be_cut = front.size() == kEnough;
    try {
      return upright_size(pipeline.open(front)->info());
    } catch (const Error&) {
      if (!may_be_cut) throw;
      return upright_size(pipeline.open(images.read(row, largest_file(pipeline)))->info());
    }
  } catch (Error& error) {
    images.locate(error, row);
    throw;
  }
}

}  // namespace penstock
