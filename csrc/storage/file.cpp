#include "storage/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/fork.h"
#include "storage/file_time.h"
#include "storage/limits.h"

namespace penstock {
namespace {

int advice_for(AccessPattern pattern) noexcept {
  switch (pattern) {
    case AccessPattern::kRandom: return MADV_RANDOM;
#ifdef MADV_HUGEPAGE
    case AccessPattern::kResident: return MADV_HUGEPAGE;
#endif
    default: return MADV_NORMAL;
  }
}

FileIdentity identity_of(const struct stat& status) {
  return {static_cast<std::uint64_t>(status.st_dev), static_cast<std::uint64_t>(status.st_ino),
          static_cast<std::uint64_t>(status.st_size), modified_ns(status)};
}

int open_for_reading(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) throw system_error("the file cannot be opened", errno).in_file(path);
  return descriptor;
}

FileIdentity identify(const std::string& path, int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0)
    throw system_error("the file cannot be examined", errno).in_file(path);
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorKind::kShard, "this is no regular file").in_file(path);
  }
  return identity_of(status);
}

void read_fully(const std::string& path, int descriptor, std::uint64_t offset, std::span<std::byte> out) {
  constexpr std::size_t kMostPerCall = std::size_t{1} << 30U;
  while (!out.empty()) {
    const auto count =
        ::pread(descriptor, out.data(), std::min(out.size(), kMostPerCall), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw system_error("the file cannot be read", errno).in_file(path);
    if (count == 0) {
      throw Error(ErrorKind::kShard, "the file is shorter than it was when it was opened")
          .in_file(path)
          .at_offset(offset)
          .needed(std::to_string(out.size()) + " bytes from offset " + std::to_string(offset))
          .found("the end of the file");
    }
    out = out.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

/// Whether a file that was looked at on this machine or another one is as it was.
bool is_as_before(const FileIdentity& before, const FileIdentity& now) noexcept {
  return now.inode == before.inode && now.size == before.size && now.mtime_ns == before.mtime_ns;
}

Error changed(const std::string& path, const FileIdentity& before, const FileIdentity& now) {
  Error error(ErrorKind::kShard, now.size < before.size ? "the file has been truncated since it was opened"
                                                        : "the file has changed since it was opened");
  error.in_file(path).hint("Open the dataset again; write files under another name and rename them.");
  if (now.size != before.size) {
    error.needed(std::to_string(before.size) + " bytes").found(std::to_string(now.size) + " bytes");
  } else {
    const char* other_time =
        now.mtime_ns > before.mtime_ns ? "a later modification time" : "an earlier modification time";
    error.needed("the file of inode " + std::to_string(before.inode) + " as it was")
        .found(now.inode != before.inode ? "another file of that name" : other_time);
  }
  return error;
}

bool is_network_file_system(int descriptor) {
#ifdef __linux__
  // NFS, SMB, CIFS, SMB2, FUSE, Lustre, Ceph, 9P, GPFS, BeeGFS: statfs(2) and the systems' own headers.
  constexpr std::array<std::uint32_t, 10> kMagic = {0x6969,     0x517B,     0xFF534D42, 0xFE534D42,
                                                    0x65735546, 0x0BD00BD0, 0x00C36400, 0x01021997,
                                                    0x47504653, 0x19830326};
  struct statfs status{};
  if (::fstatfs(descriptor, &status) != 0) return false;
  return std::find(kMagic.begin(), kMagic.end(), static_cast<std::uint32_t>(status.f_type)) != kMagic.end();
#else
  (void)descriptor;
  return false;
#endif
}

/// The one lock for opening files: opening is rare, and a lock per file could not survive fork.
ForkSafeMutex& opening = *new ForkSafeMutex;

const auto kPageBytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));

}  // namespace

std::optional<FileIdentity> identity_of_file(const std::string& path) noexcept {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return identity_of(status);
}

void ask_for_file(const std::string& path) noexcept {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return;
#ifdef POSIX_FADV_WILLNEED
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_WILLNEED);
#endif
  ::close(descriptor);
}

