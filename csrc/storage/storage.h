#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace penstock {

/// How bytes are going to be touched.
enum class AccessPattern : std::uint8_t {
  kSequential,
  kRandom,
  kResident,  ///< all of them, again and again, in memory that holds them
};

/// Where the bytes of shards lie: a mapped file, a file that is read, inflated bytes, or memory.
///
/// The gather asks for an address first and copies from there under the fault guard; where there is
/// none it reads. It has no other idea of storage.
///
/// thread-safe
class Storage {
 public:
  Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  virtual ~Storage() = default;

  /// For messages; empty for memory.
  [[nodiscard]] virtual const std::string& path() const noexcept = 0;

  /// Bytes that rows may lie in.
  [[nodiscard]] virtual std::uint64_t size() const noexcept = 0;

  /// The address of byte 0, valid as long as this object, or nullptr when bytes can only be read.
  /// The first call opens (and maps, or inflates); the answer never changes afterwards.
  ///
  /// \throws Error kShard when the file is gone or is not the one whose header was parsed
  [[nodiscard]] virtual const std::byte* data() = 0;

  /// Copies bytes [offset, offset + out.size()) into `out`.
  ///
  /// \pre in bounds
  /// \throws Error kShard
  virtual void read(std::uint64_t offset, std::span<std::byte> out) = 0;

  /// Says how the bytes will be touched, so that the system reads what is needed and no more. Without it
  /// a fault reads as far around as the device's read-ahead goes (megabytes), which is right for data that
  /// fits in memory and ruinous for random rows of data that does not. What is resident is read in units of
  /// 2 MiB, where the file system can, and mapped so: a row then costs no walk through the page tables.
  virtual void advise(AccessPattern pattern) const noexcept = 0;

  /// Asks the system to read these bytes soon; returns before they are there. \pre in bounds
  virtual void will_need(std::uint64_t offset, std::uint64_t size) const noexcept = 0;

  /// Says that these bytes will not be needed soon, nor those before them in a pass from front to back; so
  /// that the system can use their memory for others. Those of a file that another process maps stay. \pre in
  /// bounds
  virtual void will_not_need(std::uint64_t offset, std::uint64_t size,
                             AccessPattern pattern) const noexcept = 0;

  /// Looks whether the bytes can still be what they were, at the price of a system call.
  ///
  /// \throws Error kShard when the file has shrunk, grown or been rewritten in place
  virtual void check() const = 0;
};

/// Bytes that somebody else keeps alive.
///
/// \param owner  released when the storage goes
[[nodiscard]] std::shared_ptr<Storage> memory_storage(std::span<const std::byte> bytes,
                                                      std::shared_ptr<const void> owner);

}  // namespace penstock
