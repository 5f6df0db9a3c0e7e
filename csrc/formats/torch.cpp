#include "formats/torch.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/deflate.h"
#include "formats/pickle.h"

namespace penstock {
namespace {

using Kind = PickleValue::Kind;

constexpr std::uint64_t kMaxPickleBytes = std::uint64_t{64} << 20U;
constexpr std::size_t kMaxNesting = 256;
constexpr std::uint64_t kMaxLayoutBytes = std::uint64_t{1} << 28U;
constexpr std::size_t kMostOthers = 1000;    ///< nobody reads on, and a list can have millions
constexpr std::size_t kLongestOther = 4096;  ///< bytes of its name

// --- the archive ------------------------------------------------------------------------------------

/// A torch archive: a zip archive whose records lie in one folder. thread-compatible
class Archive {
 public:
  Archive(const ByteSource& file, const ZipDirectory& directory);

  [[nodiscard]] const ZipEntry* find(std::string_view record) const {
    return directory_.find(folder_ + std::string(record));
  }
  [[nodiscard]] bool has_folder(std::string_view folder) const;

  /// Where the record's bytes lie, which are there as they are.
  [[nodiscard]] std::uint64_t data_offset(const ZipEntry& entry) const;
  [[nodiscard]] std::vector<std::byte> read(const ZipEntry& entry, std::uint64_t most_bytes) const;

 private:
  const ByteSource& file_;
  const ZipDirectory& directory_;
  std::string folder_;  ///< with the '/'
};

Archive::Archive(const ByteSource& file, const ZipDirectory& directory) : file_(file), directory_(directory) {
  const std::string_view first = directory.entries.empty() ? "" : std::string_view(directory.entries[0].name);
  const std::size_t slash = first.find('/');
  if (slash == std::string_view::npos) {
    throw format_error("the archive's records lie in no folder, so torch.save did not write it");
  }
  folder_ = first.substr(0, slash + 1);
}

bool Archive::has_folder(std::string_view folder) const {
  const std::string prefix = folder_ + std::string(folder);
  return std::any_of(directory_.entries.begin(), directory_.entries.end(),
                     [&](const ZipEntry& entry) { return entry.name.starts_with(prefix); });
}

std::uint64_t Archive::data_offset(const ZipEntry& entry) const {
  if (entry.encrypted) throw format_error("the record " + entry.name + " is encrypted");
  if (entry.method != 0) {
    throw format_error("the record " + entry.name + " is compressed, which torch.save never does")
        .needed("method 0 (stored)")
        .found("method " + std::to_string(entry.method))
        .hint("Load it with torch and save it again.");
  }
  if (entry.compressed_bytes != entry.bytes) {
    throw format_error("the record " + entry.name + " is stored, but its two sizes differ")
        .needed(bytes_text(entry.bytes))
        .found(bytes_text(entry.compressed_bytes));
  }
  return zip_data_offset(file_, directory_, entry);
}

std::vector<std::byte> Archive::read(const ZipEntry& entry, std::uint64_t most_bytes) const {
  if (entry.bytes > most_bytes) {
    throw format_error("the record " + entry.name + " is too large")
        .needed("at most " + bytes_text(most_bytes))
        .found(bytes_text(entry.bytes));
  }
  return file_.read(data_offset(entry), entry.bytes);
}

void refuse_other_archives(const Archive& archive) {
  if (archive.find("constants.pkl") != nullptr || archive.has_folder("code/")) {
    throw format_error("the file is a TorchScript program")
        .needed("tensors of torch.save")
        .hint("Save torch.jit.load(path).state_dict() with torch.save.");
  }
  if (archive.find("data.pkl") != nullptr) return;
  if (archive.find("archive_format") != nullptr) {
    throw format_error("the file is a program of torch.export")
        .needed("tensors of torch.save")
        .hint("Save torch.export.load(path).state_dict with torch.save.");
  }
  throw format_error("the archive has no data.pkl, so torch.save did not write it");
}

bool is_big_endian(const Archive& archive) {
  constexpr std::uint64_t kMostBytes = 64;
  const ZipEntry* const entry = archive.find("byteorder");
  if (entry == nullptr) return false;
  const auto bytes = archive.read(*entry, kMostBytes);
  const std::string_view order = as_text(bytes);
  if (order == "little" || order == "big") return order == "big";
  throw format_error("the record " + entry->name + " is broken")
      .needed("'little' or 'big'")
      .found(quoted_text(order));
}

// --- names ------------------------------------------------------------------------------------------

struct NamedTensor {
  std::string name;
  const PickledTensor* tensor;
};

std::string place_text(std::string_view path) {
  return path.empty() ? "one at the top level" : "one inside " + quoted_text(path);
}

bool holds_values(const PickleValue& value) noexcept {
  return value.kind == Kind::kTuple || value.kind == Kind::kList || value.kind == Kind::kDict ||
         value.kind == Kind::kSet;
}

/// Walks a pickle's value and names the tensors it meets, and what is none. single-owner
class TensorWalk {
 public:
  explicit TensorWalk(const PickleData& data) : data_(data), open_(data.containers.size()) {}

