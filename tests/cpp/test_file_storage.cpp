#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "format_checks.h"
#include "storage/file.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using testing::error_from;

constexpr std::size_t kUnit = std::size_t{2} << 20U;

/// A file on disk, of which nothing is in memory unless it is put there.
class ColdFile {
 public:
  explicit ColdFile(std::size_t bytes) : text_(bytes, '\0') {
    std::mt19937_64 random(bytes);
    std::generate(text_.begin(), text_.end(), [&] { return static_cast<char>(random()); });
    folder_.write("rows", text_);
    descriptor_ = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(descriptor_ >= 0);
    REQUIRE(::fsync(descriptor_) == 0);
    REQUIRE(::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED) == 0);
    REQUIRE(::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_RANDOM) == 0);
  }
  ColdFile(const ColdFile&) = delete;
  ColdFile& operator=(const ColdFile&) = delete;
  ~ColdFile() { ::close(descriptor_); }

  [[nodiscard]] std::string path() const { return folder_.path("rows"); }
  [[nodiscard]] const std::string& text() const { return text_; }

  void bring(std::size_t bytes) const {
    std::vector<char> ignored(bytes);
    REQUIRE(::pread(descriptor_, ignored.data(), bytes, 0) == static_cast<ssize_t>(bytes));
  }

  /// Pages of its first unit that are in memory.
  [[nodiscard]] std::ptrdiff_t pages() const {
    const std::size_t bytes = std::min(kUnit, text_.size());
    void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor_, 0);
    REQUIRE(mapped != MAP_FAILED);
    std::vector<unsigned char> cached(bytes / 4096 + 1);
    REQUIRE(::mincore(mapped, bytes, cached.data()) == 0);
    ::munmap(mapped, bytes);
    return std::count_if(cached.begin(), cached.end(), [](unsigned char page) { return (page & 1U) != 0; });
  }

 private:
  testing::TemporaryFolder folder_;
  std::string text_;
  int descriptor_ = -1;
};

void require_reads(FileStorage& storage, const std::string& text) {
  REQUIRE(std::memcmp(storage.data(), text.data(), text.size()) == 0);
}

TEST_CASE("a header that was read on its own is forgotten, to be read with what follows it") {
  const ColdFile file(2 * kUnit + 100);
  if (file.pages() != 0) return;  // a file system that lies in memory
  file.bring(8192);
  REQUIRE(file.pages() > 0);
  FileStorage storage(file.path(), OpenFile(file.path()).identity(), FileAccess::kMap);
  (void)storage.data();
  storage.advise(AccessPattern::kResident);
  CHECK(file.pages() == 0);
  require_reads(storage, file.text());
}

TEST_CASE("what is in memory stays there when it is said to be resident") {
  const ColdFile file(2 * kUnit + 100);
  file.bring(kUnit);
  const std::ptrdiff_t before = file.pages();
  FileStorage storage(file.path(), OpenFile(file.path()).identity(), FileAccess::kMap);
  (void)storage.data();
  storage.advise(AccessPattern::kResident);
  CHECK(file.pages() == before);
  require_reads(storage, file.text());
}

TEST_CASE("every advice leaves the bytes as they are, in files of any size") {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, kUnit - 1, kUnit, kUnit + 1}) {
    const ColdFile file(bytes);
    for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
      FileStorage storage(file.path(), OpenFile(file.path()).identity(), access);
      for (const auto pattern :
           {AccessPattern::kResident, AccessPattern::kRandom, AccessPattern::kSequential}) {
        storage.advise(pattern);
        if (storage.data() != nullptr) require_reads(storage, file.text());
        storage.advise(pattern);
        std::vector<std::byte> read(bytes);
        storage.read(0, read);
        REQUIRE(std::memcmp(read.data(), file.text().data(), bytes) == 0);
      }
    }
  }
}

TEST_CASE("a file is the same on another machine, where its device has another number") {
  const testing::TemporaryFolder folder;
  const std::string path = folder.path("rows");
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    folder.write("rows", "0123");
    folder.set_time("rows", {1'000'000'000, 7});
    FileIdentity there = OpenFile(path).identity();
    ++there.device;
    FileStorage storage(path, there, access);
    std::vector<std::byte> read(4);
    storage.read(0, read);
    CHECK(as_text(read) == "0123");
    CHECK_NOTHROW(storage.check());
    folder.write("rows", "4567");  // in place
    CHECK(error_from([&] { storage.check(); }).found() == "a later modification time");
    folder.replace("rows", "8901");
    CHECK_NOTHROW(storage.check());  // what we hold is whole
  }
}

TEST_CASE("what differs of a file that has changed is told") {
  const testing::TemporaryFolder folder;
  const std::string path = folder.path("rows");
  const auto told_after = [&](const auto& change) {
    folder.write("rows", "0123");
    folder.set_time("rows", {1'000'000'000, 0});
    FileStorage storage(path, OpenFile(path).identity(), FileAccess::kMap);
    change();
    return error_from([&] { (void)storage.data(); }).found();
  };
  CHECK(told_after([&] { folder.set_time("rows", {1'000'000'001, 0}); }) == "a later modification time");
  CHECK(told_after([&] { folder.set_time("rows", {999'999'999, 0}); }) == "an earlier modification time");
  CHECK(told_after([&] { folder.replace("rows", "0123"); }) == "another file of that name");
  CHECK(told_after([&] { folder.write("rows", "01234"); }) == "5 bytes");
}

}  // namespace
}  // namespace penstock
