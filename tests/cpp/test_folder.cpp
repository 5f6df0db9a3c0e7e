#include "index/folder.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "format_checks.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using namespace testing;
using Names = std::vector<std::string>;

Names all_of(const Strings& strings) {
  Names names;
  for (std::size_t i = 0; i < strings.size(); ++i) names.emplace_back(strings[i]);
  return names;
}

Names files_in(const std::string& root, const Names& suffixes = {}) {
  return all_of(list_folder(root, suffixes).files);
}

/// Whether a forked child, without the rights of root, finds that `work` returns true.
template <typename Work>
bool in_child_without_rights(const Work& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && ::seteuid(kNobody) != 0) ::_exit(2);
    ::_exit(work() ? 0 : 1);
  }
  int status = -1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

constexpr std::int64_t kSecond = 1'000'000'000;

std::int64_t now_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

void set_changed(const std::string& path, std::int64_t ns) {
  const timespec time{static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), std::array{time, time}.data(), 0) == 0);
}

TEST_CASE("strings come back as they were put in, empty ones and zeros too") {
  Strings strings;
  CHECK(strings.size() == 0);
  CHECK(strings.ends().empty());
  const Names names = {"", "a", "", std::string("z\0z", 3), "long enough to be on the heap by itself", ""};
  for (const std::string& name : names) strings.add(name);
  CHECK(all_of(strings) == names);
  CHECK(strings.ends().back() == strings.text().size());
  strings.reserve(100, 1000);
  CHECK(all_of(strings) == names);
}

TEST_CASE("files are sorted byte by byte by all of their name, folders in it included") {
  const TemporaryFolder folder;
  const Names sorted = {"10",  "2",   "B",  "_",  "a",       "a b",       "a-b/x", "a.b",
                        "a/x", "a/y", "a0", "ab", "b\x7f/x", "b\xc3\xa4", "b\xff", "c/d/e/f"};
  REQUIRE(std::is_sorted(sorted.begin(), sorted.end()));
  Names made = sorted;
  std::reverse(made.begin(), made.end());
  for (const std::string& name : made) {
    if (name != "a") folder.add(name);
  }
  Names expected = sorted;
  std::erase(expected, "a");  // it is a folder
  CHECK(files_in(folder.path()) == expected);
}

TEST_CASE("what begins with a dot is left out, and so is what lies in it") {
  const TemporaryFolder folder;
  for (const char* name : {"x", ".x", ".hidden/x", "in/.x", "in/.hidden/x", "in/x", "in/x.", "in/..x"}) {
    folder.add(name);
  }
  CHECK(files_in(folder.path()) == Names{"in/x", "in/x.", "x"});
  CHECK(list_folder(folder.path(), {}).folders.size() == 2);
}

TEST_CASE("names are any bytes: newlines, quotes, no UTF-8") {
  const TemporaryFolder folder;
  const Names names = {"\n", "\x01", " ", "\"'\\", "a\nb/c\td", "\xc3\x28", "\xff\xfe"};
  for (const std::string& name : names) folder.add(name);
  Names sorted = names;
  std::sort(sorted.begin(), sorted.end());
  CHECK(files_in(folder.path()) == sorted);
}

TEST_CASE("suffixes are met in small letters and capitals, and are ends, not endings after a dot") {
  const TemporaryFolder folder;
  for (const char* name : {"a.npy", "b.NPY", "c.nPy", "d.npy.txt", "npy", ".npy", "e.npz", "xnpy", "f.np"}) {
    folder.add(name);
  }
  CHECK(files_in(folder.path(), {".npy"}) == Names{"a.npy", "b.NPY", "c.nPy"});
  CHECK(files_in(folder.path(), {".NPY", ".npz"}) == Names{"a.npy", "b.NPY", "c.nPy", "e.npz"});
  CHECK(files_in(folder.path(), {"npy"}) == Names{"a.npy", "b.NPY", "c.nPy", "npy", "xnpy"});
  CHECK(files_in(folder.path(), {".pt"}).empty());
  CHECK(files_in(folder.path(), {""}).size() == 8);
}

TEST_CASE("only ASCII letters have two sizes: '@' is no '`', and bytes above 127 are themselves") {
  const TemporaryFolder folder;
  for (const char* name : {"a@", "a`", "a[", "a{", "a\xc4", "a\xe4"}) folder.add(name);
  CHECK(files_in(folder.path(), {"@"}) == Names{"a@"});
  CHECK(files_in(folder.path(), {"["}) == Names{"a["});
  CHECK(files_in(folder.path(), {"\xe4"}) == Names{"a\xe4"});
}

