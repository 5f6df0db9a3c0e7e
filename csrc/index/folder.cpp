#include "index/folder.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <numeric>
#include <set>
#include <utility>

#include "base/error.h"
#include "storage/file_time.h"

namespace penstock {
namespace {

Error unreadable(const std::string& path, int code) {
  return system_error("the folder cannot be read", code).in_file(path);
}

struct stat examine(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) throw unreadable(path, errno);
  if (!S_ISDIR(status.st_mode)) throw unreadable(path, ENOTDIR);
  return status;
}

/// Another change within this time may not show: the system's clock for files ticks every few milliseconds,
/// and some file systems keep whole seconds, or even ones (FAT), which a time of no fraction tells.
std::int64_t tick_ns(std::int64_t changed_ns) noexcept {
  constexpr std::int64_t kClockNs = 50'000'000;
  constexpr std::int64_t kSecondNs = 1'000'000'000;
  return changed_ns % kSecondNs == 0 ? 2 * kSecondNs + kClockNs : kClockNs;
}

bool is_too_late_to_tell(std::int64_t changed_ns) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() - changed_ns < tick_ns(changed_ns);
}

bool same_letter(char a, char b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return lower(a) == lower(b);
}

/// Whether the name ends like one of them, in small letters or capitals.
bool ends_like(std::string_view name, std::span<const std::string> suffixes) {
  return suffixes.empty() || std::any_of(suffixes.begin(), suffixes.end(), [name](const std::string& suffix) {
           return name.size() >= suffix.size() &&
                  std::equal(suffix.rbegin(), suffix.rend(), name.rbegin(), same_letter);
         });
}

/// The walk through a root and what is below it.
class Walk {
 public:
  Walk(const std::string& root, std::span<const std::string> suffixes) : root_(root), suffixes_(suffixes) {}

  void visit(const std::string& below) {
    const std::string path = below.empty() ? root_ : root_ + "/" + below;
    const struct stat status = examine(path);
    if (!visited_.emplace(status.st_dev, status.st_ino).second) return;
    const std::int64_t changed = modified_ns(status);
    folder_.folders.add(below);
    folder_.changed.push_back(is_too_late_to_tell(changed) ? 0 : changed);
    std::vector<std::string> inner;
    list(path, below.empty() ? "" : below + "/", inner);
    std::sort(inner.begin(), inner.end());  // so that of a folder's two names it is always the same one
    for (const std::string& each : inner) visit(each);
  }

  Folder take() { return std::move(folder_); }

 private:
  void list(const std::string& path, const std::string& prefix, std::vector<std::string>& inner) {
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(path.c_str()), &::closedir);
    if (!open) throw unreadable(path, errno);
    errno = 0;
    while (const dirent* entry =
               ::readdir(open.get())) {  // NOLINT(concurrency-mt-unsafe): a stream of its own
      const std::string name = entry->d_name;
      if (name.starts_with('.')) continue;
      if (is_folder(path, name, entry->d_type)) {
        inner.push_back(prefix + name);
      } else if (ends_like(name, suffixes_)) {
        folder_.files.add(prefix + name);
      }
      errno = 0;
    }
    if (errno != 0) throw unreadable(path, errno);
  }

  /// A link that leads nowhere is a file: whoever opens it says what is wrong.
  static bool is_folder(const std::string& path, const std::string& name, unsigned char type) {
    if (type != DT_LNK && type != DT_UNKNOWN) return type == DT_DIR;
    struct stat status{};
    return ::stat((path + "/" + name).c_str(), &status) == 0 && S_ISDIR(status.st_mode);
  }

  const std::string& root_;
  std::span<const std::string> suffixes_;
  std::set<std::pair<dev_t, ino_t>> visited_;
  Folder folder_;
};

Strings sorted(const Strings& strings) {
  std::vector<std::size_t> order(strings.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&strings](std::size_t a, std::size_t b) { return strings[a] < strings[b]; });
  Strings result;
  result.reserve(strings.size(), strings.text().size());
  for (const std::size_t i : order) result.add(strings[i]);
  return result;
}

}  // namespace

void Strings::add(std::string_view text) {
  text_.append(text);
  ends_.push_back(text_.size());
}

void Strings::reserve(std::size_t count, std::size_t bytes) {
  ends_.reserve(count);
  text_.reserve(bytes);
}

std::string_view Strings::operator[](std::size_t i) const noexcept {
  const std::uint64_t begin = i == 0 ? 0 : ends_[i - 1];
  return std::string_view(text_).substr(begin, ends_[i] - begin);
}

Strings strings_of(std::span<const std::string> all) {
  Strings strings;
  for (const std::string& each : all) strings.add(each);
  return strings;
}

Folder list_folder(const std::string& root, std::span<const std::string> suffixes) {
  Walk walk(root, suffixes);
  walk.visit("");
  Folder folder = walk.take();
  folder.files = sorted(folder.files);
  return folder;
}

std::int64_t folder_changed(const std::string& path) { return modified_ns(examine(path)); }

}  // namespace penstock
