#include "index/file_index.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <numeric>
#include <utility>

#include "base/checksum.h"
#include "base/error.h"
#include "base/fork.h"
#include "base/random.h"
#include "base/text.h"
#include "storage/file.h"

namespace penstock {
namespace {

constexpr std::array<char, 8> kMagic = {'P', 'E', 'N', 'S', 'T', 'I', 'D', 'X'};
constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kByteOrder = 0x01020304;
constexpr std::size_t kUnit = 8;

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t byte_order = kByteOrder;
  std::uint32_t version = kVersion;
  std::uint64_t image_bytes = 0;
  std::uint64_t checksum = 0;  ///< of all that follows the header, and of the numbers below
  std::uint64_t files = 0;
  std::uint64_t folders = 0;
  std::uint64_t fields = 0;
  std::uint64_t field_bytes = 0;
  std::uint64_t root_bytes = 0;
  std::uint64_t recipe_bytes = 0;
  std::uint64_t name_bytes = 0;
  std::uint64_t folder_bytes = 0;
  std::uint64_t container = 0;
};

std::uint64_t checksum_of(Header header, Bytes rest) {
  header.checksum = 0;
  return checksum(std::as_bytes(std::span(&header, 1))) ^ checksum(rest);
}

constexpr std::size_t padded(std::size_t bytes) { return (bytes + kUnit - 1) / kUnit * kUnit; }

template <typename T>
Bytes bytes_of(const std::vector<T>& items) {
  return std::as_bytes(std::span(items));
}

// --- fields, as text in an image -------------------------------------------------------------------------

void append_number(std::string& text, std::uint64_t number) {
  text.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

std::string fields_text(std::span<const FileField> fields) {
  std::string text;
  for (const FileField& field : fields) {
    append_number(text, field.name.size());
    text += field.name;
    append_number(text, static_cast<std::uint64_t>(field.dtype));
    append_number(text, field.shape.size());
    for (const std::int64_t length : field.shape) append_number(text, static_cast<std::uint64_t>(length));
    append_number(text, field.is_ragged ? 1 : 0);
  }
  return text;
}

Error damaged(const char* what) { return format_error("the index file is damaged").found(what); }

/// Takes numbers and texts off the front.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::uint64_t number() {
    std::uint64_t number = 0;
    std::memcpy(&number, take(sizeof(number)).data(), sizeof(number));
    return number;
  }

  std::string_view take(std::uint64_t bytes) {
    if (bytes > text_.size()) throw damaged("fields that are cut short");
    const std::string_view taken = text_.substr(0, bytes);
    text_.remove_prefix(bytes);
    return taken;
  }

 private:
  std::string_view text_;
};

std::vector<FileField> fields_from(std::string_view text, std::uint64_t count) {
  constexpr std::uint64_t kMostDims = 64;
  Reader reader(text);
  std::vector<FileField> fields;
  for (std::uint64_t i = 0; i < count; ++i) {
    FileField field;
    field.name = reader.take(reader.number());
    const std::uint64_t dtype = reader.number();
    if (dtype > static_cast<std::uint64_t>(DType::kFloat4E2M1FNx2)) throw damaged("an unknown dtype");
    field.dtype = static_cast<DType>(dtype);
    const std::uint64_t dims = reader.number();
    if (dims > kMostDims) throw damaged("too many dimensions");
    for (std::uint64_t d = 0; d < dims; ++d) {
      field.shape.push_back(static_cast<std::int64_t>(reader.number()));
      if (field.shape.back() < 0) throw damaged("a negative length");
    }
    field.is_ragged = reader.number() != 0;
    const auto bytes = bytes_of_array(field.dtype, field.shape);
    if (!bytes) throw damaged("an impossible shape");
    field.bytes = *bytes;
    fields.push_back(std::move(field));
  }
  return fields;
}

// --- sections --------------------------------------------------------------------------------------------

/// The sections of an image, one after the other.
class Sections {
 public:
  explicit Sections(Bytes bytes) : bytes_(bytes) {}

  template <typename T>
  std::span<const T> take(std::uint64_t count) {
    const auto size = checked_multiply(count, sizeof(T));
    if (!size || *size > bytes_.size()) throw damaged("sections that are cut short");
    const auto* items = reinterpret_cast<const T*>(bytes_.data());
    bytes_ = bytes_.subspan(std::min(padded(*size), bytes_.size()));
    return {items, static_cast<std::size_t>(count)};
  }

