#pragma once

#include <cstddef>
#include <cstdint>

#include "assemble/ragged_layout.h"

namespace penstock {

/// Fills memory with one element, again and again.
///
/// Immutable; thread-safe. Owns the element; `fill` allocates nothing: safe under the fault guard.
class Filler {
 public:
  /// \param element  a byte or more; none fills nothing but spans of no byte
  explicit Filler(const Padding& element);

  /// \pre `bytes` is a multiple of the element's
  void fill(std::byte* to, std::int64_t bytes) const noexcept;

 private:
  Padding pattern_;
  bool is_one_byte_;
};

}  // namespace penstock