TEST_CASE("a folder that is called like a file is a folder") {
  const TemporaryFolder folder;
  folder.add("x.npy/inner.npy");
  folder.add("y.npy");
  CHECK(files_in(folder.path(), {".npy"}) == Names{"x.npy/inner.npy", "y.npy"});
}

TEST_CASE("links are followed: to a file, to a folder elsewhere, as the root") {
  const TemporaryFolder elsewhere;
  elsewhere.add("deep/x");
  elsewhere.add("y");
  const TemporaryFolder folder;
  folder.add("plain");
  folder.link(elsewhere.path("y"), "to_file");
  folder.link(elsewhere.path("deep"), "to_folder");
  CHECK(files_in(folder.path()) == Names{"plain", "to_file", "to_folder/x"});
  folder.link(".", "to_root");
  CHECK(files_in(folder.path("to_root")) == Names{"plain", "to_file", "to_folder/x"});
}

TEST_CASE("a link that leads nowhere is a file; so is one to itself") {
  const TemporaryFolder folder;
  folder.link("nothing", "lost.npy");
  folder.link("itself.npy", "itself.npy");
  folder.link("nothing", "lost.txt");
  CHECK(files_in(folder.path(), {".npy"}) == Names{"itself.npy", "lost.npy"});
}

TEST_CASE("a loop of links ends, and a folder that is met again is listed once") {
  const TemporaryFolder folder;
  folder.add("a/b/x");
  folder.link("..", "a/b/up");
  folder.link(folder.path(), "a/root");
  folder.link("a", "z");
  const Folder listed = list_folder(folder.path(), {});
  const Names files = all_of(listed.files);
  REQUIRE(files.size() == 1);
  CHECK(files.front().ends_with("b/x"));
  CHECK(listed.folders.size() == 3);
}

TEST_CASE("of two names of one folder the first is taken") {
  for (int round = 0; round < 8; ++round) {
    const TemporaryFolder folder;
    const std::string number = std::to_string(round);
    folder.add("m" + number + "/x");
    folder.link("m" + number, "a" + number);
    folder.link("m" + number, "z" + number);
    CHECK(files_in(folder.path()) == Names{"a" + number + "/x"});
  }
}

TEST_CASE("each folder is listed with the time of its last change, the root as ''") {
  const TemporaryFolder folder;
  folder.add("a/b/x");
  folder.add("c/y.npy");
  folder.add_folder("empty");
  const std::int64_t before = now_ns() - 3600 * kSecond;
  const std::map<std::string, std::int64_t> times = {
      {"", before + 1}, {"a", before + 2}, {"a/b", before + 3}, {"c", before + 4}, {"empty", 0}};
  for (const auto& [name, time] : times) set_changed(folder.path(name), time);
  const Folder listed = list_folder(folder.path(), Names{".npy"});  // folders without such files too
  REQUIRE(listed.folders.size() == listed.changed.size());
  std::map<std::string, std::int64_t> found;
  for (std::size_t i = 0; i < listed.folders.size(); ++i) {
    found[std::string(listed.folders[i])] = listed.changed[i];
  }
  CHECK(found == times);
  CHECK(listed.folders[0].empty());
  for (const auto& [name, time] : times) CHECK(folder_changed(folder.path(name)) == time);
}

TEST_CASE("the root comes first among folders, and each before those below it") {
  const TemporaryFolder folder;
  for (int i = 0; i < 50; ++i) folder.add_folder(std::to_string(i * 7919 % 50) + "/a/b");
  folder.add_folder("1-2/x");
  const Names folders = all_of(list_folder(folder.path(), {}).folders);
  REQUIRE(folders.size() == 153);
  CHECK(folders.front().empty());
  for (std::size_t i = 0; i < folders.size(); ++i) {
    const std::string above = folders[i].substr(0, folders[i].find_last_of('/'));
    const auto found = std::find(folders.begin(), folders.end(), above);
    CHECK((above == folders[i] || found < folders.begin() + static_cast<std::ptrdiff_t>(i)));
  }
}

TEST_CASE("a change that is too recent, or still to come, cannot be told: 0") {
  const TemporaryFolder folder;
  folder.add("old/x");
  folder.add("future/x");
  set_changed(folder.path("old"), now_ns() - kSecond);
  set_changed(folder.path("future"), now_ns() + 3600 * kSecond);
  set_changed(folder.path(), now_ns());
  const Folder listed = list_folder(folder.path(), {});
  for (std::size_t i = 0; i < listed.folders.size(); ++i) {
    CHECK((listed.changed[i] == 0) == (listed.folders[i] != "old"));
  }
  CHECK(folder_changed(folder.path("future")) > now_ns());  // what it is, told or not
}

