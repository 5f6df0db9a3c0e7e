#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/byte_source.h"

namespace penstock::testing {

/// A file in memory that remembers what was read of it.
class RecordingSource final : public ByteSource {
 public:
  explicit RecordingSource(std::string file) : file_(std::move(file)), was_read_(file_.size()) {}

  [[nodiscard]] std::uint64_t size() const noexcept override { return file_.size(); }

  /// Whether any of these bytes was.
  [[nodiscard]] bool was_read(std::uint64_t begin, std::uint64_t bytes) const {
    const auto first = was_read_.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = first + static_cast<std::ptrdiff_t>(bytes);
    return std::find(first, last, true) != last;
  }

  /// The end of the furthest read.
  [[nodiscard]] std::uint64_t furthest() const {
    const auto last = std::find(was_read_.rbegin(), was_read_.rend(), true);
    return static_cast<std::uint64_t>(was_read_.rend() - last);
  }

  [[nodiscard]] int reads() const noexcept { return reads_; }

 private:
  void copy(std::uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), file_.data() + offset, out.size());
    std::fill_n(was_read_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), true);
    ++reads_;
  }

  std::string file_;
  mutable std::vector<bool> was_read_;
  mutable int reads_ = 0;
};

}  // namespace penstock::testing
