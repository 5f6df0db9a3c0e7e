#include "formats/tokens.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace penstock {
namespace {

using namespace std::string_view_literals;

constexpr auto kIndexMagic = "MMIDIDX\0\0"sv;
constexpr const char* kHintRaw = "If the file has no header, say format=\"raw\".";

constexpr std::uint32_t kLlmCEvaluation = 20240522;

struct LlmCHeader {
  std::uint32_t magic;
  std::uint32_t version;
  DType dtype;
};

constexpr std::array kLlmCHeaders = {LlmCHeader{20240520, 1, DType::kUInt16},
                                     LlmCHeader{20240801, 7, DType::kUInt32}};

const LlmCHeader* llm_c_header(std::uint32_t magic) noexcept {
  for (const LlmCHeader& each : kLlmCHeaders) {
    if (each.magic == magic) return &each;
  }
  return nullptr;
}

void require_tokens(std::uint64_t num_tokens) {
  if (num_tokens == 0) throw format_error("the file holds no tokens");
}

// --- Megatron's index ------------------------------------------------------------------------------

constexpr std::uint64_t kIndexHeaderBytes = 34;
constexpr std::uint64_t kLengthBytes = 4;
constexpr std::uint64_t kPointerBytes = 8;
constexpr std::uint64_t kDocumentBytes = 8;

/// Where the parts of an index begin.
struct IndexParts {
  DType dtype;
  std::uint64_t num_sequences;
  std::uint64_t num_documents;
  std::uint64_t pointers;
  std::uint64_t documents;
};

DType dtype_of_code(unsigned code) {
  constexpr std::array kDTypes = {DType::kUInt8, DType::kInt8,    DType::kInt16,   DType::kInt32,
                                  DType::kInt64, DType::kFloat64, DType::kFloat32, DType::kUInt16};
  const auto needed = [] { return std::string("a dtype code of a whole number: 1 to 5, or 8"); };
  if (code < 1 || code > kDTypes.size()) {
    throw format_error("the index has no such dtype").needed(needed()).found(std::to_string(code));
  }
  const DType dtype = kDTypes[code - 1];
  if (is_token_dtype(dtype)) return dtype;
  throw format_error("its tokens are no whole numbers")
      .needed(needed())
      .found(std::to_string(code) + ", " + std::string(dtype_name(dtype)));
}

/// Sizes are compared by division: counts of a hostile header may be anything.
void require_index_size(const IndexParts& parts, std::uint64_t file_bytes) {
  const std::uint64_t rest = file_bytes - kIndexHeaderBytes;
  const auto sequences = checked_multiply(parts.num_sequences, kLengthBytes + kPointerBytes);
  const auto documents = checked_multiply(parts.num_documents, kDocumentBytes);
  const auto least = sequences && documents ? checked_add(*sequences, *documents) : std::nullopt;
  if (least && (rest == *least || (rest > *least && rest - *least == parts.num_sequences))) return;
  throw format_error("the index is not as long as its header says")
      .needed(std::to_string(parts.num_sequences) + " sequences and " + std::to_string(parts.num_documents) +
              " document ends")
      .found(bytes_text(file_bytes));
}

IndexParts index_header(const ByteSource& index) {
  if (index.size() < kIndexHeaderBytes) {
    throw format_error("the index is cut short")
        .needed("a header of " + bytes_text(kIndexHeaderBytes))
        .found(bytes_text(index.size()));
  }
  const std::vector<std::byte> header = index.read(0, kIndexHeaderBytes);
  const Bytes bytes(header);
  if (!as_text(bytes).starts_with(kIndexMagic)) {
    throw format_error("this is no index of Megatron-LM's")
        .needed("a file that begins with MMIDIDX")
        .found(quoted_text(as_text(bytes).substr(0, kIndexMagic.size())))
        .hint("If it does not belong to the tokens beside it, say format=\"raw\".");
  }
  const auto version = load_le<std::uint64_t>(bytes, 9);
  if (version != 1) {
    throw format_error("the index is of a version that is not known")
        .needed("version 1")
        .found(std::to_string(version));
  }
  IndexParts parts{dtype_of_code(load_le<std::uint8_t>(bytes, 17)), load_le<std::uint64_t>(bytes, 18),
                   load_le<std::uint64_t>(bytes, 26), 0, 0};
  require_index_size(parts, index.size());
  parts.pointers = kIndexHeaderBytes + parts.num_sequences * kLengthBytes;
  parts.documents = parts.pointers + parts.num_sequences * kPointerBytes;
  return parts;
}

/// Numbers of an index, read a piece at a time and asked for in order. single-owner
template <typename T>
class Numbers {
 public:
  Numbers(const ByteSource& index, std::uint64_t offset, std::uint64_t count)
      : index_(index), offset_(offset), left_(count) {}

