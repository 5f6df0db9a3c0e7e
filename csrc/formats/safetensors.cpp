#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/error.h"
#include "formats/py_literal.h"

namespace penstock {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;
constexpr std::size_t kMostNesting = 128;
constexpr std::size_t kMostDimensions = 64;
constexpr auto kMostNumber = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

struct DTypeEntry {
  std::string_view name;
  std::optional<DType> dtype;  ///< nothing: torch has none
  std::uint64_t bits;
};

constexpr std::array kDTypes = {
    DTypeEntry{"BOOL", DType::kBool, 8},
    DTypeEntry{"U8", DType::kUInt8, 8},
    DTypeEntry{"I8", DType::kInt8, 8},
    DTypeEntry{"U16", DType::kUInt16, 16},
    DTypeEntry{"I16", DType::kInt16, 16},
    DTypeEntry{"U32", DType::kUInt32, 32},
    DTypeEntry{"I32", DType::kInt32, 32},
    DTypeEntry{"U64", DType::kUInt64, 64},
    DTypeEntry{"I64", DType::kInt64, 64},
    DTypeEntry{"F16", DType::kFloat16, 16},
    DTypeEntry{"BF16", DType::kBFloat16, 16},
    DTypeEntry{"F32", DType::kFloat32, 32},
    DTypeEntry{"F64", DType::kFloat64, 64},
    DTypeEntry{"C64", DType::kComplex64, 64},
    DTypeEntry{"F8_E4M3", DType::kFloat8E4M3FN, 8},
    DTypeEntry{"F8_E5M2", DType::kFloat8E5M2, 8},
    DTypeEntry{"F8_E4M3FNUZ", DType::kFloat8E4M3FNUZ, 8},
    DTypeEntry{"F8_E5M2FNUZ", DType::kFloat8E5M2FNUZ, 8},
    DTypeEntry{"F8_E8M0", DType::kFloat8E8M0FNU, 8},
    DTypeEntry{"F4", DType::kFloat4E2M1FNx2, 4},
    DTypeEntry{"F6_E2M3", std::nullopt, 6},
    DTypeEntry{"F6_E3M2", std::nullopt, 6},
};

struct Tensor {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::int64_t>> shape;
  std::optional<std::vector<std::int64_t>> data_offsets;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// nlohmann's message without its tag and the bytes it quotes, which need not be UTF-8.
std::string_view without_quotation(std::string_view message) {
  const auto tag_end = message.find("] ");
  if (tag_end != message.npos) message.remove_prefix(tag_end + 2);
  return message.substr(0, message.find("; last read"));
}

/// Takes the header's JSON apart while nlohmann reads it. single-owner
class HeaderReader final : public nlohmann::json::json_sax_t {
 public:
  [[nodiscard]] std::vector<Tensor> take_tensors() { return std::move(tensors_); }

  bool null() override { return other("null"); }
  bool boolean(bool /*value*/) override { return other("a boolean"); }
  bool number_integer(std::int64_t /*value*/) override { return other("a negative number"); }
  bool number_float(double /*value*/, const std::string& text) override {
    return other("the number " + py_quoted(text));
  }
  bool binary(binary_t& /*value*/) override { return other("binary"); }

  bool number_unsigned(std::uint64_t value) override {
    auto* numbers = current_numbers();
    if (numbers == nullptr || depth() != kInTensorField) return other("a number");
    if (value > kMostNumber) fail("a number does not fit in 63 bits");
    numbers->push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kDType) return other("a string");
    tensors_.back().dtype = std::move(value);
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    const bool wanted = depth() == 0 || place_ == Place::kEntry || place_ == Place::kExtra;
    if (!wanted) return other("an object");
    open();
    if (place_ == Place::kEntry && !in_metadata_) tensors_.back().name = entry_;
    return true;
  }

  bool start_array(std::size_t /*size*/) override {
    if (auto* numbers = current_numbers(); numbers != nullptr && depth() == kInTensor) {
      numbers->clear();
    } else if (place_ != Place::kExtra) {
      return other("an array");
    }
    open();
    return true;
  }

  bool key(std::string& name) override {
    if (!keys_.back().insert(name).second) fail("the key " + py_quoted(name) + " stands twice in the header");
    if (depth() == kInHeader) {
      begin_entry(name);
    } else if (depth() == kInTensor) {
      place_ = in_metadata_ ? Place::kMetadata : tensor_place(name);
    }
    return true;
  }

  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& error) override {
    throw format_error("the header is not valid JSON")
        .at_offset(kLengthBytes + (position == 0 ? 0 : position - 1))
        .found(std::string(without_quotation(error.what())));
  }

