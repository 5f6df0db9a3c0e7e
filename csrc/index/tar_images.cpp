#include "index/tar_images.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/tar.h"

namespace penstock {
namespace {

constexpr std::string_view kClass = ".cls";

/// Where the first dot of the last part of a path is; nothing where it has none, or begins with it.
std::optional<std::size_t> first_dot(std::string_view path) {
  const std::size_t stroke = path.rfind('/');
  const std::size_t begin = stroke == std::string_view::npos ? 0 : stroke + 1;
  const std::size_t dot = path.find('.', begin);
  if (dot == std::string_view::npos || dot == begin) return std::nullopt;
  return dot;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

Error bad_member(const TarMember& member, const std::string& problem) {
  return format_error("member " + quoted_text(member.name) + ": " + problem).at_offset(member.offset);
}

std::int64_t read_class(const ByteSource& file, const TarMember& member) {
  constexpr std::uint64_t kMostBytes = 64;
  constexpr std::string_view kBlank = " \t\r\n";
  const std::vector<std::byte> bytes = file.read(member.offset, std::min(member.size, kMostBytes));
  std::string_view text = as_text(bytes);
  text.remove_prefix(std::min(text.find_first_not_of(kBlank), text.size()));
  text = text.substr(0, text.find_last_not_of(kBlank) + 1);
  std::int64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = problem == std::errc() && end == text.data() + text.size();
  if (!is_number || member.size > kMostBytes) {
    throw bad_member(member, "it is no class").needed("a whole number").found(quoted_text(text));
  }
  return number;
}

/// Members of one key, one after the other.
class Grouping {
 public:
  Grouping(const ByteSource& file, std::span<const std::string> suffixes)
      : file_(file), suffixes_(suffixes) {}

  void take(const TarMember& member) {
    const auto dot = first_dot(member.name);
    if (!dot) return;
    const std::string_view key = std::string_view(member.name).substr(0, *dot);
    if (key != key_) {
      finish();
      key_ = key;
    }
    const std::string suffix = lower(std::string_view(member.name).substr(*dot));
    if (suffix == kClass) {
      put(class_, member);
    } else if (std::ranges::find(suffixes_, suffix) != suffixes_.end()) {
      put(image_, member);
    }
  }

  /// Ends a sample.
  void finish() {
    const auto image = std::exchange(image_, std::nullopt);
    const auto its_class = std::exchange(class_, std::nullopt);
    key_.clear();
    if (its_class && !image) throw bad_member(*its_class, "there is no image next to it");
    if (!image) return;
    found_.names.add(image->name);
    found_.offsets.push_back(image->offset);
    found_.sizes.push_back(image->size);
    found_.labels.push_back(its_class ? read_class(file_, *its_class) : 0);
    found_.has_labels.push_back(its_class ? 1 : 0);
  }

  [[nodiscard]] TarImages&& found() && { return std::move(found_); }

 private:
  static void put(std::optional<TarMember>& place, const TarMember& member) {
    if (member.is_link) {
      throw bad_member(member, "it is a link")
          .hint("Write the archive again with --dereference --hard-dereference.");
    }
    if (place) throw bad_member(member, "its sample has " + quoted_text(place->name) + " already");
    place = member;
  }

  const ByteSource& file_;
  std::span<const std::string> suffixes_;
  std::string key_;  ///< never empty of a sample
  std::optional<TarMember> image_;
  std::optional<TarMember> class_;
  TarImages found_;
};

}  // namespace

TarImages read_tar_images(const ByteSource& file, std::span<const std::string> suffixes) {
  TarReader reader(file);
  Grouping grouping(file, suffixes);
  while (const auto member = reader.next()) grouping.take(*member);
  grouping.finish();
  return std::move(grouping).found();
}

}  // namespace penstock
