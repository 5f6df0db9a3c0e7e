#include "assemble/image_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "storage/file.h"

namespace penstock {
namespace {

constexpr std::size_t kImage = 0;
constexpr std::size_t kMostKept = std::size_t{16} << 20U;  ///< bytes of a file's buffer between images

Field image_field(const ImageSource::Parts& parts) {
  const FinishPlan& finish = parts.pipeline->finisher().plan();
  const auto [width, height] = parts.size;
  std::vector<std::int64_t> shape{finish.channels, height, width};
  if (finish.layout == Layout::kChannelsLast) shape = {height, width, finish.channels};
  return {"image", finish.dtype, std::move(shape), parts.pipeline->finisher().bytes(width, height)};
}

/// The calling thread's buffer for a file.
std::vector<std::byte>& thread_file_buffer() {
  thread_local std::vector<std::byte> buffer;
  return buffer;
}

/// All of a file, in the thread's buffer.
Bytes read_file(const std::string& path) {
  const OpenFile file(path);
  std::vector<std::byte>& buffer = thread_file_buffer();
  if (buffer.capacity() > kMostKept) std::vector<std::byte>().swap(buffer);
  buffer.resize(file.size());
  file.read(0, buffer);
  return buffer;
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
  constexpr std::int64_t kToDecode = std::int64_t{16} << 20U;  // a millisecond or two of copying
  for (const std::size_t field : parts_.chosen) {
    fields_.push_back(field == kImage ? image_field(parts_) : parts_.column->fields().front());
    row_work_ += fields_.back().row_bytes + (field == kImage ? kToDecode : 0);
  }
}

std::vector<std::int64_t> ImageSource::rows_per_shard() const {
  return std::vector<std::int64_t>(static_cast<std::size_t>(num_rows()), 1);
}

SamplePlan ImageSource::plan(std::int64_t row, ImagePlan::Size image) const {
  return parts_.steps->plan(image, RandomSequence(derive_key(parts_.key, static_cast<std::uint64_t>(row))));
}

void ImageSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  for (std::size_t k = 0; k < rows.size(); ++k) {
    std::int64_t row = rows[k];
    for (std::size_t i = 0; i < fields_.size(); ++i) {  // the image first: it says which row it is
      const auto bytes = static_cast<std::size_t>(fields_[i].row_bytes);
      std::byte* const out = outs[i] + k * bytes;
      if (parts_.chosen[i] == kImage) {
        row = read_some_image(row, {out, bytes});
      } else {
        parts_.column->gather({&row, 1}, {&out, 1});
      }
    }
  }
}

std::int64_t ImageSource::read_some_image(std::int64_t row, std::span<std::byte> out) const {
  constexpr std::uint64_t kAttempts = 100;
  const RandomSequence others(derive_key(~parts_.key, static_cast<std::uint64_t>(row)));
  std::int64_t other = row;
  for (std::uint64_t attempt = 0;; ++attempt) {
    try {
      read_image(other, out);
      return other;
    } catch (Error& error) {
      error.in_file(parts_.files->path(other)).at_row(other);
      if (!parts_.replaces_broken || attempt == kAttempts || !is_of_the_file(error)) throw;
      parts_.log->note_broken(other, error.problem());
    }
    other = static_cast<std::int64_t>(scale_to(others.at(attempt), static_cast<std::uint64_t>(num_rows())));
  }
}

void ImageSource::read_image(std::int64_t row, std::span<std::byte> out) const {
  decode(row, read_file(parts_.files->path(row)), out);
}

void ImageSource::decode(std::int64_t row, Bytes bytes, std::span<std::byte> out) const {
  const ImagePipeline& pipeline = *parts_.pipeline;
  const auto decoder = pipeline.open(bytes);
  const SamplePlan plan = this->plan(row, upright_size(decoder->info()));
  const auto [x, y, width, height] = plan.window;
  if (width != parts_.size.width || height != parts_.size.height) {
    throw Error(ErrorKind::kSchema, "the image has another size than the others")
        .needed(std::to_string(parts_.size.width) + " x " + std::to_string(parts_.size.height))
        .found(std::to_string(width) + " x " + std::to_string(height));
  }
  Rect seen = overlap(plan.window, plan.visible);
  const bool is_empty = seen.width == 0 || seen.height == 0;
  if (is_empty) seen = {0, 0, 1, 1};  // decoded all the same, so that a broken file is noticed
  const ImagePlan image{plan.crop, plan.resize, seen, plan.flip_horizontally, plan.flip_vertically};
  PreparedImage prepared = pipeline.prepare(*decoder, image, thread_image_scratch());
  if (prepared.report.num_warnings > 0) parts_.log->note_warning(row, prepared.report.first_warning);
  if (is_empty || !(seen == plan.window)) {
    const Rect place{seen.x - x, seen.y - y, seen.width, seen.height};
    prepared.pixels = bordered(prepared.pixels, place, parts_.size, parts_.fill, is_empty);
  }
  change_colors(prepared.pixels, plan.colors);
  pipeline.finish(prepared, image, out);
}

std::uint64_t ImageSource::fingerprint() const {
  const std::uint64_t column = parts_.column ? parts_.column->fingerprint() : 0;
  return mix64(fingerprint_of(fields()) ^ mix64(parts_.files->fingerprint_of_files() ^ mix64(column)));
}

std::shared_ptr<Source> ImageSource::select(std::size_t field) {
  Parts parts = parts_;
  parts.chosen = {parts_.chosen[field]};
  return std::make_shared<ImageSource>(std::move(parts));
}

std::shared_ptr<Source> ImageSource::followed_by(const Source& /*other*/) const {
  throw different_kinds(fields_.front());
}

std::shared_ptr<Source> ImageSource::in_epoch(std::uint64_t key) {
  if (!is_random() || key == parts_.key) return shared_from_this();
  Parts parts = parts_;
  parts.key = key;
  return std::make_shared<ImageSource>(std::move(parts));
}

ImagePlan::Size read_image_size(const std::string& path, const ImagePipeline& pipeline) {
  constexpr std::uint64_t kEnough = std::uint64_t{64} << 10U;
  const OpenFile file(path);
  std::vector<std::byte> bytes = file.read(0, std::min(file.size(), kEnough));
  try {
    try {
      return upright_size(pipeline.open(bytes)->info());
    } catch (const Error&) {
      if (bytes.size() == file.size()) throw;
      bytes = file.read(0, file.size());
      return upright_size(pipeline.open(bytes)->info());
    }
  } catch (Error& error) {
    error.in_file(path);
    throw;
  }
}

}  // namespace penstock