  std::string_view text(std::uint64_t size) {
    const std::span<const char> characters = take<char>(size);
    return {characters.data(), characters.size()};
  }

 private:
  Bytes bytes_;
};

/// Ends of strings grow, and none lies past the text.
void require_ends(std::span<const std::uint64_t> ends, std::uint64_t text_bytes) {
  if (!std::is_sorted(ends.begin(), ends.end())) throw damaged("names out of order");
  if ((ends.empty() ? 0 : ends.back()) != text_bytes) throw damaged("names that do not add up");
}

std::string_view slice(std::string_view text, std::span<const std::uint64_t> ends, std::size_t i) noexcept {
  const std::uint64_t begin = i == 0 ? 0 : ends[i - 1];
  return text.substr(begin, ends[i] - begin);
}

/// The header that an image of so many bytes begins with.
///
/// \param front  the image, or its beginning
Header header_in(Bytes front, std::uint64_t image_bytes) {
  Header header;
  const std::size_t begun = std::min(front.size(), kMagic.size());
  if (begun > 0 && std::memcmp(front.data(), kMagic.data(), begun) != 0) {
    throw Error(ErrorKind::kArgument, "this is no index file").hint("Name another one, or remove it.");
  }
  if (front.size() < sizeof(Header)) throw damaged("another length than any index has");
  std::memcpy(&header, front.data(), sizeof(Header));
  if (header.byte_order != kByteOrder || header.version != kVersion) {
    throw format_error("the index file is of another version of Penstock, or another kind of machine")
        .needed("version " + std::to_string(kVersion))
        .found("version " + std::to_string(header.version));
  }
  if (header.image_bytes != image_bytes) {
    throw damaged("another length than it says").needed(bytes_text(header.image_bytes));
  }
  return header;
}

Header header_of(Bytes image) {
  const Header header = header_in(image, image.size());
  if (header.checksum != checksum_of(header, image.subspan(sizeof(Header)))) {
    throw damaged("a checksum that is wrong");
  }
  return header;
}

Error unwritable(const std::string& path, int code) {
  return system_error("the index file cannot be written", code).in_file(path);
}

void write_fully(const std::string& path, int descriptor, Bytes bytes) {
  while (!bytes.empty()) {
    const auto count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw unwritable(path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  if (::fsync(descriptor) != 0) throw unwritable(path, errno);
}

/// The one lock for sharing images: it happens once per index, and a lock per index could not survive fork.
ForkSafeMutex& sharing = *new ForkSafeMutex;

}  // namespace

std::optional<std::int64_t> bytes_of_array(DType dtype, const std::vector<std::int64_t>& shape) {
  const auto strides = contiguous_strides(shape, item_bytes(dtype));
  const auto bytes = strides ? spanned_bytes(shape, *strides, item_bytes(dtype)) : std::nullopt;
  if (!bytes) return std::nullopt;
  return static_cast<std::int64_t>(*bytes);
}

std::shared_ptr<FileIndex> FileIndex::make(const Parts& parts) {
  const std::string fields = fields_text(parts.fields);
  Header header;
  header.files = parts.names.size();
  header.folders = parts.folders.size();
  header.fields = parts.fields.size();
  header.field_bytes = fields.size();
  header.root_bytes = parts.root.size();
  header.recipe_bytes = parts.recipe.size();
  header.name_bytes = parts.names.text().size();
  header.folder_bytes = parts.folders.text().size();
  header.container = static_cast<std::uint64_t>(parts.container);
  const std::array<Bytes, 11> sections = {
      bytes_of(parts.stamps),
      bytes_of(parts.offsets),
      std::as_bytes(parts.names.ends()),
      bytes_of(parts.changed),
      std::as_bytes(parts.folders.ends()),
      as_bytes(fields),
      as_bytes(parts.root),
      as_bytes(parts.recipe),
      as_bytes(parts.names.text()),
      as_bytes(parts.folders.text()),
      bytes_of(parts.lengths),
  };
  header.image_bytes =
      std::accumulate(sections.begin(), sections.end(), static_cast<std::uint64_t>(sizeof(Header)),
                      [](std::uint64_t sum, Bytes section) { return sum + padded(section.size()); });
  auto image = std::make_shared<SharedMemory>(header.image_bytes, SharedMemory::With::kChildren);
  std::byte* to = image->data() + sizeof(Header);
  for (const Bytes section : sections) {
    std::copy(section.begin(), section.end(), to);
    to += padded(section.size());
  }
  header.checksum = checksum_of(header, image->bytes().subspan(sizeof(Header)));
  std::memcpy(image->data(), &header, sizeof(Header));
  return std::make_shared<FileIndex>(std::move(image));
}

std::shared_ptr<FileIndex> FileIndex::select(std::span<const std::int64_t> files) const {
  Parts parts{root_, recipe_, container_, fields_, {}, {}, {}, {}, {}, {}};
  parts.names.reserve(files.size(), 0);
  parts.stamps.reserve(files.size());
  parts.offsets.reserve(files.size() * fields_.size());
  for (const std::int64_t file : files) {
    parts.names.add(name(file));
    parts.stamps.push_back(stamp(file));
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      parts.offsets.push_back(offset(file, i));
      if (!lengths_.empty()) parts.lengths.push_back(length(file, i));
    }
  }
  return make(parts);
}