  void run() { visit(data_.root, 0); }

  std::vector<NamedTensor> take_tensors() { return std::move(found_); }
  std::vector<OtherValue> take_others() { return std::move(others_); }

 private:
  void visit(const PickleValue& value, std::size_t depth);
  void visit_items(const PickleValue& value, std::size_t depth);
  void visit_item(const PickleValue& key, const PickleValue& value, std::size_t depth);
  void visit_container(const PickleValue& key, const PickleValue& value, std::size_t depth);
  void add_other(const PickleValue& key, const PickleValue& value, std::size_t depth);
  void refuse_key_twice(std::span<const PickleValue> items);
  void visit_under(std::optional<std::string> key, const PickleValue& value, std::size_t depth);
  void visit_in_set(const PickleValue& item, std::size_t depth);
  void add(const PickledTensor& tensor);
  void spend(std::uint64_t bytes);
  [[nodiscard]] std::optional<std::string> key_text(const PickleValue& key) const;

  const PickleData& data_;
  std::vector<bool> open_;  ///< the lists, sets and dicts around the current value
  std::string path_;
  std::size_t unnameable_ = 0;         ///< how many keys around the current value are no names
  std::optional<std::size_t> set_at_;  ///< how much of path_ names the outermost set around the current value
  std::uint64_t spent_ = 0;
  std::vector<NamedTensor> found_;
  std::vector<OtherValue> others_;
};

/// Small pickles can stand for huge trees: each level holds the next one twice.
void TensorWalk::spend(std::uint64_t bytes) {
  spent_ += bytes;
  if (spent_ > kMaxLayoutBytes) throw format_error("the pickle holds too many tensors and values");
}

void TensorWalk::add(const PickledTensor& tensor) {
  if (set_at_) {
    throw format_error("the file holds a set of tensors, which have no order and no names")
        .found(place_text(path_.substr(0, *set_at_)))
        .hint("Save a list or a dict of them instead.");
  }
  if (unnameable_ > 0) {
    throw format_error("a tensor lies under a dict key that is neither text nor an int")
        .found(place_text(path_))
        .hint("Use texts as keys.");
  }
  spend(sizeof(ArrayLayout) + path_.size() + 16 * tensor.shape.size());
  found_.push_back({path_, &tensor});
}

std::optional<std::string> TensorWalk::key_text(const PickleValue& key) const {
  if (key.kind == Kind::kText) return std::string(data_.text(key));
  if (key.kind == Kind::kInt) return std::to_string(static_cast<std::int64_t>(key.value));
  return std::nullopt;
}

void TensorWalk::visit_under(std::optional<std::string> key, const PickleValue& value, std::size_t depth) {
  const std::size_t length = path_.size();
  unnameable_ += key ? 0U : 1U;
  if (key) path_ += (depth == 0 ? "" : ".") + *key;
  spend(path_.size());
  visit(value, depth + 1);
  path_.resize(length);
  unnameable_ -= key ? 0U : 1U;
}

void TensorWalk::visit_in_set(const PickleValue& item, std::size_t depth) {
  const auto around = set_at_;
  if (!set_at_) set_at_ = path_.size();
  spend(sizeof(PickleValue));
  visit(item, depth + 1);
  set_at_ = around;
}

/// Python would keep the last value only. No writer does this.
void TensorWalk::refuse_key_twice(std::span<const PickleValue> items) {
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < items.size(); i += 2) {
    spend(items[i].count);
    if (auto key = key_text(items[i])) keys.push_back(std::move(*key));
  }
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) throw format_error("a dict has the key " + quoted_text(*twice) + " twice");
}

/// None says nothing that could be lost, and the dicts of many a checkpoint are full of it.
bool is_none(const PickleValue& value) noexcept {
  return value.kind == Kind::kLeaf && value.value == static_cast<std::uint64_t>(PickleLeaf::kNone);
}

