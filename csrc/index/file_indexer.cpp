#include "index/file_indexer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "storage/buffered_file.h"
#include "storage/file.h"

namespace penstock {
namespace {

FileStamp stamp_of(const std::string& path) {
  const FileIdentity identity = identity_of_file(path).value_or(FileIdentity{});
  return {identity.size, identity.mtime_ns};
}

std::int64_t checked_bytes(const FileField& field) {
  const auto bytes = bytes_of_array(field.dtype, field.shape);
  if (!bytes) throw Error(ErrorKind::kSchema, "an array of this shape is impossible").in_field(field.name);
  return *bytes;
}

FileField field_of(const ArrayLayout& array) {
  FileField field{array.name, array.dtype, array.shape, 0};
  field.bytes = checked_bytes(field);
  return field;
}

bool holds_one(const FileLayout& layout) { return layout.arrays.size() == 1 && layout.refused.empty(); }

Error no_such_array(const FileLayout& layout, const std::string& name) {
  std::string names;
  for (const ArrayLayout& array : layout.arrays) names += (names.empty() ? "'" : ", '") + array.name + "'";
  return Error(ErrorKind::kSchema, "there is no such array")
      .in_field(name)
      .found(names.empty() ? "no arrays" : "arrays " + names);
}

/// From dimension `from` on.
bool same_shape(std::span<const std::int64_t> a, std::span<const std::int64_t> b, std::size_t from) {
  if (a.size() != b.size()) return false;
  return a.empty() || std::ranges::equal(a.subspan(from), b.subspan(from));
}

Error disagreement(const FileField& expected, DType dtype, const std::vector<std::int64_t>& shape,
                   const std::string& first_path) {
  const ArrayLayout wanted{expected.name, expected.dtype, false, expected.shape, {}, 0, {}};
  const ArrayLayout found{expected.name, dtype, false, shape, {}, 0, {}};
  Error error(ErrorKind::kSchema, "the files disagree");
  error.in_field(expected.name)
      .needed(rows_text(wanted, 0) + " as in " + first_path)
      .found(rows_text(found, 0));
  return error;
}

const ArrayLayout& find(const FileLayout& layout, const std::string& name, bool is_only_field) {
  if (is_only_field && holds_one(layout)) return layout.arrays.front();
  for (const ArrayLayout& array : layout.arrays) {
    if (array.name == name) return array;
  }
  for (const RefusedArray& refused : layout.refused) {
    if (refused.name == name) throw format_error(refused.reason).in_field(name);
  }
  refuse_other(layout, name);
  throw no_such_array(layout, name);
}

}  // namespace

FileLayout read_sample_header(const ByteSource& file, const std::optional<RawFormat>& raw) {
  FileLayout layout = read_header(file, raw);
  if (!raw) return layout;
  ArrayLayout& array = layout.arrays.front();
  if (array.shape.front() != 1) {
    throw Error(ErrorKind::kSchema, "a file of one sample must hold one row")
        .needed(rows_text(array, 1))
        .found(std::to_string(array.shape.front()) + " rows")
        .hint("ShardDataset reads files of many rows.");
  }
  array.shape.erase(array.shape.begin());
  array.strides.erase(array.strides.begin());
  return layout;
}

const ArrayLayout& matching_array(const FileLayout& layout, const FileField& expected, bool is_only_field,
                                  bool any_length, const std::string& first_path) {
  const ArrayLayout& array = find(layout, expected.name, is_only_field);
  const std::size_t from = any_length ? 1 : 0;
  if (array.dtype == expected.dtype && same_shape(array.shape, expected.shape, from)) return array;
  throw disagreement(expected, array.dtype, array.shape, first_path);
}

bool is_plain(const ArrayLayout& array) {
  if (array.deflated || (is_swapped(array) && swap_bytes(array.dtype) > 1)) return false;
  return lie_end_to_end(array.shape, array.strides, item_bytes(array.dtype));
}

FileIndexer::FileIndexer(Request request) : request_(std::move(request)) {
  stamps_.resize(request_.names.size());
  states_.resize(request_.names.size());
}

void FileIndexer::read_first() {
  while (!agreed_ && first_unread_ < num_files()) read_one(first_unread_++);
}

void FileIndexer::read(std::int64_t begin, std::int64_t end) {
  for (std::int64_t file = begin; file < end; ++file) {
    if (states_[static_cast<std::size_t>(file)] == State::kUnread) read_one(file);
  }
}

std::string FileIndexer::path_of(std::int64_t file) const {
  return request_.root + "/" + std::string(request_.names[static_cast<std::size_t>(file)]);
}

void FileIndexer::read_one(std::int64_t number) {
  const std::string path = path_of(number);
  try {
    if (!take_known(number, path)) {
      const OpenFile file(path);
      const FileLayout layout = read_sample_header(BufferedFile(file), request_.raw);
      if (!agreed_) agree(layout, path);
      take_arrays(layout, number);
      if (request_.fields.empty()) note_left_out(layout, number);
      stamps_[static_cast<std::size_t>(number)] = {file.identity().size, file.identity().mtime_ns};
    }
    states_[static_cast<std::size_t>(number)] = State::kRead;
  } catch (Error& error) {
    error.in_file(path);
    states_[static_cast<std::size_t>(number)] = State::kFailed;
    const std::scoped_lock lock(mutex_);
    failures_.push_back({number, error});
  }
}

/// A file that an older index knows, and that has not changed since, is not read again.
bool FileIndexer::take_known(std::int64_t file, const std::string& path) {
  if (!request_.known) return false;
  const FileIndex& known = *request_.known;
  const auto at = static_cast<std::size_t>(file);
  const auto before = known.find(request_.names[at]);
  if (!before || stamp_of(path) != known.stamp(*before)) return false;
  std::vector<FileField> arrays;
  for (std::size_t i = 0; i < known.fields().size(); ++i) arrays.push_back(known.array(*before, i));
  if (!agreed_) agree(arrays, known.container(), path);
  const bool same = std::ranges::equal(arrays, fields_, [](const FileField& a, const FileField& b) {
    return a.name == b.name && a.dtype == b.dtype && same_shape(a.shape, b.shape, 1);
  });
  if (!same) return false;
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    offsets_[at * fields_.size() + i] = known.offset(*before, i);
    length(file, i) = arrays[i].shape.empty() ? 1 : arrays[i].shape.front();
  }
  stamps_[at] = known.stamp(*before);
  return true;
}