std::shared_ptr<FileIndex> FileIndex::open(const std::string& path) {
  try {
    const OpenFile file(path);
    std::array<std::byte, sizeof(Header)> bytes{};
    const auto front = std::span(bytes).first(std::min<std::size_t>(file.size(), bytes.size()));
    file.read(0, front);
    (void)header_in(front, file.size());
    return std::make_shared<FileIndex>(SharedMemory::copy_of_file(file));
  } catch (Error& error) {
    error.in_file(path);
    throw;
  }
}

FileIndex::FileIndex(std::shared_ptr<SharedMemory> image) : image_(std::move(image)) { take_apart(); }

void FileIndex::take_apart() {
  const Header header = header_of(image_->bytes());
  fingerprint_ = header.checksum;
  Sections sections(image_->bytes().subspan(sizeof(Header)));
  stamps_ = sections.take<FileStamp>(header.files);
  const auto offsets = checked_multiply(header.files, header.fields);
  if (!offsets || header.container > static_cast<std::uint64_t>(Container::kMapping))
    throw damaged("its header");
  offsets_ = sections.take<std::uint64_t>(*offsets);
  name_ends_ = sections.take<std::uint64_t>(header.files);
  changed_ = sections.take<std::int64_t>(header.folders);
  folder_ends_ = sections.take<std::uint64_t>(header.folders);
  fields_ = fields_from(sections.text(header.field_bytes), header.fields);
  root_ = sections.text(header.root_bytes);
  recipe_ = sections.text(header.recipe_bytes);
  names_ = sections.text(header.name_bytes);
  folders_ = sections.text(header.folder_bytes);
  const bool any_ragged = std::ranges::any_of(fields_, &FileField::is_ragged);
  lengths_ = sections.take<std::int64_t>(any_ragged ? *offsets : 0);
  container_ = static_cast<Container>(header.container);
  require_ends(name_ends_, names_.size());
  require_ends(folder_ends_, folders_.size());
  require_inside();
}

/// A row of all fields has a size, and what lies end to end lies inside its file.
void FileIndex::require_inside() {
  constexpr std::uint64_t kLargestRow = std::uint64_t{1} << 48U;
  if (fields_.empty()) throw damaged("no fields");
  most_bytes_.assign(fields_.size(), 0);
  for (std::int64_t file = 0; file < num_files(); ++file) {
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      require_array_inside(file, i);
      most_bytes_[i] = std::max(most_bytes_[i], bytes(file, i));
    }
  }
  std::uint64_t row_bytes = 0;
  for (const std::int64_t most : most_bytes_) {
    const auto sum = checked_add(row_bytes, static_cast<std::uint64_t>(most));
    if (!sum || *sum > kLargestRow) throw damaged("fields that no memory can hold");
    row_bytes = *sum;
  }
}

void FileIndex::require_array_inside(std::int64_t file, std::size_t field) const {
  const std::int64_t length = this->length(file, field);
  const auto bytes = length < 0 ? std::nullopt
                                : checked_multiply(static_cast<std::uint64_t>(length),
                                                   static_cast<std::uint64_t>(fields_[field].bytes));
  const std::uint64_t at = offset(file, field);
  const bool is_inside =
      bytes && (at == kElsewhere || *bytes == 0 || in_bounds(stamp(file).size, at, *bytes));
  if (!is_inside) throw damaged("an array outside its file");
}

