#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/encoded_images.h"
#include "assemble/image_log.h"
#include "assemble/image_sizes.h"
#include "assemble/image_steps.h"
#include "assemble/source.h"
#include "image/pipeline.h"

namespace penstock {

/// Rows that are encoded images, decoded and transformed straight into a batch; with them, where there is
/// one, a column of as many rows, such as labels.
///
/// What is random depends on the key and the row alone: see `in_epoch`.
class ImageSource final : public Source {
 public:
  struct Parts {
    std::shared_ptr<const EncodedImages> images;
    std::shared_ptr<const ImagePipeline> pipeline;
    std::shared_ptr<const ImageSteps> steps;
    std::optional<ImagePlan::Size> size;   ///< of every sample; none: each has its own
    std::shared_ptr<ImageSizes> sizes;     ///< of images whose header has been read; made where it is needed
    std::uint8_t fill = 0;                 ///< of a border, as a sample of the image
    std::shared_ptr<ColumnSource> column;  ///< or none
    bool replaces_broken = false;          ///< another row, image and column, stands in for a broken one
    std::shared_ptr<ImageLog> log;
    std::vector<std::size_t> chosen{0, 1};  ///< of the fields: 0 is the image, 1 the column
    std::uint64_t key = 0;                  ///< of what is random
  };

  /// \throws Error kSchema when the column has another number of rows, or there is no file
  explicit ImageSource(Parts parts);

  [[nodiscard]] const Parts& parts() const noexcept { return parts_; }

  /// The plan of one row, were its image of that size. \pre in range
  ///
  /// \throws Error kArgument as ImageSteps::plan
  [[nodiscard]] SamplePlan plan(std::int64_t row, ImagePlan::Size image) const;

  /// Whether the header of a row's image has been read. \pre in range; samples have sizes of their own
  [[nodiscard]] bool knows_size(std::int64_t row) const noexcept {
    return parts_.sizes->find(row).has_value();
  }

  /// Of one row, by its image's header. \pre as knows_size
  ///
  /// \throws Error as gather
  [[nodiscard]] ImagePlan::Size sample_size(std::int64_t row) const;

  /// Of a sample's array.
  [[nodiscard]] std::vector<std::int64_t> sample_shape(ImagePlan::Size size) const;

  /// Which row stands in for this one: at attempt 0 itself.
  [[nodiscard]] std::int64_t stand_in(std::int64_t row, std::uint64_t attempt) const noexcept;

  /// Whether another one is to stand in for a row in which that has gone wrong; then it is noted.
  [[nodiscard]] bool replaces(std::int64_t row, const Error& error) const;

  /// Reads one image, as a sample of that size.
  ///
  /// \throws Error as gather, with path and row
  void read_image(std::int64_t row, ImagePlan::Size size, const FinishTarget& out) const;

  [[nodiscard]] std::span<const Field> fields() const noexcept override { return fields_; }
  [[nodiscard]] std::int64_t num_rows() const noexcept override { return parts_.images->num_rows(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override {
    return parts_.images->rows_per_shard();
  }
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return parts_.images->num_shards(); }
  [[nodiscard]] std::int64_t row_work() const noexcept override { return row_work_; }

  [[nodiscard]] std::shared_ptr<Source> in_batch(std::span<const std::int64_t> rows,
                                                 const RaggedLayout& layout,
                                                 std::span<const Padding> paddings) override;

  /// \pre samples have one size, or it comes from `in_batch`
  /// \throws Error kFormat, kShard for a file that is no image or cannot be read; kArgument where it is too
  /// small for a crop; kSchema where it has another size than all shall have
  void gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) override;

  [[nodiscard]] bool asks_ahead() const noexcept override { return parts_.images->asks_ahead(); }
  void will_need(std::int64_t first, std::int64_t count) override;
  void will_need(std::span<const std::int64_t> rows) override;
  void will_not_need(std::span<const std::int64_t> /*rows*/) const noexcept override {}
  [[nodiscard]] std::uint64_t fingerprint() const override;
  [[nodiscard]] std::shared_ptr<Source> select(std::size_t field) override;
  [[nodiscard]] std::shared_ptr<Source> followed_by(const Source& other) const override;
  [[nodiscard]] bool is_random() const noexcept override { return parts_.steps->is_random(); }
  [[nodiscard]] std::shared_ptr<Source> in_epoch(std::uint64_t key) override;

 private:
  /// \throws Error as read_image_size
  [[nodiscard]] ImagePlan::Size image_size(std::int64_t row) const;
  /// \returns the row that was read: this one, or one that stands in for it
  std::int64_t read_some_image(std::int64_t row, std::byte* out) const;
  void decode(std::int64_t row, Bytes bytes, ImagePlan::Size size, const FinishTarget& out) const;
  [[nodiscard]] Error has_another_size(std::int64_t row, ImagePlan::Size size, ImagePlan::Size found) const;

  Parts parts_;
  std::vector<Field> fields_;
  std::int64_t row_work_ = 0;
};

/// What the header of an image says.
///
/// \throws Error kFormat, kShard that says which, when it is no image that can be decoded so, or unreadable
[[nodiscard]] ImagePlan::Size read_image_size(const EncodedImages& images, std::int64_t row,
                                              const ImagePipeline& pipeline);

}  // namespace penstock
