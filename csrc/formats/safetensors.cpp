#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/safetensors_header.h"

namespace penstock {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMostHeaderBytes = 100'000'000;

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

void sort_by_place(std::vector<SafetensorsEntry>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
}

void require_tiled(const std::vector<SafetensorsEntry>& tensors, std::uint64_t data_begin,
                   std::uint64_t file_bytes) {
  std::uint64_t covered = 0;
  for (const SafetensorsEntry& tensor : tensors) {
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

const DTypeEntry& dtype_entry(const SafetensorsEntry& tensor) {
  for (const DTypeEntry& entry : kDTypes) {
    if (entry.name == tensor.dtype) return entry;
  }
  throw format_error("an unknown dtype in the header").in_field(tensor.name).found(quoted_text(tensor.dtype));
}

[[noreturn]] void fail_size(const SafetensorsEntry& tensor) {
  throw format_error("data_offsets do not fit the shape")
      .in_field(tensor.name)
      .needed("shape " + shape_text(tensor.shape) + " of " + tensor.dtype)
      .found(std::to_string(tensor.end - tensor.begin) + " bytes");
}

void require_size(const SafetensorsEntry& tensor, std::uint64_t bits) {
  std::optional<std::uint64_t> product = bits;
  for (const std::int64_t length : tensor.shape) {
    product = checked_multiply(*product, static_cast<std::uint64_t>(length));
    if (!product) fail_size(tensor);
  }
  if (*product % 8 != 0 || *product / 8 != tensor.end - tensor.begin) fail_size(tensor);
}

void add_tensor(FileLayout& layout, SafetensorsEntry tensor, std::uint64_t data_begin) {
  const DTypeEntry& entry = dtype_entry(tensor);
  require_size(tensor, entry.bits);
  if (!entry.dtype) {
    layout.refused.push_back(
        {std::move(tensor.name), "is of 6-bit floats (" + std::string(entry.name) +
                                     "), which torch cannot hold; save it in another dtype"});
    return;
  }
  std::vector<std::int64_t> shape = std::move(tensor.shape);
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
  auto tensors = parse_safetensors_header(as_text(file.read(kLengthBytes, header_bytes)), kLengthBytes);
  sort_by_place(tensors);
  require_tiled(tensors, data_begin, file.size());
  FileLayout layout;
  layout.format = "safetensors";
  layout.container = Container::kMapping;
  for (SafetensorsEntry& tensor : tensors) add_tensor(layout, std::move(tensor), data_begin);
  return layout;
}

}  // namespace penstock
