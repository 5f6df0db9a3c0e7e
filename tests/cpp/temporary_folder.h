#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace penstock::testing {

/// A folder that goes with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream file(path(name), std::ios::binary | std::ios::trunc);
    file << text;
    REQUIRE(file.flush().good());
  }

  /// As one should: under another name first.
  void replace(const std::string& name, const std::string& text) const {
    write(name + ".new", text);
    REQUIRE(::rename(path(name + ".new").c_str(), path(name).c_str()) == 0);
  }

  /// Other bytes in a file that looks, by its size and time, as it did before.
  void write_unnoticed(const std::string& name, char byte) const {
    struct stat status{};
    REQUIRE(::stat(path(name).c_str(), &status) == 0);
    write(name, std::string(static_cast<std::size_t>(status.st_size), byte));
    set_time(name, status.st_mtim);
  }

  void set_time(const std::string& name, const timespec& time) const {
    REQUIRE(::utimensat(AT_FDCWD, path(name).c_str(), std::array{time, time}.data(), 0) == 0);
  }

  void remove(const std::string& name) const { REQUIRE(::unlink(path(name).c_str()) == 0); }

  /// Makes a file, and the folders above it.
  void add(const std::string& name) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream file(path(name));
    REQUIRE(file.good());
  }

  void add_folder(const std::string& name) const { std::filesystem::create_directories(path(name)); }

  void link(const std::string& to, const std::string& name) const {
    REQUIRE(::symlink(to.c_str(), path(name).c_str()) == 0);
  }

 private:
  std::string path_ = "/tmp/penstock_test_XXXXXX";
};

}  // namespace penstock::testing
