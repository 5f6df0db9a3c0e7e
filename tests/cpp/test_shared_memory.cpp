#include "storage/shared_memory.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "format_checks.h"
#include "storage/file.h"

namespace penstock {
namespace {

using namespace testing;
using With = SharedMemory::With;

/// A file that goes with the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    const int descriptor = ::mkstemp(path_.data());
    REQUIRE(descriptor >= 0);
    ::close(descriptor);
    std::ofstream(path_, std::ios::binary) << text;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/penstock_test_XXXXXX";
};

std::string text_of(const SharedMemory& memory) { return std::string(as_text(memory.bytes())); }

std::ptrdiff_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

/// Whether a forked child that does `work` finds that it returns true.
template <typename Work>
bool in_child(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work() ? 0 : 1);
  int status = -1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

TEST_CASE("new memory is zeros, of any size") {
  for (const std::size_t size : std::vector<std::size_t>{0, 1, 4095, 4096, 4097, 10'000'000}) {
    for (const With with : {With::kChildren, With::kAnyone}) {
      const SharedMemory memory(size, with);
      CHECK(memory.size() == size);
      CHECK(memory.bytes().size() == size);
      CHECK(std::ranges::all_of(memory.bytes(), [](std::byte each) { return each == std::byte{0}; }));
      CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
      if (with == With::kChildren) CHECK(memory.descriptor() == -1);
    }
  }
}

TEST_CASE("parent and forked child see each other's writing") {
  for (const With with : {With::kChildren, With::kAnyone}) {
    const SharedMemory memory(100'000, with);
    memory.data()[5] = std::byte{7};
    CHECK(in_child([&] {
      memory.data()[99'999] = std::byte{9};
      return memory.data()[5] == std::byte{7};
    }));
    CHECK(memory.data()[99'999] == std::byte{9});
  }
}

TEST_CASE("memory mapped by its descriptor is the same memory, and outlives whoever made it") {
  auto made = std::make_unique<SharedMemory>(5000, With::kAnyone);
  REQUIRE(made->descriptor() >= 0);
  const auto mapped = SharedMemory::from_descriptor(made->descriptor());
  CHECK(mapped->size() == 5000);
  CHECK(mapped->data() != made->data());
  made->data()[4999] = std::byte{1};
  CHECK(mapped->data()[4999] == std::byte{1});
  mapped->data()[0] = std::byte{2};
  CHECK(made->data()[0] == std::byte{2});
  made.reset();
  CHECK(mapped->data()[4999] == std::byte{1});
  CHECK(mapped->descriptor() == -1);  // it keeps none
}

TEST_CASE("the descriptor stays the caller's, and none is left open in the end") {
  const std::ptrdiff_t before = open_descriptors();
  {
    const SharedMemory made(64, With::kAnyone);
    const int own = ::dup(made.descriptor());
    {
      const auto mapped = SharedMemory::from_descriptor(own);
    }
    CHECK(::fcntl(own, F_GETFD) >= 0);
    CHECK((::fcntl(made.descriptor(), F_GETFD) & FD_CLOEXEC) != 0);
    ::close(own);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("no bytes can be shared too") {
  const SharedMemory nothing(0, With::kAnyone);
  CHECK(nothing.bytes().empty());
  nothing.populate(0, 0);
  nothing.populate(0, 4096);
  if (nothing.descriptor() < 0) return;
  CHECK(SharedMemory::from_descriptor(nothing.descriptor())->bytes().empty());
}

TEST_CASE("a descriptor that cannot be mapped is refused, and none is left open") {
  const TemporaryFile file("some text");
  const std::ptrdiff_t before = open_descriptors();
  const Error closed = error_from([] { return SharedMemory::from_descriptor(-1); });
  CHECK(closed.kind() == ErrorKind::kShard);
  CHECK(closed.system_code() == EBADF);

  const int read_only = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
  const int folder = ::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (const int descriptor : {read_only, folder}) {
    const Error error = error_from([&] { return SharedMemory::from_descriptor(descriptor); });
    CHECK(error.kind() == ErrorKind::kShard);
    CHECK(error.system_code() != 0);
    ::close(descriptor);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("more than the system has is refused, and no descriptor is left open") {
  const std::ptrdiff_t before = open_descriptors();
  const Error error = error_from([] { return SharedMemory(std::size_t{1} << 60U, With::kAnyone).size(); });
  CHECK(error.kind() == ErrorKind::kShard);
  CHECK(open_descriptors() == before);
}

TEST_CASE("pages taken in advance keep what was written, within the memory and no further") {
  const SharedMemory memory(100'001, With::kChildren);
  for (std::size_t i = 0; i < memory.size(); ++i) memory.data()[i] = static_cast<std::byte>(i * 7);
  memory.populate(0, memory.size());
  memory.populate(5000, 3);
  memory.populate(100'000, 1'000'000);
  memory.populate(200'000, 10);
  for (std::size_t i = 0; i < memory.size(); ++i) REQUIRE(memory.data()[i] == static_cast<std::byte>(i * 7));
}

TEST_CASE("a copy of a file does not change with the file") {
  const TemporaryFile file("what it was");
  const auto copy = SharedMemory::copy_of_file(OpenFile(file.path()));
  CHECK(text_of(*copy) == "what it was");
  std::ofstream(file.path(), std::ios::binary) << "what it has become since then";
  CHECK(text_of(*copy) == "what it was");
  REQUIRE(::truncate(file.path().c_str(), 0) == 0);
  CHECK(text_of(*copy) == "what it was");
  CHECK(SharedMemory::copy_of_file(OpenFile(file.path()))->bytes().empty());
}

TEST_CASE("a file that is not there, or is none, is an error that names it") {
  const Error gone =
      error_from([] { return SharedMemory::copy_of_file(OpenFile("/tmp/penstock_no_such_file")); });
  CHECK(gone.kind() == ErrorKind::kShard);
  CHECK(gone.path() == "/tmp/penstock_no_such_file");
  CHECK(gone.system_code() == ENOENT);
  const Error folder = error_from([] { return SharedMemory::copy_of_file(OpenFile("/tmp")); });
  CHECK(folder.kind() == ErrorKind::kShard);
  CHECK(folder.path() == "/tmp");
}

}  // namespace
}  // namespace penstock