 private:
  /// What the next value is.
  enum class Place : std::uint8_t { kHeader, kEntry, kMetadata, kDType, kShape, kDataOffsets, kExtra };

  static constexpr std::size_t kInHeader = 1;
  static constexpr std::size_t kInTensor = 2;
  static constexpr std::size_t kInTensorField = 3;

  [[nodiscard]] std::size_t depth() const { return keys_.size(); }

  void open() {
    if (depth() == kMostNesting) fail("the header is nested too deeply");
    keys_.emplace_back();
  }

  bool close() {
    keys_.pop_back();
    if (depth() == kInHeader && !in_metadata_) require_complete();
    return true;
  }

  void begin_entry(const std::string& name) {
    entry_ = name;
    place_ = Place::kEntry;
    in_metadata_ = name == "__metadata__";
    if (!in_metadata_) tensors_.emplace_back();
  }

  static Place tensor_place(std::string_view name) {
    if (name == "dtype") return Place::kDType;
    if (name == "shape") return Place::kShape;
    if (name == "data_offsets") return Place::kDataOffsets;
    return Place::kExtra;
  }

  std::vector<std::int64_t>* current_numbers() {
    if (place_ != Place::kShape && place_ != Place::kDataOffsets) return nullptr;
    auto& numbers = place_ == Place::kShape ? tensors_.back().shape : tensors_.back().data_offsets;
    if (!numbers) numbers.emplace();
    return &*numbers;
  }

  /// Any value but the one that belongs here: right only in a field that is not ours.
  bool other(const std::string& what) const {
    if (place_ == Place::kExtra) return true;
    fail(what + " stands where " + std::string(wanted()) + " should be");
  }

  [[nodiscard]] std::string_view wanted() const {
    switch (place_) {
      case Place::kHeader:
        return "the header's object";
      case Place::kEntry:
        return in_metadata_ ? "the object of __metadata__" : "the object that describes a tensor";
      case Place::kMetadata:
        return "a string of __metadata__";
      case Place::kDType:
        return "the string of dtype";
      case Place::kShape:
        return "the whole numbers of shape";
      default:
        return "the two whole numbers of data_offsets";
    }
  }

  void require_complete() const {
    const Tensor& tensor = tensors_.back();
    if (!tensor.dtype) fail("dtype is missing");
    if (!tensor.shape) fail("shape is missing");
    if (!tensor.data_offsets) fail("data_offsets is missing");
    if (tensor.data_offsets->size() != 2) fail("data_offsets are not two numbers");
    if (tensor.shape->size() > kMostDimensions) fail("there are more than 64 dimensions");
  }

  [[noreturn]] void fail(std::string problem) const {
    throw format_error(std::move(problem)).in_field(entry_);
  }

  std::vector<Tensor> tensors_;
  std::vector<std::unordered_set<std::string>> keys_;  ///< of every object or array that is open
  std::string entry_;
  Place place_ = Place::kHeader;
  bool in_metadata_ = false;
};

std::uint64_t header_bytes_of(const ByteSource& file) {
  const auto prefix = file.read(0, kLengthBytes);
  const auto length = load_le<std::uint64_t>(prefix, 0);
  if (length > kMostHeaderBytes) {
    throw format_error("the header is too long")
        .at_offset(0)
        .needed("at most " + std::to_string(kMostHeaderBytes) + " bytes")
        .found(std::to_string(length) + " bytes");
  }
  if (!in_bounds(file.size(), kLengthBytes, length)) {
    throw format_error("the header is cut short")
        .needed(std::to_string(kLengthBytes + length) + " bytes")
        .found(std::to_string(file.size()) + " bytes");
  }
  return length;
}

std::vector<Tensor> parse_header(std::string_view text) {
  if (!text.starts_with('{'))
    throw format_error("the header does not begin with '{'").at_offset(kLengthBytes);
  // nlohmann takes a zero byte for the end of its input
  if (const auto nul = text.find('\0'); nul != text.npos) {
    throw format_error("the header is not valid JSON").at_offset(kLengthBytes + nul).found("a zero byte");
  }
  HeaderReader reader;
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take_tensors();
}