/// The first file that can be read says what the others must hold.
void FileIndexer::agree(const FileLayout& layout, const std::string& path) {
  std::vector<FileField> fields;
  if (request_.fields.empty()) {
    if (!layout.refused.empty())
      throw format_error(layout.refused.front().reason).in_field(layout.refused.front().name);
    for (const ArrayLayout& array : layout.arrays) fields.push_back(field_of(array));
    if (fields.empty()) throw Error(ErrorKind::kSchema, "the file holds no arrays");
  }
  for (const std::string& name : request_.fields) {
    const bool has_no_name = layout.container == Container::kArray && request_.fields.size() == 1;
    fields.push_back(field_of(find(layout, name, has_no_name)));
    fields.back().name = name;
  }
  agree(std::move(fields), layout.container, path);
}

void FileIndexer::agree(std::vector<FileField> fields, Container container, const std::string& path) {
  fields_ = std::move(fields);
  container_ = container;
  first_path_ = path;
  offsets_.resize(stamps_.size() * fields_.size());
  lengths_.resize(offsets_.size());
  agreed_ = true;
}

void FileIndexer::take_arrays(const FileLayout& layout, std::int64_t file) {
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    const bool asked_by_name = !request_.fields.empty() && layout.container != Container::kArray;
    const ArrayLayout& array =
        matching_array(layout, fields_[i], fields_.size() == 1 && !asked_by_name, true, first_path_);
    length(file, i) = array.shape.empty() ? 1 : array.shape.front();
    offsets_[static_cast<std::size_t>(file) * fields_.size() + i] =
        is_plain(array) ? array.offset : FileIndex::kElsewhere;
  }
}