std::string_view FileIndex::name(std::int64_t file) const noexcept {
  return slice(names_, name_ends_, static_cast<std::size_t>(file));
}

std::string_view FileIndex::folder(std::int64_t folder) const noexcept {
  return slice(folders_, folder_ends_, static_cast<std::size_t>(folder));
}

std::string FileIndex::path(std::int64_t file) const {
  const std::string_view name = this->name(file);
  std::string path;
  path.reserve(root_.size() + 1 + name.size());
  return path.append(root_).append("/").append(name);
}

const FileStamp& FileIndex::stamp(std::int64_t file) const noexcept {
  return stamps_[static_cast<std::size_t>(file)];
}

std::uint64_t FileIndex::offset(std::int64_t file, std::size_t field) const noexcept {
  return offsets_[static_cast<std::size_t>(file) * fields_.size() + field];
}

std::int64_t FileIndex::length(std::int64_t file, std::size_t field) const noexcept {
  return fields_[field].is_ragged ? lengths_[static_cast<std::size_t>(file) * fields_.size() + field] : 1;
}

FileField FileIndex::array(std::int64_t file, std::size_t field) const {
  FileField array = fields_[field];
  if (!array.is_ragged) return array;
  array.is_ragged = false;
  array.shape.insert(array.shape.begin(), length(file, field));
  array.bytes = bytes(file, field);
  return array;
}

std::optional<std::int64_t> FileIndex::find(std::string_view name) const noexcept {
  std::int64_t low = 0;
  for (std::int64_t high = num_files(); low < high;) {
    const std::int64_t middle = low + (high - low) / 2;
    if (this->name(middle) < name) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == num_files() || this->name(low) != name) return std::nullopt;
  return low;
}

bool FileIndex::is_settled() const noexcept {
  return !changed_.empty() && std::ranges::find(changed_, 0) == changed_.end();
}

bool FileIndex::is_current() const {
  if (!is_settled()) return false;
  for (std::size_t i = 0; i < changed_.size(); ++i) {
    const std::string below(folder(static_cast<std::int64_t>(i)));
    try {
      if (folder_changed(below.empty() ? root_ : root_ + "/" + below) != changed_[i]) {
        return false;
      }
    } catch (const Error&) {
      return false;
    }
  }
  return true;
}

int FileIndex::descriptor() const {
  const std::scoped_lock lock(sharing);
  if (!shareable_) {
    shareable_ = std::make_unique<SharedMemory>(image_->size(), SharedMemory::With::kAnyone);
    std::ranges::copy(image_->bytes(), shareable_->data());
  }
  return shareable_->descriptor();
}

std::uint64_t FileIndex::fingerprint_of_files() const {
  std::vector<std::uint64_t> sizes;
  sizes.reserve(stamps_.size());
  for (const FileStamp& stamp : stamps_) sizes.push_back(stamp.size);
  const std::uint64_t ends = mix64(checksum(std::as_bytes(name_ends_)));
  return mix64(ends ^ checksum(as_bytes(names_)) ^ mix64(checksum(bytes_of(sizes))));
}

bool FileIndex::same_files_as(const FileIndex& other) const noexcept {
  return fields_ == other.fields_ && container_ == other.container_ && names_ == other.names_ &&
         std::ranges::equal(name_ends_, other.name_ends_) && std::ranges::equal(stamps_, other.stamps_) &&
         std::ranges::equal(offsets_, other.offsets_) && std::ranges::equal(lengths_, other.lengths_);
}

void FileIndex::write(const std::string& path) const {
  std::string unfinished = path + ".XXXXXX";
  const int descriptor = ::mkostemp(unfinished.data(), O_CLOEXEC);
  if (descriptor < 0) throw unwritable(path, errno);
  try {
    write_fully(path, descriptor, image_->bytes());
    constexpr mode_t kReadableByAll = 0644;
    if (::fchmod(descriptor, kReadableByAll) != 0 || ::rename(unfinished.c_str(), path.c_str()) != 0) {
      throw unwritable(path, errno);
    }
  } catch (...) {
    ::close(descriptor);
    ::unlink(unfinished.c_str());
    throw;
  }
  ::close(descriptor);
}

}  // namespace penstock
