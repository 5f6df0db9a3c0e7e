#include "storage/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "storage/file.h"

namespace penstock {
namespace {

/// -1: not on this system; then forked children share the memory, and nobody else.
int make_descriptor(std::size_t bytes) {
#ifdef __linux__
  const int descriptor = ::memfd_create("penstock", MFD_CLOEXEC);
  if (descriptor < 0) return -1;
  if (::ftruncate(descriptor, static_cast<off_t>(bytes)) == 0) return descriptor;
  ::close(descriptor);
#else
  (void)bytes;
#endif
  return -1;
}

std::byte* map(std::size_t bytes, int protection, int flags, int descriptor) {
  if (bytes == 0) return nullptr;
  void* mapped = ::mmap(nullptr, bytes, protection, flags, descriptor, 0);
  if (mapped == MAP_FAILED) throw system_error("memory cannot be mapped", errno);
  return static_cast<std::byte*>(mapped);
}

std::size_t size_of(int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) throw system_error("the descriptor cannot be examined", errno);
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

SharedMemory::SharedMemory(std::size_t bytes, With with)
    : size_(bytes), descriptor_(with == With::kAnyone ? make_descriptor(bytes) : -1) {
  const int flags = descriptor_ >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
  try {
    data_ = map(bytes, PROT_READ | PROT_WRITE, flags, descriptor_);
  } catch (...) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw;
  }
}

std::shared_ptr<SharedMemory> SharedMemory::from_descriptor(int descriptor) {
  std::shared_ptr<SharedMemory> memory(new SharedMemory);
  memory->size_ = size_of(descriptor);
  memory->data_ = map(memory->size_, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor);
  return memory;
}

std::shared_ptr<SharedMemory> SharedMemory::copy_of_file(const OpenFile& file) {
  auto memory = std::make_shared<SharedMemory>(static_cast<std::size_t>(file.size()), With::kChildren);
  memory->populate(0, memory->size());
  file.read(0, memory->bytes());
  return memory;
}

void SharedMemory::populate(std::size_t offset, std::size_t bytes) const noexcept {
#ifdef MADV_POPULATE_WRITE
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t begin = offset / page * page;
  const std::size_t end = std::min(offset + bytes, size_);
  if (begin < end) ::madvise(data_ + begin, end - begin, MADV_POPULATE_WRITE);
#else
  (void)offset, (void)bytes;
#endif
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace penstock
