#include "assemble/image_batch.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "assemble/batch_buffer.h"
#include "assemble/size_source.h"
#include "assemble/thread_pool.h"
#include "base/error.h"

namespace penstock {
namespace {

using Size = ImagePlan::Size;

constexpr std::uint64_t kAttempts = 1000;  ///< most of them look at a size alone

bool is_within(Size size, Size room) noexcept {
  return size.width <= room.width && size.height <= room.height;
}

/// \throws Error kArgument
std::int32_t rounded_up(std::int32_t side, std::int64_t multiple) {
  const std::int64_t rest = side % multiple;
  const std::int64_t more = rest == 0 ? 0 : multiple - rest;
  if (more <= INT32_MAX - side) return static_cast<std::int32_t>(side + more);
  throw Error(ErrorKind::kArgument, "no image can be padded to such a multiple");
}

}  // namespace

ImageBatch::ImageBatch(std::shared_ptr<ImageSource> source, std::span<const std::int64_t> rows,
                       const RaggedLayout& layout, const Padding& padding)
    : BatchSource(source), source_(std::move(source)), layout_(layout), filler_(padding) {
  const Finisher& finisher = source_->parts().pipeline->finisher();
  const bool is_planar = finisher.plan().layout == Layout::kChannelsFirst;
  const DType dtype = finisher.plan().dtype;
  if (!layout_.batch_first || layout_.max_length != RaggedLayout{}.max_length || layout_.multiple < 1 ||
      padding.size() != static_cast<std::size_t>(item_bytes(dtype))) {
    throw Error(ErrorKind::kArgument, "images cannot be laid out like this").in_field(fields().front().name);
  }
  planes_ = is_planar ? finisher.plan().channels : 1;
  pixel_bytes_ = finisher.bytes(1, 1) / planes_;
  make_slots(rows);
  lay_out(rows);
}

void ImageBatch::make_slots(std::span<const std::int64_t> rows) {
  std::vector<std::int64_t> sorted(rows.begin(), rows.end());
  std::ranges::sort(sorted);
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  slots_.resize(sorted.size());
  std::vector<std::size_t> unknown;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    slots_[i].row = sorted[i];
    if (source_->knows_size(sorted[i])) {
      find_size(slots_[i]);
    } else {
      unknown.push_back(i);
    }
  }
  run_parallel(static_cast<std::int64_t>(unknown.size()),
               [&](std::int64_t i) { find_size(slots_[unknown[static_cast<std::size_t>(i)]]); });
  sizes_ = ImageSizes(static_cast<std::int64_t>(slots_.size()));
}

/// Nothing where it cannot be known: to read such an image raises what there is to say.
void ImageBatch::find_size(Slot& slot) const {
  for (; slot.attempt < kAttempts; ++slot.attempt) {
    const std::int64_t row = source_->stand_in(slot.row, slot.attempt);
    try {
      slot.size = source_->sample_size(row);
      return;
    } catch (const Error& error) {
      if (!source_->replaces(row, error)) break;
    }
  }
  slot.attempt = 0;
}

void ImageBatch::lay_out(std::span<const std::int64_t> rows) {
  std::size_t bytes = 0;
  if (layout_.is_packed) {
    places_.reserve(rows.size() + 1);
    places_.push_back(0);
    for (const std::int64_t row : rows) {
      bytes = bytes_of_rows(bytes + static_cast<std::size_t>(bytes_of(slots_[slot_of(row)].size)), 1);
      places_.push_back(static_cast<std::int64_t>(bytes));
    }
    return;
  }
  for (const Slot& slot : slots_) {
    all_.width = std::max(all_.width, slot.size.width);
    all_.height = std::max(all_.height, slot.size.height);
  }
  all_ = {rounded_up(all_.width, layout_.multiple), rounded_up(all_.height, layout_.multiple)};
  bytes = bytes_of_rows(static_cast<std::size_t>(pixel_bytes_ * planes_), all_.width);
  (void)bytes_of_rows(bytes_of_rows(bytes, all_.height), static_cast<std::int64_t>(rows.size()));
}

