#include "index/open.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "formats/inflate.h"

namespace penstock {
namespace {

std::vector<std::string> names_of(const FileLayout& layout) {
  std::vector<std::string> names;
  names.reserve(layout.arrays.size());
  for (const ArrayLayout& array : layout.arrays) names.push_back(array.name);
  return names;
}

std::string list_text(const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(kMost, names.size()); ++i) {
    text += (i == 0 ? "'" : ", '") + names[i] + "'";
  }
  return names.size() > kMost ? text + ", ... (" + std::to_string(names.size()) + " in all)" : text;
}

RowLayout row_layout(const ArrayLayout& array) {
  return {array.strides.front(), {array.strides.begin() + 1, array.strides.end()}, is_swapped(array)};
}

bool same_rows(const ArrayLayout& a, const ArrayLayout& b) {
  return a.dtype == b.dtype &&
         std::equal(a.shape.begin() + 1, a.shape.end(), b.shape.begin() + 1, b.shape.end());
}

void require_rows(const std::string& path, const std::string& field, const ArrayLayout& array) {
  if (!array.shape.empty()) return;
  throw Error(ErrorKind::kSchema, "a single number has no rows")
      .in_file(path)
      .in_field(field)
      .needed("an array of one dimension or more")
      .hint("Choose other arrays with fields=.");
}

/// One array, or a list of nothing but arrays.
void require_sequences(const std::string& path, const FileLayout& layout) {
  const bool is_sequence = layout.container == Container::kSequence;
  for (std::size_t i = 0; i < layout.arrays.size(); ++i) {
    if (is_sequence ? layout.arrays[i].name == std::to_string(i) : layout.arrays.size() == 1) continue;
    throw Error(ErrorKind::kSchema, is_sequence ? "the list holds other things than tensors"
                                                : "the file holds several arrays, and not in a list")
        .in_file(path)
        .found("array '" + layout.arrays[i].name + "'");
  }
}

/// Puts a column together, array by array.
class ColumnBuilder {
 public:
  explicit ColumnBuilder(const std::string& field) { parts_.name = field; }

  /// \throws Error kSchema when the array has no rows, or other ones than the first
  void add(const std::string& path, const ArrayLayout& array, std::shared_ptr<Storage> storage) {
    require_rows(path, parts_.name, array);
    if (parts_.shards.empty()) begin(path, array);
    if (!same_rows(first_, array)) {
      throw Error(ErrorKind::kSchema, "the shards disagree")
          .in_file(path)
          .in_field(parts_.name)
          .needed(rows_text(first_, 1) + " as in " + first_path_)
          .found(rows_text(array, 1));
    }
    const RowLayout rows = row_layout(array);
    if (parts_.layouts.empty() || parts_.layouts.back() != rows) parts_.layouts.push_back(rows);
    if (parts_.storages.empty() || parts_.storages.back() != storage) {
      parts_.storages.push_back(std::move(storage));
    }
    parts_.shards.push_back({array.offset, static_cast<std::uint32_t>(parts_.storages.size() - 1),
                             static_cast<std::uint32_t>(parts_.layouts.size() - 1)});
    parts_.rows.push_back(array.shape.front());
  }

  [[nodiscard]] std::shared_ptr<Column> finish() { return std::make_shared<Column>(std::move(parts_)); }

 private:
  void begin(const std::string& path, const ArrayLayout& array) {
    first_ = array;
    first_path_ = path;
    parts_.dtype = array.dtype;
    parts_.row_shape.assign(array.shape.begin() + 1, array.shape.end());
  }

  Column::Parts parts_;
  ArrayLayout first_;
  std::string first_path_;
};

}  // namespace

FileSet::FileSet(std::span<const std::string> paths, const std::optional<RawFormat>& raw, FileAccess access,
                 bool same_arrays) {
  files_.reserve(paths.size());
  for (const std::string& path : paths) {
    try {
      const OpenFile file(path);
      files_.push_back({path, file.identity(), read_header(file, raw),
                        std::make_shared<FileStorage>(path, file.identity(), access)});
    } catch (Error& error) {
      error.in_file(path);
      throw;
    }
    if (same_arrays) require_same_names(files_.back());
  }
}

Container FileSet::container() const noexcept {
  return files_.empty() ? Container::kArray : files_.front().layout.container;
}