/// Of the first file, whatever the order in which they are read.
void FileIndexer::note_left_out(const FileLayout& layout, std::int64_t file) {
  if (layout.others.empty()) return;
  const std::scoped_lock lock(mutex_);
  if (!left_out_.empty() && left_out_of_ < file) return;
  left_out_ = layout.others;
  left_out_of_ = file;
}

LeftOut FileIndexer::left_out() const {
  const std::scoped_lock lock(mutex_);
  return left_out_.empty() ? LeftOut{} : LeftOut{path_of(left_out_of_), left_out_};
}

void FileIndexer::settle() {
  for (std::size_t field = 0; field < fields_.size(); ++field) {
    if (!fields_[field].is_ragged && !fields_[field].shape.empty()) settle_field(field);
  }
}

void FileIndexer::settle_field(std::size_t field) {
  FileField& first = fields_[field];
  std::vector<std::int64_t> others;
  for (std::int64_t file = 0; file < num_files(); ++file) {
    const bool is_read = states_[static_cast<std::size_t>(file)] == State::kRead;
    if (is_read && length(file, field) != first.shape.front()) others.push_back(file);
  }
  const auto count = static_cast<std::int64_t>(others.size());
  const bool is_ragged = (request_.ragged == Ragged::kIfAny && count > 0) ||
                         (request_.ragged == Ragged::kIfMost && count > num_files() / 2);
  if (is_ragged) {
    first.shape.erase(first.shape.begin());
    first.is_ragged = true;
    first.bytes = checked_bytes(first);
    return;
  }
  for (const std::int64_t file : others) {
    std::vector<std::int64_t> shape = first.shape;
    shape.front() = length(file, field);
    Error error = disagreement(first, first.dtype, shape, first_path_);
    error.in_file(path_of(file));
    if (request_.ragged == Ragged::kIfMost) error.hint("Say ragged=True if they are sequences.");
    states_[static_cast<std::size_t>(file)] = State::kFailed;
    failures_.push_back({file, error});
  }
}

std::vector<FileIndexer::Failure> FileIndexer::failures() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Failure> failures = failures_;
  std::sort(failures.begin(), failures.end(),
            [](const Failure& a, const Failure& b) { return a.file < b.file; });
  return failures;
}

std::shared_ptr<FileIndex> FileIndexer::finish() const {
  std::vector<bool> left_out(stamps_.size());
  for (const Failure& failure : failures()) left_out[static_cast<std::size_t>(failure.file)] = true;
  FileIndex::Parts parts{request_.root,    request_.recipe,  container_, fields_, {}, {}, {},
                         request_.folders, request_.changed, {}};
  const bool any_ragged = std::ranges::any_of(fields_, &FileField::is_ragged);
  parts.names.reserve(stamps_.size(), request_.names.text().size());
  for (std::size_t i = 0; i < stamps_.size(); ++i) {
    if (left_out[i]) continue;
    parts.names.add(request_.names[i]);
    parts.stamps.push_back(stamps_[i]);
    const auto first = offsets_.begin() + static_cast<std::ptrdiff_t>(i * fields_.size());
    parts.offsets.insert(parts.offsets.end(), first, first + static_cast<std::ptrdiff_t>(fields_.size()));
    if (!any_ragged) continue;
    const auto length = lengths_.begin() + static_cast<std::ptrdiff_t>(i * fields_.size());
    parts.lengths.insert(parts.lengths.end(), length, length + static_cast<std::ptrdiff_t>(fields_.size()));
  }
  if (parts.stamps.empty()) throw Error(ErrorKind::kSchema, "no file is left").in_file(request_.root);
  return FileIndex::make(parts);
}

}  // namespace penstock
