#include "formats/layout.h"

#include <cstddef>

#include "base/bytes.h"

namespace penstock {

std::optional<std::vector<std::int64_t>> contiguous_strides(const std::vector<std::int64_t>& shape,
                                                            std::int64_t item_bytes) {
  std::vector<std::int64_t> strides(shape.size());
  auto next = static_cast<std::uint64_t>(item_bytes);
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = static_cast<std::int64_t>(next);
    const auto length = static_cast<std::uint64_t>(shape[i]);
    const auto product = checked_multiply(next, length == 0 ? 1 : length);
    if (!product) return std::nullopt;
    next = *product;
  }
  return strides;
}

std::optional<std::uint64_t> spanned_bytes(const std::vector<std::int64_t>& shape,
                                           const std::vector<std::int64_t>& strides,
                                           std::int64_t item_bytes) {
  auto last = static_cast<std::uint64_t>(item_bytes);
  bool empty = false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] < 0 || strides[i] < 0) return std::nullopt;
    if (shape[i] == 0) empty = true;
    if (shape[i] <= 1) continue;
    const auto reach =
        checked_multiply(static_cast<std::uint64_t>(shape[i] - 1), static_cast<std::uint64_t>(strides[i]));
    const auto sum = reach ? checked_add(last, *reach) : std::nullopt;
    if (!sum) return std::nullopt;
    last = *sum;
  }
  return empty ? 0 : last;
}

bool lie_end_to_end(std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                    std::int64_t item_bytes) noexcept {
  std::int64_t expected = item_bytes;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace penstock
