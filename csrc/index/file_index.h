#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"
#include "formats/layout.h"
#include "index/folder.h"
#include "storage/shared_memory.h"

namespace penstock {

/// One array that every file of an index holds, of the same dtype and shape.
struct FileField {
  std::string name;
  DType dtype = DType::kUInt8;
  std::vector<std::int64_t> shape;
  std::int64_t bytes = 0;  ///< of the whole array
  bool is_ragged = false;  ///< files hold any number of values, each of this shape and these bytes

  friend bool operator==(const FileField&, const FileField&) = default;
};

/// What an array takes; nothing when that does not fit in 63 bits, or a length is negative.
[[nodiscard]] std::optional<std::int64_t> bytes_of_array(DType dtype, const std::vector<std::int64_t>& shape);

/// What tells that a file is the one whose header was read.
struct FileStamp {
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

/// Many files that hold one sample each: their names, stamps, and where their arrays lie.
///
/// All of it is one image in memory, which is what an index file holds, what a worker process maps, and what
/// a pickle carries; so a million files cost no more than their names and some 30 bytes each. Everything in
/// an image is checked when it is opened.
///
/// Image, version 2, in this machine's byte order (another one is refused); sections begin at multiples of 8:
///     header; FileStamp[files]; u64 offsets[files * fields]; u64 ends of file names[files];
///     i64 changed[folders]; u64 ends of folder names[folders]; fields; root; recipe; file names; folder
///     names; where a field is ragged, i64 lengths[files * fields]
///
/// Immutable; thread-safe.
class FileIndex {
 public:
  /// The offset of an array that does not lie end to end in its file: its header must be read again.
  static constexpr std::uint64_t kElsewhere = UINT64_MAX;

  /// What an image is made of.
  struct Parts {
    std::string root;
    std::string recipe;  ///< what was asked for, in words of the maker; compared, not understood
    Container container = Container::kArray;
    std::vector<FileField> fields;
    Strings names;  ///< below the root
    std::vector<FileStamp> stamps;
    std::vector<std::uint64_t> offsets;  ///< files * fields
    Strings folders;
    std::vector<std::int64_t> changed;
    std::vector<std::int64_t> lengths;  ///< files * fields, where a field is ragged
  };

  [[nodiscard]] static std::shared_ptr<FileIndex> make(const Parts& parts);

  /// What an index file holds; its header is looked at before memory is taken for the rest.
  ///
  /// \throws Error that names it: kShard when it cannot be opened or read; else as the constructor
  [[nodiscard]] static std::shared_ptr<FileIndex> open(const std::string& path);

  /// \throws Error kArgument when it is no image; kFormat when it is of another version, or damaged
  explicit FileIndex(std::shared_ptr<SharedMemory> image);

  [[nodiscard]] std::int64_t num_files() const noexcept { return static_cast<std::int64_t>(stamps_.size()); }
  [[nodiscard]] std::span<const FileField> fields() const noexcept { return fields_; }
  [[nodiscard]] Container container() const noexcept { return container_; }
  [[nodiscard]] const std::string& root() const noexcept { return root_; }
  [[nodiscard]] const std::string& recipe() const noexcept { return recipe_; }
  [[nodiscard]] const SharedMemory& image() const noexcept { return *image_; }

  /// Of a copy of the image, for another process; -1 where the system has no such thing. Lives as long as
  /// this.
  ///
  /// \throws Error kShard when there is no memory
  [[nodiscard]] int descriptor() const;

  /// \pre file is in [0, num_files())
  [[nodiscard]] std::string_view name(std::int64_t file) const noexcept;
  [[nodiscard]] std::string path(std::int64_t file) const;
  [[nodiscard]] const FileStamp& stamp(std::int64_t file) const noexcept;
  [[nodiscard]] std::uint64_t offset(std::int64_t file, std::size_t field) const noexcept;

  /// Values of a ragged field; 1 of another. \pre file and field are in range
  [[nodiscard]] std::int64_t length(std::int64_t file, std::size_t field) const noexcept;

  /// Of a file's array.
  [[nodiscard]] std::int64_t bytes(std::int64_t file, std::size_t field) const noexcept {
    return length(file, field) * fields_[field].bytes;
  }

  /// Of the largest array of that field.
  [[nodiscard]] std::int64_t most_bytes(std::size_t field) const noexcept { return most_bytes_[field]; }

  /// What a file holds of a field, with its whole shape.
  [[nodiscard]] FileField array(std::int64_t file, std::size_t field) const;

  /// The folders that were listed, "" first: below the root.
  [[nodiscard]] std::int64_t num_folders() const noexcept {
    return static_cast<std::int64_t>(changed_.size());
  }

  /// \pre folder is in [0, num_folders())
  [[nodiscard]] std::string_view folder(std::int64_t folder) const noexcept;

  /// Tells this image from any other.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }

  /// Tells these files from others, by their names and sizes.
  [[nodiscard]] std::uint64_t fingerprint_of_files() const;

  /// The file of that name; \pre names are sorted
  [[nodiscard]] std::optional<std::int64_t> find(std::string_view name) const noexcept;

  /// An index of some of these files alone, in that order, which no folder was listed for. A file may be
  /// there more than once. \pre each is in [0, num_files())
  [[nodiscard]] std::shared_ptr<FileIndex> select(std::span<const std::int64_t> files) const;

  /// Whether no folder was changed so lately, when it was listed, that one could not tell.
  [[nodiscard]] bool is_settled() const noexcept;

  /// Whether no file has come, gone or been renamed since the folders were listed, as far as one can tell.
  /// False where they were not.
  [[nodiscard]] bool is_current() const;

  /// Whether it holds the same of the same files.
  [[nodiscard]] bool same_files_as(const FileIndex& other) const noexcept;

  /// Writes the image under another name and renames it, so that a reader finds all of it or what was before.
  ///
  /// \throws Error kShard
  void write(const std::string& path) const;

 private:
  void take_apart();
  void require_inside();
  void require_array_inside(std::int64_t file, std::size_t field) const;

  std::shared_ptr<SharedMemory> image_;
  mutable std::unique_ptr<SharedMemory> shareable_;  // guarded by the one lock for sharing
  Container container_ = Container::kArray;
  std::string root_;
  std::string recipe_;
  std::vector<FileField> fields_;
  std::span<const FileStamp> stamps_;
  std::span<const std::uint64_t> offsets_;
  std::span<const std::int64_t> lengths_;
  std::vector<std::int64_t> most_bytes_;
  std::span<const std::uint64_t> name_ends_;
  std::string_view names_;
  std::span<const std::int64_t> changed_;
  std::span<const std::uint64_t> folder_ends_;
  std::string_view folders_;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace penstock