void sort_by_place(std::vector<Tensor>& tensors) {
  for (Tensor& tensor : tensors) {
    tensor.begin = static_cast<std::uint64_t>((*tensor.data_offsets)[0]);
    tensor.end = static_cast<std::uint64_t>((*tensor.data_offsets)[1]);
  }
  std::sort(tensors.begin(), tensors.end(), [](const Tensor& a, const Tensor& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
}

void require_tiled(const std::vector<Tensor>& tensors, std::uint64_t data_begin, std::uint64_t file_bytes) {
  std::uint64_t covered = 0;
  for (const Tensor& tensor : tensors) {
    if (tensor.end < tensor.begin)
      throw format_error("data_offsets end before they begin").in_field(tensor.name);
    if (tensor.begin != covered) {
      throw format_error(tensor.begin < covered ? "two tensors overlap" : "there is a hole before a tensor")
          .in_field(tensor.name)
          .needed("data_offsets from " + std::to_string(covered))
          .found("from " + std::to_string(tensor.begin));
    }
    covered = tensor.end;
  }
  const std::uint64_t data_bytes = file_bytes - data_begin;
  if (covered == data_bytes) return;
  const auto wanted = checked_add(data_begin, covered);
  throw format_error(covered > data_bytes ? "the data is cut short" : "bytes follow the last tensor")
      .needed(wanted ? std::to_string(*wanted) + " bytes" : "over 63 bits of bytes")
      .found(std::to_string(file_bytes) + " bytes");
}

const DTypeEntry& dtype_entry(const Tensor& tensor) {
  for (const DTypeEntry& entry : kDTypes) {
    if (entry.name == *tensor.dtype) return entry;
  }
  throw format_error("an unknown dtype in the header").in_field(tensor.name).found(py_quoted(*tensor.dtype));
}

[[noreturn]] void fail_size(const Tensor& tensor) {
  throw format_error("data_offsets do not fit the shape")
      .in_field(tensor.name)
      .needed("shape " + shape_text(*tensor.shape) + " of " + *tensor.dtype)
      .found(std::to_string(tensor.end - tensor.begin) + " bytes");
}

void require_size(const Tensor& tensor, std::uint64_t bits) {
  std::optional<std::uint64_t> product = bits;
  for (const std::int64_t length : *tensor.shape) {
    product = checked_multiply(*product, static_cast<std::uint64_t>(length));
    if (!product) fail_size(tensor);
  }
  if (*product % 8 != 0 || *product / 8 != tensor.end - tensor.begin) fail_size(tensor);
}

void add_tensor(FileLayout& layout, Tensor tensor, std::uint64_t data_begin) {
  const DTypeEntry& entry = dtype_entry(tensor);
  require_size(tensor, entry.bits);
  if (!entry.dtype) {
    layout.refused.push_back(
        {std::move(tensor.name), "is of 6-bit floats (" + std::string(entry.name) +
                                     "), which torch cannot hold; save it in another dtype"});
    return;
  }
  std::vector<std::int64_t> shape = *std::move(tensor.shape);
  if (*entry.dtype == DType::kFloat4E2M1FNx2) {
    if (shape.empty() || shape.back() % 2 != 0) {
      layout.refused.push_back(
          {std::move(tensor.name),
           "is of 4-bit floats with an odd last dimension, which torch cannot hold; pad it"});
      return;
    }
    shape.back() /= 2;
  }
  auto strides = contiguous_strides(shape, item_bytes(*entry.dtype));
  if (!strides)
    throw format_error("an impossibly large shape").in_field(tensor.name).found(shape_text(shape));
  ArrayLayout array;
  array.name = std::move(tensor.name);
  array.dtype = *entry.dtype;
  array.shape = std::move(shape);
  array.strides = *std::move(strides);
  array.offset = data_begin + tensor.begin;
  layout.arrays.push_back(std::move(array));
}

}  // namespace

FileLayout parse_safetensors(const ByteSource& file) {
  const std::uint64_t header_bytes = header_bytes_of(file);
  const std::uint64_t data_begin = kLengthBytes + header_bytes;
  auto tensors = parse_header(as_text(file.read(kLengthBytes, header_bytes)));
  sort_by_place(tensors);
  require_tiled(tensors, data_begin, file.size());
  FileLayout layout;
  layout.format = "safetensors";
  layout.container = Container::kMapping;
  for (Tensor& tensor : tensors) add_tensor(layout, std::move(tensor), data_begin);
  return layout;
}

}  // namespace penstock