std::size_t ImageBatch::slot_of(std::int64_t row) const noexcept {
  const auto found = std::ranges::lower_bound(slots_, row, {}, &Slot::row);
  return static_cast<std::size_t>(found - slots_.begin());
}

std::int64_t ImageBatch::bytes_of(Size size) const noexcept {
  return source_->parts().pipeline->finisher().bytes(size.width, size.height);
}

Size ImageBatch::size_of(std::int64_t row) const noexcept {
  return sizes_.find(static_cast<std::int64_t>(slot_of(row))).value_or(Size{0, 0});
}

std::shared_ptr<Source> ImageBatch::lengths(std::size_t /*field*/, std::int64_t /*max_length*/) {
  return std::make_shared<SizeSource>(std::static_pointer_cast<const ImageBatch>(shared_from_this()));
}

std::vector<std::int64_t> ImageBatch::batch_shape(std::size_t field, std::int64_t rows) const {
  if (!fields()[field].is_image) return Source::batch_shape(field, rows);
  if (layout_.is_packed) return {places_.back() / item_bytes(fields()[field].dtype)};
  std::vector<std::int64_t> shape = source_->sample_shape(all_);
  shape.insert(shape.begin(), rows);
  return shape;
}

std::int64_t ImageBatch::place(std::size_t field, std::int64_t position) const noexcept {
  if (!fields()[field].is_image) return Source::place(field, position);
  if (!layout_.is_packed) return position * bytes_of(all_);
  return places_[std::min(static_cast<std::size_t>(position), places_.size() - 1)];
}

void ImageBatch::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  std::vector<std::byte*> places(outs.begin(), outs.end());
  for (std::int64_t row : rows) {
    for (std::size_t i = 0; i < places.size(); ++i) {  // the image first: it says which row it is
      if (!fields()[i].is_image) {
        source_->parts().column->gather({&row, 1}, {&places[i], 1});
        places[i] += fields()[i].row_bytes;
        continue;
      }
      const std::size_t slot = slot_of(row);
      row = read_some_image(slot, places[i]);
      places[i] += bytes_of(layout_.is_packed ? slots_[slot].size : all_);
    }
  }
}

/// \returns the row that was read: the slot's, or one that stands in for it
std::int64_t ImageBatch::read_some_image(std::size_t slot, std::byte* to) {
  const Slot& it = slots_[slot];
  std::exception_ptr failure;
  for (std::uint64_t attempt = it.attempt; attempt < kAttempts; ++attempt) {
    const std::int64_t row = source_->stand_in(it.row, attempt);
    try {
      const Size size = failure ? source_->sample_size(row) : it.size;
      if (!is_within(size, it.size)) continue;
      read_image(row, size, to);
      sizes_.remember(static_cast<std::int64_t>(slot), size);
      return row;
    } catch (const Error& error) {
      if (!source_->replaces(row, error)) throw;
      failure = std::current_exception();
    }
  }
  std::rethrow_exception(failure);
}

void ImageBatch::read_image(std::int64_t row, Size size, std::byte* to) const {
  const Size room = layout_.is_packed ? size : all_;
  const std::int64_t row_bytes = room.width * pixel_bytes_;
  const Size at = layout_.pads_front ? Size{room.width - size.width, room.height - size.height} : Size{0, 0};
  std::byte* const first = to + at.height * row_bytes + at.width * pixel_bytes_;
  source_->read_image(row, size, {first, row_bytes, room.height * row_bytes});
  if (!layout_.is_packed) fill_around(size, at, to);
}

/// What lies before, between and after the rows of an image.
void ImageBatch::fill_around(Size size, Size at, std::byte* to) const noexcept {
  const std::int64_t row_bytes = all_.width * pixel_bytes_;
  for (std::int64_t plane = 0; plane < planes_; ++plane, to += row_bytes * all_.height) {
    std::int64_t filled = 0;
    for (std::int64_t y = at.height; y < at.height + size.height; ++y) {
      const std::int64_t begin = y * row_bytes + at.width * pixel_bytes_;
      filler_.fill(to + filled, begin - filled);
      filled = begin + size.width * pixel_bytes_;
    }
    filler_.fill(to + filled, row_bytes * all_.height - filled);
  }
}

}  // namespace penstock
