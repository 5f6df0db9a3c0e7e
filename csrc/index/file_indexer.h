#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "base/error.h"
#include "formats/raw.h"
#include "index/file_index.h"
#include "index/folder.h"
#include "index/header.h"

namespace penstock {

/// Reads the headers of many files that hold one sample each, and makes a FileIndex of them.
///
/// Files must agree in the dtype and shape of their arrays with the first that can be read. What cannot be
/// read, or does not agree, is a failure, which the maker of the index may leave out. Arrays may be
/// sequences, whose first dimension differs.
class FileIndexer {
 public:
  /// When arrays of other lengths than the first file's are sequences, and no failures.
  enum class Ragged : std::uint8_t {
    kNever,
    kIfMost,  ///< when most files differ from the first
    kIfAny,
  };

  struct Request {
    std::string root;
    std::string recipe;                 ///< see FileIndex::Parts
    std::optional<RawFormat> raw;       ///< files have no header: one row each
    std::vector<std::string> fields;    ///< arrays to take; none: all of the first file's
    Strings names;                      ///< below the root
    Strings folders;                    ///< as listed, with the names; none: names were given
    std::vector<std::int64_t> changed;  ///< likewise
    std::shared_ptr<const FileIndex>
        known;  ///< an older index of the same recipe: unchanged files are not read
    Ragged ragged = Ragged::kNever;
  };

  struct Failure {
    std::int64_t file = 0;
    Error error;
  };

  explicit FileIndexer(Request request);

  [[nodiscard]] std::int64_t num_files() const noexcept {
    return static_cast<std::int64_t>(request_.names.size());
  }

  /// Reads the headers of files [begin, end). Thread-safe for ranges that do not overlap, once read_first()
  /// has returned.
  void read(std::int64_t begin, std::int64_t end);

  /// Reads files from the front until one says what the others must hold.
  void read_first();

  /// Decides which arrays are sequences; files that do not agree are failures from then on. \pre every file
  /// has been read
  void settle();

  /// What went wrong so far, in the order of files.
  [[nodiscard]] std::vector<Failure> failures() const;

  /// What the first file read that has such values holds beside its arrays, where all of these were asked
  /// for; no values: none has any. (A file that is `known` was not read.)
  [[nodiscard]] LeftOut left_out() const;

  /// \pre settle() was called
  /// \throws Error kSchema when nothing is left
  [[nodiscard]] std::shared_ptr<FileIndex> finish() const;

 private:
  enum class State : std::uint8_t { kUnread, kRead, kFailed };

  void read_one(std::int64_t number);
  [[nodiscard]] bool take_known(std::int64_t file, const std::string& path);
  void agree(const FileLayout& layout, const std::string& path);
  void agree(std::vector<FileField> fields, Container container, const std::string& path);
  void take_arrays(const FileLayout& layout, std::int64_t file);
  void note_left_out(const FileLayout& layout, std::int64_t file);
  void settle_field(std::size_t field);
  [[nodiscard]] std::string path_of(std::int64_t file) const;
  [[nodiscard]] std::int64_t& length(std::int64_t file, std::size_t field) noexcept {
    return lengths_[static_cast<std::size_t>(file) * fields_.size() + field];
  }

  Request request_;
  Container container_ = Container::kArray;
  std::vector<FileField> fields_;  ///< as in the first file, until settled
  std::string first_path_;
  bool agreed_ = false;            ///< fields_ are known
  std::int64_t first_unread_ = 0;  ///< by read_first
  std::vector<FileStamp> stamps_;
  std::vector<std::uint64_t> offsets_;
  std::vector<std::int64_t> lengths_;  ///< of the first dimension
  std::vector<State> states_;          ///< each written by the thread that reads the file
  mutable std::mutex mutex_;           // guards what follows
  std::vector<Failure> failures_;
  std::vector<OtherValue> left_out_;
  std::int64_t left_out_of_ = 0;  ///< the file whose values these are
};

/// What a file of one sample holds. \throws Error as read_header; kSchema when a file without a header holds
/// another number of rows than one
[[nodiscard]] FileLayout read_sample_header(const ByteSource& file, const std::optional<RawFormat>& raw);

/// The array of a file that is `expected`; a lone one may have any name, where only one is wanted.
///
/// \param any_length  whether the first dimension may differ
/// \param first_path  of the file that set what is expected, for messages
/// \throws Error kSchema when there is none, or one of another dtype or shape; kFormat when torch cannot hold
/// it
[[nodiscard]] const ArrayLayout& matching_array(const FileLayout& layout, const FileField& expected,
                                                bool is_only_field, bool any_length,
                                                const std::string& first_path);

/// Whether the elements lie end to end in the file, in this machine's byte order.
[[nodiscard]] bool is_plain(const ArrayLayout& array);

}  // namespace penstock
