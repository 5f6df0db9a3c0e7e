#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/layout.h"
#include "storage/file.h"

namespace penstock {

/// Copies bytes from `offset` on; may throw.
using ReadAt = std::function<void(std::uint64_t offset, std::span<std::byte> out)>;

/// The inflated bytes of an array, checked.
///
/// \throws Error kFormat when they are not what was declared; what `read` throws
[[nodiscard]] std::vector<std::byte> inflated(const Deflated& deflated, const ReadAt& read);

/// The inflated bytes of one compressed array, as a storage of their own.
///
/// Nothing is read until the first use; then everything is inflated once into memory, at most
/// `deflated.inflated_bytes`, and its CRC-32 is checked. Each process that was not forked from one
/// that has inflated it does so itself. The first use throws Error kFormat when the stream is broken,
/// longer or shorter than declared, fails its checksum, or this build has no zlib.
class InflatedStorage final : public Storage {
 public:
  InflatedStorage(std::shared_ptr<FileStorage> file, const Deflated& deflated);

  [[nodiscard]] const FileStorage& file() const noexcept { return *file_; }
  [[nodiscard]] const Deflated& deflated() const noexcept { return deflated_; }

  [[nodiscard]] const std::string& path() const noexcept override { return file_->path(); }
  [[nodiscard]] std::uint64_t size() const noexcept override { return deflated_.inflated_bytes; }
  [[nodiscard]] const std::byte* data() override;
  void read(std::uint64_t offset, std::span<std::byte> out) override;
  void advise(AccessPattern) const noexcept override {}
  void will_need(std::uint64_t, std::uint64_t) const noexcept override {}
  void will_not_need(std::uint64_t, std::uint64_t, AccessPattern) const noexcept override {}
  void check() const override {}

 private:
  void inflate_now();

  const std::shared_ptr<FileStorage> file_;
  const Deflated deflated_;
  std::atomic<bool> ready_{false};  ///< publishes bytes_, written once under a global lock
  std::vector<std::byte> bytes_;
};

}  // namespace penstock
