#include "assemble/filler.h"

#include <algorithm>
#include <cstring>

namespace penstock {
namespace {

/// Twice as much is copied with each step: the first ones should not be tiny.
constexpr std::size_t kPatternBytes = 64;

}  // namespace

Filler::Filler(const Padding& element)
    : pattern_(element),
      is_one_byte_(std::ranges::all_of(element, [&](std::byte each) { return each == element.front(); })) {
  while (!element.empty() && pattern_.size() < kPatternBytes) {
    pattern_.insert(pattern_.end(), element.begin(), element.end());
  }
}

void Filler::fill(std::byte* to, std::int64_t bytes) const noexcept {
  if (bytes == 0 || pattern_.empty()) return;
  const auto size = static_cast<std::size_t>(bytes);
  if (is_one_byte_) {
    std::memset(to, std::to_integer<int>(pattern_.front()), size);
    return;
  }
  std::size_t filled = std::min(pattern_.size(), size);
  std::memcpy(to, pattern_.data(), filled);
  while (filled < size) {  // what there is, doubled
    const std::size_t more = std::min(filled, size - filled);
    std::memcpy(to + filled, to, more);
    filled += more;
  }
}

}  // namespace penstock