OpenFile::OpenFile(const std::string& path) : path_(path), descriptor_(open_for_reading(path)) {
  try {
    identity_ = identify(path, descriptor_);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

OpenFile::~OpenFile() { ::close(descriptor_); }

void OpenFile::copy(std::uint64_t offset, std::span<std::byte> out) const {
  read_fully(path_, descriptor_, offset, out);
}

FileStorage::FileStorage(std::string path, const FileIdentity& identity, FileAccess access)
    : path_(std::move(path)), identity_(identity), access_(access) {}

FileStorage::~FileStorage() {
  if (mapped_ != nullptr) {
    ::munmap(mapped_, identity_.size);
    give_mapping_back();
  }
  if (kept_descriptor_ >= 0) {
    ::close(kept_descriptor_);
    give_descriptor_back();
  }
}

const std::byte* FileStorage::data() {
  if (!opened_.load(std::memory_order_acquire)) {
    const std::scoped_lock lock(opening);
    if (!opened_.load(std::memory_order_relaxed)) open_now();
  }
  return address_;
}

void FileStorage::read(std::uint64_t offset, std::span<std::byte> out) {
  (void)data();
  if (kept_descriptor_ >= 0) return read_fully(path_, kept_descriptor_, offset, out);
  const OpenFile file(path_);
  require_same(file.identity());
  read_fully(path_, file.descriptor(), offset, out);
}

void FileStorage::advise(AccessPattern pattern) const noexcept {
  if (mapped_ == nullptr) return;
  if (pattern == AccessPattern::kResident) forget_header();
  ::madvise(mapped_, identity_.size, advice_for(pattern));
}

/// A header that was read on its own lies in the cache as a few pages, beside which the system cannot put a
/// unit of its largest size; it will be read again with the unit.
void FileStorage::forget_header() const noexcept {
  constexpr std::size_t kUnit = std::size_t{2} << 20U;
  constexpr std::size_t kLeastPageBytes = 4096;
  constexpr std::ptrdiff_t kMostPagesOfAHeader = 64;
  if (identity_.size < kUnit) return;
  std::array<unsigned char, kUnit / kLeastPageBytes> cached{};
  if (::mincore(mapped_, kUnit, cached.data()) != 0) return;
  const auto pages =
      std::count_if(cached.begin(), cached.end(), [](unsigned char page) { return (page & 1U) != 0; });
  if (pages > 0 && pages <= kMostPagesOfAHeader) will_not_need(0, kUnit, AccessPattern::kRandom);
}

/// In pieces: the system cuts one request down to what the device takes at a time, 128 KiB by default.
void FileStorage::will_need(std::uint64_t offset, std::uint64_t size) const noexcept {
  constexpr std::uint64_t kPiece = std::uint64_t{128} << 10U;
  if (!opened_.load(std::memory_order_acquire)) return;
  const std::uint64_t end = offset + size;
  for (offset -= offset % kPiece; offset < end; offset += kPiece) {
    const std::uint64_t piece = std::min(kPiece, end - offset);
    if (mapped_ != nullptr) {
      ::madvise(static_cast<std::byte*>(mapped_) + offset, piece, MADV_WILLNEED);
    } else if (kept_descriptor_ >= 0) {
      ::posix_fadvise(kept_descriptor_, static_cast<off_t>(offset), static_cast<off_t>(piece),
                      POSIX_FADV_WILLNEED);
    }
  }
}

/// In a pass from front to back from well before the first byte: the system lets go of whole units only, of
/// up to two megabytes, and threads that read parts of several batches do not finish them quite in order. Our
/// own mapping must let go first, for what is mapped stays in the system's cache.
void FileStorage::will_not_need(std::uint64_t offset, std::uint64_t size,
                                AccessPattern pattern) const noexcept {
  const std::uint64_t before = pattern == AccessPattern::kSequential ? std::uint64_t{32} << 20U : 0;
  const std::uint64_t end = (offset + size) / kPageBytes * kPageBytes;
  offset = (offset - std::min(offset, before)) / kPageBytes * kPageBytes;
  if (offset >= end) return;
  if (mapped_ != nullptr) ::madvise(static_cast<std::byte*>(mapped_) + offset, end - offset, MADV_DONTNEED);
  const bool kept = kept_descriptor_ >= 0;
  const int descriptor = kept ? kept_descriptor_ : ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return;
  ::posix_fadvise(descriptor, static_cast<off_t>(offset), static_cast<off_t>(end - offset),
                  POSIX_FADV_DONTNEED);
  if (!kept) ::close(descriptor);
}

void FileStorage::check() const {
  struct stat status{};
  if (::stat(path_.c_str(), &status) != 0) return;  // unlinked: what we hold is whole
  const FileIdentity now = identity_of(status);
  const bool is_elsewhere = opened_.load(std::memory_order_acquire) && now.device != device_;
  if (is_elsewhere || now.inode != identity_.inode) return;  // replaced: likewise
  require_same(now);
}

void FileStorage::require_same(const FileIdentity& now) const {
  if (!is_as_before(identity_, now)) throw changed(path_, identity_, now);
}

void FileStorage::open_now() {
  const OpenFile file(path_);
  require_same(file.identity());
  const bool map = access_ == FileAccess::kMap ||
                   (access_ == FileAccess::kAuto && !is_network_file_system(file.descriptor()));
  if (!(map && map_now(file.descriptor()))) keep_descriptor(file.descriptor());
  device_ = file.identity().device;
  opened_.store(true, std::memory_order_release);
}

bool FileStorage::map_now(int descriptor) {
  static constexpr std::byte kNothing{};
  if (identity_.size == 0) {
    address_ = &kNothing;
    return true;
  }
  if (!take_mapping()) return false;
  void* address = ::mmap(nullptr, identity_.size, PROT_READ, MAP_SHARED, descriptor, 0);
  if (address == MAP_FAILED) address = ::mmap(nullptr, identity_.size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (address == MAP_FAILED) {
    give_mapping_back();
    return false;
  }
  mapped_ = address;
  address_ = static_cast<const std::byte*>(address);
  return true;
}

void FileStorage::keep_descriptor(int descriptor) {
  if (!take_descriptor()) return;
  kept_descriptor_ = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (kept_descriptor_ < 0) give_descriptor_back();
}

}  // namespace penstock
