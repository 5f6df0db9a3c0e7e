#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace penstock {

class OpenFile;

/// Memory that forked children share, and that another process can map by its descriptor.
///
/// Pages are given when they are first touched. thread-compatible
class SharedMemory {
 public:
  /// Whom it can be shared with: forked children alone, or whoever has the descriptor, of which a process has
  /// only so many.
  enum class With : std::uint8_t { kChildren, kAnyone };

  /// Zeros.
  ///
  /// \throws Error kShard when the system gives none
  SharedMemory(std::size_t bytes, With with);

  /// What another process made; the descriptor stays the caller's.
  ///
  /// \throws Error kShard when it cannot be mapped
  static std::shared_ptr<SharedMemory> from_descriptor(int descriptor);

  /// A file's contents, copied: a mapped file could be cut short under whoever reads it.
  ///
  /// \throws Error kShard when it cannot be read, or there is no memory for it
  static std::shared_ptr<SharedMemory> copy_of_file(const OpenFile& file);

  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, size_}; }

  /// Takes the pages of a part at once, where the system can: to touch them one by one takes twice as long.
  void populate(std::size_t offset, std::size_t bytes) const noexcept;

  /// For another process; -1 where there is none.
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

 private:
  SharedMemory() = default;

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int descriptor_ = -1;
};

}  // namespace penstock
