#include "formats/safetensors_header.h"

#include <cstddef>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"

namespace penstock {
namespace {

constexpr std::size_t kMostNesting = 128;
constexpr std::size_t kMostDimensions = 64;
constexpr auto kMostNumber = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());

/// nlohmann's message without its tag and the bytes it quotes, which need not be UTF-8.
std::string_view without_quotation(std::string_view message) {
  const auto tag_end = message.find("] ");
  if (tag_end != message.npos) message.remove_prefix(tag_end + 2);
  return message.substr(0, message.find("; last read"));
}

/// Takes the header's JSON apart while nlohmann reads it. single-owner
class HeaderReader final : public nlohmann::json::json_sax_t {
 public:
  explicit HeaderReader(std::uint64_t offset) : offset_(offset) {}

  [[nodiscard]] std::vector<SafetensorsEntry> take_tensors() { return std::move(tensors_); }

  bool null() override { return other("null"); }
  bool boolean(bool /*value*/) override { return other("a boolean"); }
  bool number_integer(std::int64_t /*value*/) override { return other("a negative number"); }
  bool number_float(double /*value*/, const std::string& text) override {
    return other("the number " + quoted_text(text));
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
    dtype_ = std::move(value);
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    const bool wanted = depth() == 0 || place_ == Place::kEntry || place_ == Place::kExtra;
    if (!wanted) return other("an object");
    open();
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
    if (!keys_.back().insert(name).second)
      fail("the key " + quoted_text(name) + " stands twice in the header");
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
        .at_offset(offset_ + (position == 0 ? 0 : position - 1))
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
    if (depth() == kInHeader && !in_metadata_) add_tensor();
    return true;
  }

  void begin_entry(const std::string& name) {
    entry_ = name;
    place_ = Place::kEntry;
    in_metadata_ = name == "__metadata__";
    dtype_.reset();
    shape_.reset();
    data_offsets_.reset();
  }

  static Place tensor_place(std::string_view name) {
    if (name == "dtype") return Place::kDType;
    if (name == "shape") return Place::kShape;
    if (name == "data_offsets") return Place::kDataOffsets;
    return Place::kExtra;
  }

  std::vector<std::int64_t>* current_numbers() {
    if (place_ != Place::kShape && place_ != Place::kDataOffsets) return nullptr;
    auto& numbers = place_ == Place::kShape ? shape_ : data_offsets_;
    if (!numbers) numbers.emplace();
    return &*numbers;
  }

  /// Any value but the one that belongs here: right only in a field that is not ours.
  [[nodiscard]] bool other(const std::string& what) const {
    if (place_ == Place::kExtra) return true;
    fail(what + " stands where " + std::string(wanted()) + " should be");
  }

  [[nodiscard]] std::string_view wanted() const {
    switch (place_) {
      case Place::kHeader: return "the header's object";
      case Place::kEntry:
        return in_metadata_ ? "the object of __metadata__" : "the object that describes a tensor";
      case Place::kMetadata: return "a string of __metadata__";
      case Place::kDType: return "the string of dtype";
      case Place::kShape: return "the whole numbers of shape";
      default: return "the two whole numbers of data_offsets";
    }
  }

  void add_tensor() {
    if (!dtype_) fail("dtype is missing");
    if (!shape_) fail("shape is missing");
    if (!data_offsets_) fail("data_offsets is missing");
    if (data_offsets_->size() != 2) fail("data_offsets are not two numbers");
    if (shape_->size() > kMostDimensions) fail("there are more than 64 dimensions");
    tensors_.push_back({entry_, *std::move(dtype_), *std::move(shape_),
                        static_cast<std::uint64_t>((*data_offsets_)[0]),
                        static_cast<std::uint64_t>((*data_offsets_)[1])});
  }

  [[noreturn]] void fail(std::string problem) const {
    throw format_error(std::move(problem)).in_field(entry_);
  }

  std::uint64_t offset_;
  std::vector<SafetensorsEntry> tensors_;
  std::vector<std::unordered_set<std::string>> keys_;  ///< of every object or array that is open
  std::string entry_;
  std::optional<std::string> dtype_;  ///< of the current entry, as the two below
  std::optional<std::vector<std::int64_t>> shape_;
  std::optional<std::vector<std::int64_t>> data_offsets_;
  Place place_ = Place::kHeader;
  bool in_metadata_ = false;
};

}  // namespace

std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view text, std::uint64_t offset) {
  if (!text.starts_with('{')) throw format_error("the header does not begin with '{'").at_offset(offset);
  // nlohmann takes a zero byte for the end of its input
  if (const auto nul = text.find('\0'); nul != text.npos) {
    throw format_error("the header is not valid JSON").at_offset(offset + nul).found("a zero byte");
  }
  HeaderReader reader(offset);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  return reader.take_tensors();
}

}  // namespace penstock
