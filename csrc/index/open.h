#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/layout.h"
#include "formats/raw.h"
#include "index/column.h"
#include "index/header.h"
#include "storage/file.h"

namespace penstock {

/// Files whose headers have been parsed, and that agree on which arrays they hold. (Files that hold
/// one array each agree whatever they call it, so formats may be mixed.)
class FileSet {
 public:
  /// Opens each file once, reads its header and closes it.
  ///
  /// \param raw  given: the files have no header and this is what they hold
  /// \param same_arrays  whether the files must agree on them; else only `values` can be asked for
  /// \throws Error kShard, kFormat with the path; kSchema when two files hold differently named arrays
  FileSet(std::span<const std::string> paths, const std::optional<RawFormat>& raw, FileAccess access,
          bool same_arrays = true);

  [[nodiscard]] Container container() const noexcept;
  [[nodiscard]] std::vector<std::string> names() const;

  /// What the first file that has such values holds beside its arrays; no values: none has any.
  [[nodiscard]] LeftOut left_out() const;

  /// One array of every file, as a column.
  ///
  /// \param array  a name of names()
  /// \param field  what the column is called
  /// \throws Error kSchema when there is no such array, it has no rows (0-d), or two files disagree in
  ///         dtype or row shape (naming both); kFormat when it is one that torch cannot hold
  [[nodiscard]] std::shared_ptr<Column> column(const std::string& array, const std::string& field) const;

  /// All arrays of all files as one column, each of them a shard: sequences of different lengths.
  ///
  /// \throws Error as column()
  [[nodiscard]] std::shared_ptr<Column> values(const std::string& field) const;

  /// Several arrays of every file, whose rows belong together, called as they are.
  ///
  /// \throws Error as column(); kSchema when two arrays of a file differ in length
  [[nodiscard]] std::vector<std::shared_ptr<Column>> columns(std::span<const std::string> arrays) const;

  /// \throws Error kFormat naming the first array that cannot become a tensor, kSchema for the first file
  ///         without any
  void require_all_usable() const;

 private:
  struct File {
    std::string path;
    FileIdentity identity;
    FileLayout layout;
    std::shared_ptr<Storage> storage;
  };

  [[nodiscard]] static bool holds_one(const File& file);
  void require_same_names(const File& file) const;
  void require_same_rows(const File& file, std::span<const std::string> arrays) const;
  [[nodiscard]] static std::shared_ptr<Storage> storage_for(const File& file, const ArrayLayout& array);
  [[nodiscard]] const ArrayLayout& find(const File& file, const std::string& array) const;

  std::vector<File> files_;
};

}  // namespace penstock