void TensorWalk::add_other(const PickleValue& key, const PickleValue& value, std::size_t depth) {
  if (others_.size() == kMostOthers || is_none(value)) return;
  if (path_.size() + key.count > kLongestOther) return others_.push_back({"...", type_name(value)});
  const std::string last = key_text(key).value_or("<" + std::string(type_name(key)) + ">");
  others_.push_back({path_ + (depth == 0 ? "" : ".") + last, type_name(value)});
}

/// A container without any tensor is one value that is left out; nothing, if nothing but None is in it.
void TensorWalk::visit_container(const PickleValue& key, const PickleValue& value, std::size_t depth) {
  const std::size_t tensors = found_.size();
  const std::size_t others = others_.size();
  visit_under(key_text(key), value, depth);
  if (found_.size() > tensors || others_.size() == others) return;
  others_.resize(others);
  add_other(key, value, depth);
}

void TensorWalk::visit_item(const PickleValue& key, const PickleValue& value, std::size_t depth) {
  if (value.kind == Kind::kTensor) return visit_under(key_text(key), value, depth);
  holds_values(value) ? visit_container(key, value, depth) : add_other(key, value, depth);
}

void TensorWalk::visit_items(const PickleValue& value, std::size_t depth) {
  const auto items = data_.items(value);
  spend(items.size());
  if (value.kind == Kind::kSet) {
    for (const PickleValue& item : items) {
      item.kind == Kind::kTensor || holds_values(item) ? visit_in_set(item, depth)
                                                       : add_other({}, item, depth);
    }
  } else if (value.kind == Kind::kDict) {
    refuse_key_twice(items);
    for (std::size_t i = 0; i < items.size(); i += 2) visit_item(items[i], items[i + 1], depth);
  } else {
    for (std::size_t i = 0; i < items.size(); ++i) visit_item({Kind::kInt, 0, i}, items[i], depth);
  }
}

void TensorWalk::visit(const PickleValue& value, std::size_t depth) {
  if (depth > kMaxNesting) {
    throw format_error("the pickle's containers are nested too deep")
        .needed("at most " + std::to_string(kMaxNesting) + " levels");
  }
  if (value.kind == Kind::kTensor) return add(data_.tensors[value.value]);
  if (value.kind == Kind::kTuple) return visit_items(value, depth);
  if (!holds_values(value)) return;
  if (open_[value.value]) throw format_error("the pickle has a container that contains itself");
  open_[value.value] = true;
  visit_items(value, depth);
  open_[value.value] = false;
}

void refuse_duplicates(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const NamedTensor& each : tensors) names.emplace_back(each.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return;
  throw format_error("two tensors have the same name, once nested names are joined with '.'")
      .in_field(*twice);
}

Container container_of(const PickleValue& root) {
  if (root.kind == Kind::kTensor) return Container::kArray;
  return root.kind == Kind::kDict ? Container::kMapping : Container::kSequence;
}

std::string hex(std::uint32_t number) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "0x";
  for (unsigned shift = 32; shift > 0; shift -= 4) text += kDigits[(number >> (shift - 4)) & 15U];
  return text;
}

/// torch writes 0 where it was told not to compute one.
void require_checksum(const ZipEntry& entry, Bytes bytes) {
  const auto sum = crc32_of(bytes);
  if (entry.crc32 == 0 || !sum || *sum == entry.crc32) return;
  throw format_error("the record " + entry.name + " fails its CRC-32")
      .needed(hex(entry.crc32))
      .found(hex(*sum));
}

PickleData read_pickle(const Archive& archive, std::vector<std::byte>& bytes) {
  const ZipEntry& entry = *archive.find("data.pkl");
  bytes = archive.read(entry, kMaxPickleBytes);
  require_checksum(entry, bytes);
  try {
    return evaluate_pickle(bytes);
  } catch (Error& error) {
    if (error.offset()) error.at_offset(archive.data_offset(entry) + *error.offset());
    throw;
  }
}

// --- places -----------------------------------------------------------------------------------------

/// The data/K records that tensors lie in. single-owner
class Storages {
 public:
  explicit Storages(const Archive& archive) : archive_(archive) {}

  /// Where the tensor's storage begins in the file.
  std::uint64_t locate(const PickledTensor& tensor);
  void refuse_overlaps() const;

 private:
  const ZipRecord& record_of(std::string_view key);

  const Archive& archive_;
  std::map<std::string, ZipRecord, std::less<>> records_;  ///< by key
};

