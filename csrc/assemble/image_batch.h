#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "assemble/batch_source.h"
#include "assemble/filler.h"
#include "assemble/image_sizes.h"
#include "assemble/image_source.h"

namespace penstock {

/// Images of different sizes as they come in one batch: each in a place of its own size, or all in places of
/// one size that none exceeds, filled up beside them.
///
/// Places are known from headers, before any image is decoded. What stands in for a broken image is chosen
/// then where its header says so. Where its header is sound and its data is not, the first of those that
/// could stand in for it that is no wider and no higher, so that it fits whatever the batch; if there is
/// none, the error is raised.
class ImageBatch final : public BatchSource {
 public:
  /// Reads the headers that have not been read before, by the pool's threads.
  ///
  /// \throws Error kArgument when images cannot be laid out like this; std::bad_alloc when no memory can hold
  /// the batch
  ImageBatch(std::shared_ptr<ImageSource> source, std::span<const std::int64_t> rows,
             const RaggedLayout& layout, const Padding& padding);

  [[nodiscard]] std::int64_t row_work() const noexcept override { return source_->row_work(); }
  [[nodiscard]] std::shared_ptr<Source> lengths(std::size_t field, std::int64_t max_length) override;
  [[nodiscard]] std::vector<std::int64_t> batch_shape(std::size_t field, std::int64_t rows) const override;
  [[nodiscard]] std::int64_t place(std::size_t field, std::int64_t position) const noexcept override;
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;

  /// Of what is in a row's place: known once it has been gathered. \pre a row of this batch
  [[nodiscard]] ImagePlan::Size size_of(std::int64_t row) const noexcept;

 private:
  /// A place for the image of a row.
  struct Slot {
    std::int64_t row = 0;
    std::uint64_t attempt = 0;  ///< 0: the row's own image; else which of those that may stand in for it
    ImagePlan::Size size{0, 0};
  };

  void make_slots(std::span<const std::int64_t> rows);
  void find_size(Slot& slot) const;
  void lay_out(std::span<const std::int64_t> rows);
  [[nodiscard]] std::size_t slot_of(std::int64_t row) const noexcept;
  [[nodiscard]] std::int64_t bytes_of(ImagePlan::Size size) const noexcept;
  std::int64_t read_some_image(std::size_t slot, std::byte* to);
  void read_image(std::int64_t row, ImagePlan::Size size, std::byte* to) const;
  void fill_around(ImagePlan::Size size, ImagePlan::Size at, std::byte* to) const noexcept;

  std::shared_ptr<ImageSource> source_;
  RaggedLayout layout_;
  Filler filler_;
  std::int64_t pixel_bytes_ = 0;      ///< from one pixel of a row to the next
  std::int64_t planes_ = 0;           ///< of an image: its channels, where they come first
  std::vector<Slot> slots_;           ///< one a row, sorted
  ImageSizes sizes_{0};               ///< of what is in each slot
  ImagePlan::Size all_{0, 0};         ///< padded: of every place
  std::vector<std::int64_t> places_;  ///< packed: of each position, in bytes, and the end of the last
};

}  // namespace penstock
