#include "index/tar_images.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

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
///
/// What is a sample is known when all are there: an image under the key itself makes one of them all.
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
    const std::size_t last_dot = member.name.rfind('.');
    const std::string suffix = lower(std::string_view(member.name).substr(last_dot));
    const bool is_class = suffix == kClass;
    if (is_class || std::ranges::find(suffixes_, suffix) != suffixes_.end()) {
      parts_.push_back({member, last_dot, is_class});
    }
  }

  /// Ends the members of a key.
  void finish() {
    const bool is_one_sample =
        std::ranges::any_of(parts_, [&](const Part& part) { return !part.is_class && part.stem() == key_; });
    std::vector<Sample> samples;
    std::unordered_map<std::string_view, std::size_t> by_stem;
    for (const Part& part : parts_) {
      if (is_one_sample && part.stem() != key_) continue;
      const auto [place, is_new] = by_stem.try_emplace(part.stem(), samples.size());
      if (is_new) samples.emplace_back();
      Sample& sample = samples[place->second];
      put(part.is_class ? sample.its_class : sample.image, part.member);
    }
    for (const Sample& sample : samples) add(sample);
    parts_.clear();
    key_.clear();
  }

  [[nodiscard]] TarImages&& found() && { return std::move(found_); }

 private:
  /// An image or a class.
  struct Part {
    TarMember member;
    std::size_t last_dot;
    bool is_class;

    [[nodiscard]] std::string_view stem() const { return std::string_view(member.name).substr(0, last_dot); }
  };

  struct Sample {
    const TarMember* image = nullptr;
    const TarMember* its_class = nullptr;
  };

  static void put(const TarMember*& place, const TarMember& member) {
    if (member.is_link) {
      throw bad_member(member, "it is a link")
          .hint("Write the archive again with --dereference --hard-dereference.");
    }
    if (place) throw bad_member(member, "its sample has " + quoted_text(place->name) + " already");
    place = &member;
  }

  void add(const Sample& sample) {
    if (!sample.image) throw bad_member(*sample.its_class, "there is no image next to it");
    found_.names.add(sample.image->name);
    found_.offsets.push_back(sample.image->offset);
    found_.sizes.push_back(sample.image->size);
    found_.labels.push_back(sample.its_class ? read_class(file_, *sample.its_class) : 0);
    found_.has_labels.push_back(sample.its_class ? 1 : 0);
  }

  const ByteSource& file_;
  std::span<const std::string> suffixes_;
  std::string key_;  ///< never empty of a sample
  std::vector<Part> parts_;
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
