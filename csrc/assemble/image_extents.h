#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "assemble/encoded_images.h"
#include "index/folder.h"
#include "storage/file.h"

namespace penstock {

/// Images that lie in files of many: tar archives, columns of bytes.
///
/// Each is read into the thread's buffer, and its file is then looked at: one that has changed since its
/// headers were read is an error at once. Some 16 bytes and a name an image.
class ImageExtents final : public EncodedImages {
 public:
  struct Parts {
    std::vector<std::shared_ptr<FileStorage>> shards;
    std::vector<std::int64_t> rows;  ///< images of each shard, which follow one another
    std::vector<std::uint64_t> offsets;
    std::vector<std::uint64_t> sizes;
    Strings names;  ///< in their shards
  };

  /// \throws Error kSchema when the parts do not fit together or an image would lie outside its file
  explicit ImageExtents(Parts parts);

  [[nodiscard]] const Parts& parts() const noexcept { return parts_; }

  /// The file of an image. \pre in range
  [[nodiscard]] FileStorage& shard_of(std::int64_t row) const noexcept;

  /// That of its file, and below it its name. \pre in range
  [[nodiscard]] std::string path(std::int64_t row) const;

  [[nodiscard]] std::int64_t num_rows() const noexcept override { return first_rows_.back(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override { return parts_.rows; }
  [[nodiscard]] std::int64_t num_shards() const noexcept override {
    return static_cast<std::int64_t>(parts_.rows.size());
  }
  void fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const override;
  void locate(Error& error, std::int64_t row) const override;
  void will_need(std::int64_t row) const override;
  [[nodiscard]] std::uint64_t fingerprint() const override;

 private:
  void require_inside() const;

  Parts parts_;
  std::vector<std::int64_t> first_rows_;  ///< of each shard, and the number of all
};

}  // namespace penstock