  /// \pre fewer than `count` have been taken
  T next() {
    if (at_ == piece_.size()) read_piece();
    const T number = load_le<T>(Bytes(piece_), at_);
    at_ += sizeof(T);
    return number;
  }

 private:
  static constexpr std::uint64_t kPiece = std::uint64_t{1} << 16U;

  void read_piece() {
    const std::uint64_t count = std::min(kPiece, left_);
    piece_ = index_.read(offset_, count * sizeof(T));
    offset_ += piece_.size();
    left_ -= count;
    at_ = 0;
  }

  const ByteSource& index_;
  std::uint64_t offset_;
  std::uint64_t left_;
  std::vector<std::byte> piece_;
  std::size_t at_ = 0;
};

/// Bytes of all sequences.
std::uint64_t bytes_of_sequences(const ByteSource& index, const IndexParts& parts) {
  const auto item = static_cast<std::uint64_t>(item_bytes(parts.dtype));
  Numbers<std::uint32_t> lengths(index, kIndexHeaderBytes, parts.num_sequences);
  Numbers<std::uint64_t> pointers(index, parts.pointers, parts.num_sequences);
  std::uint64_t end = 0;
  for (std::uint64_t i = 0; i < parts.num_sequences; ++i) {
    const auto length = static_cast<std::int32_t>(lengths.next());
    const std::uint64_t pointer = pointers.next();
    const std::string which = "sequence " + std::to_string(i);
    if (length < 0) {
      throw format_error("a sequence has a negative length").found(which + ": " + std::to_string(length));
    }
    if (pointer != end) {
      throw format_error("a sequence does not begin where the one before it ends")
          .needed(which + " at byte " + std::to_string(end))
          .found("byte " + std::to_string(pointer));
    }
    const auto next = checked_add(end, static_cast<std::uint64_t>(length) * item);
    if (!next) throw format_error("the sequences are impossibly long").found(which);
    end = *next;
  }
  return end;
}

void require_documents(const ByteSource& index, const IndexParts& parts) {
  Numbers<std::uint64_t> documents(index, parts.documents, parts.num_documents);
  std::uint64_t last = 0;
  for (std::uint64_t i = 0; i < parts.num_documents; ++i) {
    const std::uint64_t next = documents.next();
    if (next < last || next > parts.num_sequences) {
      throw format_error("documents are not in order")
          .needed("a sequence from " + std::to_string(last) + " to " + std::to_string(parts.num_sequences))
          .found("document end " + std::to_string(i) + " at " + std::to_string(next));
    }
    last = next;
  }
  if (last != parts.num_sequences) {
    throw format_error("the last document does not end with the last sequence")
        .needed(std::to_string(parts.num_sequences))
        .found(std::to_string(last));
  }
}

}  // namespace

bool is_token_dtype(DType dtype) noexcept {
  constexpr std::array kWhole = {DType::kUInt8,  DType::kInt8,  DType::kUInt16, DType::kInt16,
                                 DType::kUInt32, DType::kInt32, DType::kInt64};
  return std::find(kWhole.begin(), kWhole.end(), dtype) != kWhole.end();
}