std::vector<std::string> FileSet::names() const {
  return files_.empty() ? std::vector<std::string>{} : names_of(files_.front().layout);
}

LeftOut FileSet::left_out() const {
  for (const File& file : files_) {
    if (!file.layout.others.empty()) return {file.path, file.layout.others};
  }
  return {};
}

void FileSet::require_same_names(const File& file) const {
  if (holds_one(file) && holds_one(files_.front())) return;
  std::vector<std::string> expected = names();
  std::vector<std::string> actual = names_of(file.layout);
  std::sort(expected.begin(), expected.end());
  std::sort(actual.begin(), actual.end());
  if (expected == actual) return;
  throw Error(ErrorKind::kSchema, "the files hold different arrays")
      .in_file(file.path)
      .needed("arrays " + list_text(expected) + " as in " + files_.front().path)
      .found("arrays " + list_text(actual));
}

void FileSet::require_all_usable() const {
  for (const File& file : files_) {
    if (!file.layout.refused.empty()) {
      const RefusedArray& refused = file.layout.refused.front();
      throw format_error(refused.reason).in_file(file.path).in_field(refused.name);
    }
    if (file.layout.arrays.empty())
      throw Error(ErrorKind::kSchema, "the file holds no arrays").in_file(file.path);
  }
}

std::vector<std::shared_ptr<Column>> FileSet::columns(std::span<const std::string> arrays) const {
  std::vector<std::shared_ptr<Column>> columns;
  columns.reserve(arrays.size());
  for (const std::string& array : arrays) columns.push_back(column(array, array));
  for (const File& file : files_) require_same_rows(file, arrays);
  return columns;
}

void FileSet::require_same_rows(const File& file, std::span<const std::string> arrays) const {
  if (arrays.empty()) return;
  const std::int64_t rows = find(file, arrays.front()).shape.front();
  for (const std::string& array : arrays) {
    const std::int64_t others = find(file, array).shape.front();
    if (others == rows) continue;
    throw Error(ErrorKind::kSchema, "the arrays of the file disagree in their number of rows")
        .in_file(file.path)
        .in_field(array)
        .needed(std::to_string(rows) + " rows as in '" + arrays.front() + "'")
        .found(std::to_string(others) + " rows")
        .hint("Choose arrays with fields=.");
  }
}

bool FileSet::holds_one(const File& file) {
  return file.layout.arrays.size() == 1 && file.layout.refused.empty();
}

const ArrayLayout& FileSet::find(const File& file, const std::string& array) const {
  const bool only_one = holds_one(file) && holds_one(files_.front());
  if (only_one && array == files_.front().layout.arrays.front().name) return file.layout.arrays.front();
  for (const ArrayLayout& each : file.layout.arrays) {
    if (each.name == array) return each;
  }
  for (const RefusedArray& refused : file.layout.refused) {
    if (refused.name == array) throw format_error(refused.reason).in_file(file.path).in_field(array);
  }
  try {
    refuse_other(file.layout, array);
  } catch (Error& error) {
    error.in_file(file.path);
    throw;
  }
  throw Error(ErrorKind::kSchema, "there is no such array")
      .in_file(file.path)
      .in_field(array)
      .needed("one of " + list_text(names_of(file.layout)));
}

std::shared_ptr<Storage> FileSet::storage_for(const File& file, const ArrayLayout& array) {
  if (!array.deflated) return file.storage;
  const auto archive = std::make_shared<FileStorage>(file.path, file.identity, FileAccess::kRead);
  return std::make_shared<InflatedStorage>(archive, *array.deflated);
}

std::shared_ptr<Column> FileSet::column(const std::string& array, const std::string& field) const {
  ColumnBuilder builder(field);
  for (const File& file : files_) {
    const ArrayLayout& layout = find(file, array);
    builder.add(file.path, layout, storage_for(file, layout));
  }
  return builder.finish();
}

std::shared_ptr<Column> FileSet::values(const std::string& field) const {
  ColumnBuilder builder(field);
  for (const File& file : files_) {
    require_sequences(file.path, file.layout);
    for (const ArrayLayout& array : file.layout.arrays) {
      builder.add(file.path, array, storage_for(file, array));
    }
  }
  return builder.finish();
}

}  // namespace penstock