TEST_CASE("where whole seconds are kept, or even ones, a change of the last two cannot be told") {
  const TemporaryFolder folder;
  const auto told = [&](std::int64_t changed) {
    set_changed(folder.path(), changed);
    return list_folder(folder.path(), {}).changed.front() == changed;
  };
  const std::int64_t second = now_ns() / kSecond * kSecond;
  CHECK_FALSE(told(second));
  CHECK_FALSE(told(second - kSecond));
  CHECK(told(second - 4 * kSecond));
  CHECK(told(second - kSecond + 1));  // no such file system
}

TEST_CASE("a folder's change tells of files that come, go or are renamed, and of nothing else") {
  const TemporaryFolder folder;
  folder.add("x");
  folder.add_folder("inner");
  const std::int64_t before = now_ns() - 3600 * kSecond;
  const auto changes = [&](const auto& act) {
    set_changed(folder.path(), before);
    act();
    return folder_changed(folder.path()) != before;
  };
  CHECK(changes([&] { folder.add("y"); }));
  CHECK(changes([&] { std::filesystem::rename(folder.path("y"), folder.path("z")); }));
  CHECK(changes([&] { std::filesystem::rename(folder.path("z"), folder.path("x")); }));
  CHECK_FALSE(changes([&] { std::ofstream(folder.path("x")) << "more"; }));
  CHECK_FALSE(changes([&] { folder.add("inner/w"); }));
  CHECK(changes([&] { std::filesystem::remove(folder.path("x")); }));
}

TEST_CASE("a root that is not there, or is a file, is an error that names it") {
  const TemporaryFolder folder;
  folder.add("file");
  for (const auto& [name, code] : {std::pair{"gone", ENOENT}, {"file", ENOTDIR}, {"file/x", ENOTDIR}}) {
    const std::string path = folder.path(name);
    for (const Error& error : {error_from([&path] { return list_folder(path, {}); }),
                               error_from([&path] { return folder_changed(path); })}) {
      CHECK(error.kind() == ErrorKind::kShard);
      CHECK(error.path() == path);
      CHECK(error.system_code() == code);
    }
  }
}

TEST_CASE("a folder below that cannot be read is an error that names it, not fewer files") {
  const TemporaryFolder folder;
  folder.add("open/x");
  folder.add("shut/x");
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
  REQUIRE(::chmod(folder.path("shut").c_str(), 0) == 0);
  CHECK(in_child_without_rights([&] {
    try {
      (void)list_folder(folder.path(), {});
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kShard && error.path() == folder.path("shut") &&
             error.system_code() == EACCES;
    }
    return false;
  }));
  REQUIRE(::chmod(folder.path("shut").c_str(), 0755) == 0);
  CHECK(in_child_without_rights([&] { return list_folder(folder.path(), {}).files.size() == 2; }));
}

TEST_CASE("an empty folder has no files and one folder") {
  const TemporaryFolder folder;
  const Folder listed = list_folder(folder.path(), {});
  CHECK(listed.files.size() == 0);
  CHECK(all_of(listed.folders) == Names{""});
  CHECK(listed.changed.size() == 1);
}

TEST_CASE("folders lie as deep as names can be long") {
  const TemporaryFolder folder;
  std::string deep;
  for (int i = 0; i < 500; ++i) deep += "d/";
  folder.add(deep + "x");
  CHECK(files_in(folder.path()) == Names{deep + "x"});
  CHECK(list_folder(folder.path(), {}).folders.size() == 501);
}

TEST_CASE("what is neither file nor folder is a file: whoever opens it says what is wrong") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo(folder.path("pipe").c_str(), 0600) == 0);
  CHECK(files_in(folder.path()) == Names{"pipe"});
}

TEST_CASE("folders are listed by several threads at once") {
  const TemporaryFolder folder;
  for (int i = 0; i < 100; ++i) folder.add(std::to_string(i % 10) + "/" + std::to_string(i));
  const Names expected = files_in(folder.path());
  std::array<bool, 4> same{};
  std::vector<std::thread> threads;
  for (bool& each : same) {
    threads.emplace_back([&] { each = files_in(folder.path()) == expected; });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(same == std::array{true, true, true, true});
}

}  // namespace
}  // namespace penstock
