#include "formats/tar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"

namespace penstock {
namespace {

constexpr std::uint64_t kBlock = 512;
constexpr std::uint64_t kMostAttributes = std::uint64_t{1} << 20U;  ///< bytes of names and records

/// A field of a header.
struct Place {
  std::size_t begin;
  std::size_t size;
};
constexpr Place kName{0, 100};
constexpr Place kSize{124, 12};
constexpr Place kChecksum{148, 8};
constexpr std::size_t kType = 156;
constexpr Place kMagic{257, 6};
constexpr Place kPrefix{345, 155};

using Block = std::array<std::byte, kBlock>;

std::string_view field(const Block& block, Place place) {
  return as_text(Bytes(block).subspan(place.begin, place.size));
}

/// Up to the first zero.
std::string_view text_of(std::string_view field) { return field.substr(0, field.find('\0')); }

/// Octal digits, blanks around them; or, where the first byte has its highest bit set, the rest as binary.
std::optional<std::uint64_t> number_of(std::string_view field) {
  std::uint64_t number = 0;
  if (field.front() == '\x80') {
    for (const char c : field.substr(1)) {
      if (number >> 55U != 0) return std::nullopt;
      number = number << 8U | static_cast<unsigned char>(c);
    }
    return number;
  }
  std::string_view digits = text_of(field);
  digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
  digits = digits.substr(0, digits.find_last_not_of(' ') + 1);
  if (digits.empty()) return 0;
  constexpr int kOctal = 8;
  const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number, kOctal);
  if (problem != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

/// As the sum of all bytes, its own field being blanks; some writers took bytes for signed numbers.
bool has_right_checksum(const Block& block) {
  std::int64_t sum = 0;
  std::int64_t signed_sum = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const bool is_own = i - kChecksum.begin < kChecksum.size;
    const auto byte = is_own ? static_cast<unsigned char>(' ') : static_cast<unsigned char>(block[i]);
    sum += byte;
    signed_sum += static_cast<signed char>(byte);
  }
  const auto said = number_of(field(block, kChecksum));
  if (!said) return false;
  const auto number = static_cast<std::int64_t>(*said);
  return number == sum || number == signed_sum;
}

bool starts_with(const Block& block, std::string_view magic) {
  return as_text(Bytes(block)).starts_with(magic);
}

bool is_compressed(const Block& block) {
  using namespace std::string_view_literals;
  const std::array magics{"\x1f\x8b"sv, "BZh"sv,
                          "\xfd"
                          "7zXZ"sv,
                          "\x28\xb5\x2f\xfd"sv};
  return std::ranges::any_of(magics, [&](std::string_view magic) { return starts_with(block, magic); });
}

std::string member_text(std::string_view name) { return "member " + quoted_text(name); }

/// Rounded up to whole blocks. \pre far from overflowing
std::uint64_t padded(std::uint64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

/// The number at the front of `text`, all of which it must be.
std::optional<std::uint64_t> decimal(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string name_in(const Block& block) {
  using namespace std::string_view_literals;
  const std::string name(text_of(field(block, kName)));
  const std::string prefix(text_of(field(block, kPrefix)));
  const bool has_prefix = field(block, kMagic) == "ustar\0"sv && !prefix.empty();
  return has_prefix ? prefix + "/" + name : name;
}

/// '0' is a file, '1' a hard link, '2' a symbolic one, '5' a folder, '7' a file too. Before there were
/// folders they were files whose name ends with a stroke.
char type_of(const Block& block) {
  const char type = field(block, {kType, 1}).front();
  if (type != '\0') return type;
  return text_of(field(block, kName)).ends_with('/') ? '5' : '0';
}

bool is_zero(const Block& block) {
  return std::ranges::all_of(block, [](std::byte byte) { return byte == std::byte{0}; });
}

void require_header(const Block& block, std::uint64_t at) {
  if (has_right_checksum(block)) return;
  if (at == 0 && is_compressed(block)) {
    throw format_error("the archive is compressed").hint("Uncompress it: members are read where they lie.");
  }
  throw format_error(at == 0 ? "this is no tar archive" : "a header of the archive is damaged")
      .at_offset(at)
      .needed("a header with the right checksum");
}

}  // namespace

std::optional<TarMember> TarReader::next() {
  while (read_entry()) {
    if (take_attributes()) continue;
    if (auto member = take_member()) return member;
  }
  return std::nullopt;
}

/// \returns false at the end
bool TarReader::read_entry() {
  const auto cut_short = [this](std::string needed) {
    return format_error("the archive is cut short")
        .at_offset(at_)
        .needed(std::move(needed))
        .found(bytes_text(file_.size() - at_));
  };
  if (at_ == file_.size() && at_ > 0 && !is_begun_) return false;
  if (!in_bounds(file_.size(), at_, kBlock)) throw cut_short("a header of 512 bytes");
  Block block;
  file_.read(at_, block);
  if (is_zero(block)) {
    if (is_begun_) throw cut_short("the member that attributes before it are of");
    at_ = file_.size();
    return false;
  }
  require_header(block, at_);
  entry_ = {type_of(block), at_, name_in(block), at_ + kBlock, 0};
  const auto size = number_of(field(block, kSize));
  if (!size)
    throw format_error(member_text(entry_.name) + ": its header gives an impossible size").at_offset(at_);
  entry_.size = *size;
  return true;
}

/// Whether this was about the members that follow.
bool TarReader::take_attributes() {
  const char type = entry_.type;
  if (type != 'x' && type != 'g' && type != 'L' && type != 'K') return false;
  require_inside();
  if (type == 'x') apply(contents(), next_);
  if (type == 'g') apply(contents(), all_);
  if (type == 'g') next_ = all_;
  if (type == 'L') next_.name = text_of(contents());
  is_begun_ = is_begun_ || type != 'g';
  at_ = std::min(entry_.offset + padded(entry_.size), file_.size());
  return true;
}

/// Nothing where this is neither file nor link.
std::optional<TarMember> TarReader::take_member() {
  const Attributes said = std::exchange(next_, all_);
  is_begun_ = false;
  if (said.name) entry_.name = *said.name;
  if (said.size) entry_.size = *said.size;
  const char type = entry_.type;
  if (type >= '1' && type <= '6') {
    at_ = entry_.offset;  // without contents, whatever the header says
    if (type > '2') return std::nullopt;
    return TarMember{entry_.name, entry_.offset, 0, true};
  }
  require_inside();
  at_ = std::min(entry_.offset + padded(entry_.size), file_.size());
  const bool is_file = type == '0' || type == '7';
  if (type == 'S' || (is_file && said.has_holes)) {
    throw format_error(member_text(entry_.name) + ": it has holes, and cannot be read where it lies")
        .at_offset(entry_.header)
        .hint("Write the archive again without --sparse.");
  }
  if (!is_file) return std::nullopt;
  return TarMember{entry_.name, entry_.offset, entry_.size, false};
}

/// Names and records that stand before the header they are of.
std::string TarReader::contents() const {
  if (entry_.size > kMostAttributes) {
    throw format_error("the attributes of a member are too long")
        .at_offset(entry_.header)
        .needed("at most " + bytes_text(kMostAttributes))
        .found(bytes_text(entry_.size));
  }
  return std::string(as_text(file_.read(entry_.offset, entry_.size)));
}

void TarReader::require_inside() const {
  if (in_bounds(file_.size(), entry_.offset, entry_.size)) return;
  throw format_error(member_text(entry_.name) + ": the archive is cut short")
      .at_offset(entry_.offset)
      .needed(bytes_text(entry_.size) + " from there")
      .found(bytes_text(file_.size() - entry_.offset));
}

/// Records of pax: "length key=value\n", the length being that of all of it.
void TarReader::apply(std::string_view records, Attributes& attributes) const {
  const auto damaged = [this] {
    return format_error("attributes of the archive (pax) are damaged").at_offset(entry_.header);
  };
  while (!records.empty()) {
    if (records.front() == '\0') break;  // padding that some writers count in
    const std::size_t blank = records.find(' ');
    const auto length = blank == std::string_view::npos ? std::nullopt : decimal(records.substr(0, blank));
    if (!length || *length > records.size() || *length < blank + 2 || records[*length - 1] != '\n')
      throw damaged();
    const std::string_view record = records.substr(blank + 1, *length - blank - 2);
    records.remove_prefix(*length);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) throw damaged();
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    if (key == "path") {
      attributes.name.reset();
      if (!value.empty()) attributes.name = value;
    } else if (key == "size") {
      attributes.size = decimal(value);
      if (!attributes.size && !value.empty()) throw damaged();
    } else if (key.starts_with("GNU.sparse.")) {
      attributes.has_holes = true;
    }
  }
}

}  // namespace penstock
