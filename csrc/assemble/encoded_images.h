#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "assemble/slow_reads.h"
#include "base/bytes.h"
#include "base/error.h"
#include "index/file_index.h"

namespace penstock {

/// Where the encoded bytes of images lie, row by row.
///
/// thread-safe
class EncodedImages {
 public:
  EncodedImages() = default;
  EncodedImages(const EncodedImages&) = delete;
  EncodedImages& operator=(const EncodedImages&) = delete;
  virtual ~EncodedImages() = default;

  [[nodiscard]] virtual std::int64_t num_rows() const noexcept = 0;

  /// Images of each file.
  [[nodiscard]] virtual std::vector<std::int64_t> rows_per_shard() const = 0;
  [[nodiscard]] virtual std::int64_t num_shards() const noexcept = 0;

  /// The bytes of an image, in a buffer of the calling thread, which its next read fills anew.
  ///
  /// \pre row is in range
  /// \throws Error kShard; kFormat when there are more than `largest`: then none is read and no memory taken
  [[nodiscard]] Bytes read(std::int64_t row, std::uint64_t largest) const;

  /// The same: so many from the front, or all.
  ///
  /// \throws Error kShard
  [[nodiscard]] Bytes read_front(std::int64_t row, std::uint64_t most) const;

  /// Which bytes of an image are wanted: the first so many, or all if they are no more.
  struct Wanted {
    std::uint64_t most;
    bool may_be_cut;

    /// Of an image of this size.
    ///
    /// \throws Error kFormat when it would be cut and may not
    [[nodiscard]] std::size_t of(std::uint64_t size) const;
  };

  /// The same: fills a buffer. \throws Error as read
  virtual void fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const = 0;

  /// Says in an error of an image which one it is: the file, and what it is called there. \pre in range
  virtual void locate(Error& error, std::int64_t row) const = 0;

  /// Whether reads have lately waited for a disk.
  [[nodiscard]] bool asks_ahead() const noexcept { return slow_reads_.lately(); }

  /// Asks the system to read an image soon. \pre in range
  virtual void will_need(std::int64_t row) const = 0;

  /// Tells them from others: by names and sizes, not by where they lie.
  [[nodiscard]] virtual std::uint64_t fingerprint() const = 0;

 private:
  [[nodiscard]] Bytes read(std::int64_t row, Wanted wanted) const;

  mutable SlowReads slow_reads_;
};

/// Images that are files, one each, of an index of which the names alone count.
class ImageFiles final : public EncodedImages {
 public:
  explicit ImageFiles(std::shared_ptr<const FileIndex> files);

  [[nodiscard]] std::int64_t num_rows() const noexcept override { return files_->num_files(); }
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override;
  [[nodiscard]] std::int64_t num_shards() const noexcept override { return num_rows(); }
  void fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const override;
  void locate(Error& error, std::int64_t row) const override;
  void will_need(std::int64_t row) const override;
  [[nodiscard]] std::uint64_t fingerprint() const override { return files_->fingerprint_of_files(); }

 private:
  std::shared_ptr<const FileIndex> files_;
};

/// The images of several, one after another.
class JoinedImages final : public EncodedImages {
 public:
  JoinedImages(std::shared_ptr<const EncodedImages> first, std::shared_ptr<const EncodedImages> second);

  [[nodiscard]] std::int64_t num_rows() const noexcept override;
  [[nodiscard]] std::vector<std::int64_t> rows_per_shard() const override;
  [[nodiscard]] std::int64_t num_shards() const noexcept override;
  void fetch(std::int64_t row, Wanted wanted, std::vector<std::byte>& buffer) const override;
  void locate(Error& error, std::int64_t row) const override;
  void will_need(std::int64_t row) const override;
  [[nodiscard]] std::uint64_t fingerprint() const override;

 private:
  std::shared_ptr<const EncodedImages> first_;
  std::shared_ptr<const EncodedImages> second_;
};

}  // namespace penstock
