#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

/// Many strings, end to end.
class Strings {
 public:
  void add(std::string_view text);
  void reserve(std::size_t count, std::size_t bytes);

  [[nodiscard]] std::size_t size() const noexcept { return ends_.size(); }
  [[nodiscard]] std::string_view operator[](std::size_t i) const noexcept;
  [[nodiscard]] std::span<const std::uint64_t> ends() const noexcept { return ends_; }
  [[nodiscard]] std::string_view text() const noexcept { return text_; }

 private:
  std::string text_;
  std::vector<std::uint64_t> ends_;
};

[[nodiscard]] Strings strings_of(std::span<const std::string> all);

/// What lies in a folder and those below it.
struct Folder {
  Strings files;                      ///< names below the root, sorted byte by byte
  Strings folders;                    ///< "", the root, first; each before those below it
  std::vector<std::int64_t> changed;  ///< when each folder was last changed, in ns; 0: too lately to tell
};

/// Lists the files whose names end like one of `suffixes` (all, when there are none), without reading them.
/// What begins with a dot is left out; links are followed, a folder that is met again is not.
///
/// \throws Error kShard when the root is no folder or one below cannot be read
[[nodiscard]] Folder list_folder(const std::string& root, std::span<const std::string> suffixes);

/// When the folder was last changed: a file came, went or got another name.
///
/// \throws Error kShard when it is gone
[[nodiscard]] std::int64_t folder_changed(const std::string& path);

}  // namespace penstock