TokenFormat detect_tokens(const ByteSource& file, bool has_index) {
  if (has_index) return TokenFormat::kMegatron;
  const std::vector<std::byte> first = file.read(0, std::min<std::uint64_t>(file.size(), kIndexMagic.size()));
  const std::string_view text = as_text(first);
  if (text == kIndexMagic) {
    throw format_error("this is the index of a file of tokens").hint("Give the file called .bin beside it.");
  }
  if (text.starts_with("\x93NUMPY") || text.starts_with("PK\3\4")) {
    throw format_error("this is an array or an archive, no plain file of tokens")
        .hint("ShardDataset reads arrays of rows.");
  }
  if (first.size() < sizeof(std::uint32_t)) return TokenFormat::kRaw;
  const auto magic = load_le<std::uint32_t>(Bytes(first), 0);
  if (magic == kLlmCEvaluation) {
    throw format_error("these are evaluation questions of llm.c's, no stream of tokens").hint(kHintRaw);
  }
  return llm_c_header(magic) != nullptr ? TokenFormat::kLlmC : TokenFormat::kRaw;
}

TokenLayout raw_tokens(DType dtype, std::uint64_t file_bytes) {
  const auto item = static_cast<std::uint64_t>(item_bytes(dtype));
  require_tokens(file_bytes);
  // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): no dtype takes 0 bytes
  if (const std::uint64_t rest = file_bytes % item; rest != 0) {
    throw format_error("the file does not end at the end of a token")
        .needed(std::string(dtype_name(dtype)) + " tokens of " + bytes_text(item))
        .found(bytes_text(rest) + " after the last one, in a file of " + bytes_text(file_bytes))
        .hint("Check the dtype, or whether the file was cut short.");
  }
  return {dtype, 0, file_bytes / item};
}

TokenLayout llm_c_tokens(const ByteSource& file) {
  constexpr std::uint64_t kHeaderBytes = 1024;
  constexpr std::uint64_t kNumbersBytes = 3 * sizeof(std::uint32_t);
  if (file.size() < kNumbersBytes) {
    throw format_error("the header is cut short")
        .needed(bytes_text(kHeaderBytes))
        .found(bytes_text(file.size()))
        .hint(kHintRaw);
  }
  const std::vector<std::byte> bytes = file.read(0, kNumbersBytes);
  const auto number = [&](std::size_t i) { return load_le<std::uint32_t>(Bytes(bytes), 4 * i); };
  const LlmCHeader* header = llm_c_header(number(0));
  if (header == nullptr) {
    throw format_error("this is no file of llm.c's")
        .needed("a first number of 20240520 or 20240801")
        .found(std::to_string(number(0)))
        .hint(kHintRaw);
  }
  if (number(1) != header->version) {
    throw format_error("the header is of a version that is not known")
        .needed("version " + std::to_string(header->version))
        .found(std::to_string(number(1)))
        .hint(kHintRaw);
  }
  TokenLayout layout{header->dtype, kHeaderBytes, number(2)};
  require_size(layout, file.size());
  return layout;
}

TokenLayout megatron_tokens(const ByteSource& index) {
  const IndexParts parts = index_header(index);
  const std::uint64_t bytes = bytes_of_sequences(index, parts);
  require_documents(index, parts);
  return {parts.dtype, 0, bytes / static_cast<std::uint64_t>(item_bytes(parts.dtype))};
}

void require_size(const TokenLayout& layout, std::uint64_t file_bytes) {
  require_tokens(layout.num_tokens);
  const auto item = static_cast<std::uint64_t>(item_bytes(layout.dtype));
  const auto bytes = checked_multiply(layout.num_tokens, item);
  const auto end = bytes ? checked_add(*bytes, layout.offset) : std::nullopt;
  if (end == file_bytes) return;
  throw format_error("the file is not as long as its header says")
      .needed(std::to_string(layout.num_tokens) + " " + std::string(dtype_name(layout.dtype)) +
              " tokens from byte " + std::to_string(layout.offset) +
              (end ? ", " + bytes_text(*end) : std::string()))
      .found(bytes_text(file_bytes))
      .hint("It may have been cut short, or the header belongs to another file.");
}

}  // namespace penstock
