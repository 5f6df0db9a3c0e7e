#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/byte_source.h"
#include "storage/storage.h"

namespace penstock {

/// What tells a file from another one and from itself after a change: on one machine, or but for the device
/// on any.
struct FileIdentity {
  std::uint64_t device = 0;  ///< of a network file system: a number that each mount has of its own
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// What a file of that name is at this moment; nothing when there is none.
[[nodiscard]] std::optional<FileIdentity> identity_of_file(const std::string& path) noexcept;

/// Asks the system to read a file soon; returns before it is there. Of one that cannot be opened whoever
/// reads it says why.
void ask_for_file(const std::string& path) noexcept;

/// How the bytes of a file are fetched.
enum class FileAccess : std::uint8_t {
  kAuto,  ///< mapped, or read on a network file system or when the process has many mappings
  kMap,
  kRead,
};

/// An open file: for parsers, and for whoever needs its descriptor.
///
/// single-owner; reads are thread-compatible
class OpenFile final : public ByteSource {
 public:
  /// \throws Error kShard when it cannot be opened or is no regular file
  explicit OpenFile(const std::string& path);
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() override;

  [[nodiscard]] std::uint64_t size() const noexcept override { return identity_.size; }
  [[nodiscard]] const FileIdentity& identity() const noexcept { return identity_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  void copy(std::uint64_t offset, std::span<std::byte> out) const override;

  std::string path_;
  int descriptor_;
  FileIdentity identity_;
};

/// A file whose header has been parsed. Opened again at the first use in each process, and refused
/// if it is not the same file any more. Keeps a mapping, or a descriptor, or neither, as the process's
/// limits allow (storage/limits.h).
class FileStorage final : public Storage {
 public:
  FileStorage(std::string path, const FileIdentity& identity, FileAccess access);
  ~FileStorage() override;

  [[nodiscard]] const FileIdentity& identity() const noexcept { return identity_; }
  [[nodiscard]] FileAccess access() const noexcept { return access_; }

  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return identity_.size; }
  [[nodiscard]] const std::byte* data() override;
  void read(std::uint64_t offset, std::span<std::byte> out) override;
  void advise(AccessPattern pattern) const noexcept override;
  void will_need(std::uint64_t offset, std::uint64_t size) const noexcept override;
  void will_not_need(std::uint64_t offset, std::uint64_t size, AccessPattern pattern) const noexcept override;
  void check() const override;

 private:
  void require_same(const FileIdentity& now) const;
  void open_now();
  bool map_now(int descriptor);
  void forget_header() const noexcept;
  void keep_descriptor(int descriptor);

  const std::string path_;
  const FileIdentity identity_;
  const FileAccess access_;
  std::atomic<bool> opened_{false};  ///< publishes all below, which are written once under a global lock
  std::uint64_t device_ = 0;         ///< that it was opened on
  const std::byte* address_ = nullptr;
  void* mapped_ = nullptr;
  int kept_descriptor_ = -1;
};

}  // namespace penstock