const ZipRecord& Storages::record_of(std::string_view key) {
  const auto known = records_.find(key);
  if (known != records_.end()) return known->second;
  const std::string record = "data/" + std::string(key);
  const ZipEntry* const entry = archive_.find(record);
  if (entry == nullptr) throw format_error("the archive lacks the record " + quoted_text(record));
  return records_.emplace(key, ZipRecord{entry, archive_.data_offset(*entry)}).first->second;
}

std::uint64_t Storages::locate(const PickledTensor& tensor) {
  const ZipRecord& record = record_of(tensor.storage_key);
  if (record.entry->bytes != tensor.storage_bytes) {
    throw format_error("the record " + record.entry->name + " is not as large as the tensor's storage")
        .at_offset(record.begin)
        .needed(bytes_text(tensor.storage_bytes))
        .found(bytes_text(record.entry->bytes));
  }
  return record.begin;
}

void Storages::refuse_overlaps() const {
  std::vector<ZipRecord> records;
  records.reserve(records_.size());
  for (const auto& [key, record] : records_) records.push_back(record);
  penstock::refuse_overlaps(std::move(records));
}

void refuse_lazy(const PickledTensor& tensor) {
  if (tensor.lazy_op.empty()) return;
  const std::string op = quoted_text(tensor.lazy_op);
  throw format_error("the tensor is a lazy " + op + " view, whose elements are not those in the file")
      .hint("Save tensor.resolve_conj().resolve_neg() instead.");
}

std::vector<std::int64_t> byte_strides(const PickledTensor& tensor, std::uint64_t item) {
  std::vector<std::int64_t> strides;
  strides.reserve(tensor.strides.size());
  for (const std::int64_t stride : tensor.strides) {
    const auto bytes = checked_multiply(static_cast<std::uint64_t>(stride), item);
    if (!bytes) throw format_error("a stride of the tensor is too large").found(std::to_string(stride));
    strides.push_back(static_cast<std::int64_t>(*bytes));
  }
  return strides;
}

/// The tensor's first byte inside its storage, after checking that the last lies inside too.
std::uint64_t begin_in_storage(const PickledTensor& tensor, const std::vector<std::int64_t>& strides) {
  const std::int64_t item = item_bytes(tensor.dtype);
  const auto span = spanned_bytes(tensor.shape, strides, item);
  if (span == 0) return 0;  // no elements: torch allows any offset
  const auto begin =
      checked_multiply(static_cast<std::uint64_t>(tensor.offset), static_cast<std::uint64_t>(item));
  if (span && begin && in_bounds(tensor.storage_bytes, *begin, *span)) return *begin;
  throw format_error("the tensor reaches out of its storage")
      .needed("shape " + shape_text(tensor.shape) + " with strides " + shape_text(tensor.strides) + " from " +
              std::to_string(tensor.offset) + ", in elements of " +
              bytes_text(static_cast<std::uint64_t>(item)))
      .found("a storage of " + bytes_text(tensor.storage_bytes));
}

ArrayLayout array_layout(const NamedTensor& named, Storages& storages, bool big_endian) {
  const PickledTensor& tensor = *named.tensor;
  refuse_lazy(tensor);
  const std::int64_t item = item_bytes(tensor.dtype);
  ArrayLayout array;
  array.name = named.name;
  array.dtype = tensor.dtype;
  array.byte_swapped = big_endian && swap_bytes(tensor.dtype) > 1;
  array.shape = tensor.shape;
  array.strides = byte_strides(tensor, static_cast<std::uint64_t>(item));
  array.offset = storages.locate(tensor) + begin_in_storage(tensor, array.strides);
  return array;
}

}  // namespace

FileLayout parse_torch(const ByteSource& file, const ZipDirectory& directory) {
  const Archive archive(file, directory);
  refuse_other_archives(archive);
  const bool big_endian = is_big_endian(archive);
  std::vector<std::byte> bytes;
  const PickleData pickle = read_pickle(archive, bytes);

  FileLayout layout;
  layout.format = "torch";
  layout.container = container_of(pickle.root);
  TensorWalk walk(pickle);
  walk.run();
  const std::vector<NamedTensor> tensors = walk.take_tensors();
  if (tensors.empty()) throw format_error("the file holds no tensor");
  refuse_duplicates(tensors);
  layout.others = walk.take_others();
  Storages storages(archive);
  for (const NamedTensor& each : tensors) {
    try {
      layout.arrays.push_back(array_layout(each, storages, big_endian));
    } catch (Error& error) {
      error.in_field(each.name);
      throw;
    }
  }
  storages.refuse_overlaps();
  return layout;
}

}  // namespace penstock
