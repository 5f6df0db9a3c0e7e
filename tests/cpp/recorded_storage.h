#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "storage/storage.h"

namespace penstock::testing {

/// Bytes in memory that remember how they were read, and what was said of how they will be.
class RecordedStorage final : public Storage {
 public:
  /// \param is_mapped  whether there is an address, or bytes must be read
  /// \param size  as it is said to be
  RecordedStorage(std::string bytes, bool is_mapped, std::uint64_t size)
      : bytes_(std::move(bytes)), is_mapped_(is_mapped), size_(size) {}
  RecordedStorage(const std::string& bytes, bool is_mapped)
      : RecordedStorage(bytes, is_mapped, bytes.size()) {}

  [[nodiscard]] std::int64_t reads() const noexcept { return reads_; }
  [[nodiscard]] const std::vector<AccessPattern>& advice() const noexcept { return advice_; }

  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return size_; }
  [[nodiscard]] const std::byte* data() override {
    return is_mapped_ ? reinterpret_cast<const std::byte*>(bytes_.data()) : nullptr;
  }
  void read(std::uint64_t offset, std::span<std::byte> out) override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    ++reads_;
  }
  void advise(AccessPattern pattern) const noexcept override { advice_.push_back(pattern); }
  void will_need(std::uint64_t, std::uint64_t) const noexcept override {}
  void will_not_need(std::uint64_t, std::uint64_t, AccessPattern) const noexcept override {}
  void check() const override {}

 private:
  std::string path_ = "recorded";
  std::string bytes_;
  bool is_mapped_;
  std::uint64_t size_;
  std::int64_t reads_ = 0;
  mutable std::vector<AccessPattern> advice_;
};

}  // namespace penstock::testing
