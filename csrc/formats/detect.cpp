#include "formats/detect.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "base/text.h"
#include "formats/npy.h"
#include "formats/npz.h"
#include "formats/safetensors.h"
#include "formats/torch.h"
#include "formats/zip.h"

namespace penstock {
namespace {

using namespace std::string_view_literals;

/// No header of ours is shorter while data follows it, so reading this much reads no data.
constexpr std::uint64_t kFirstBytes = 16;
/// What is looked at to name a file that is not ours.
constexpr std::uint64_t kBytesToExplain = 512;
/// Text in place of a length is far above this; no header is.
constexpr std::uint64_t kPlausibleHeaderBytes = std::uint64_t{1} << 40U;

std::string_view without_leading_blanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
}

bool looks_like_safetensors(Bytes first) {
  return first.size() > 8 && load_le<std::uint64_t>(first, 0) < kPlausibleHeaderBytes &&
         without_leading_blanks(as_text(first).substr(8)).starts_with('{');
}

// --- archives ---------------------------------------------------------------------------------------

/// Whether a record stands where torch.save, TorchScript or torch.export put theirs: one folder deep.
bool is_torch_mark(const ZipEntry& entry) {
  const std::string_view name = entry.name;
  const std::string_view rest = name.substr(std::min(name.find('/'), name.size()));
  return rest == "/data.pkl" || rest == "/constants.pkl" || rest == "/archive_format";
}

bool is_npy(const ZipEntry& entry) { return entry.name.ends_with(".npy"); }

std::string list_of(const std::vector<ZipEntry>& entries) {
  constexpr std::size_t kMostNames = 5;
  if (entries.empty()) return "no records at all";
  std::string list;
  for (std::size_t i = 0; i < std::min(entries.size(), kMostNames); ++i) {
    list += (i == 0 ? "" : ", ") + quoted_text(entries[i].name);
  }
  if (entries.size() > kMostNames) list += " and " + std::to_string(entries.size() - kMostNames) + " more";
  return list;
}

FileLayout parse_archive(const ByteSource& file) {
  const ZipDirectory directory = parse_zip_directory(file);
  const auto& entries = directory.entries;
  if (std::any_of(entries.begin(), entries.end(), is_torch_mark)) return parse_torch(file, directory);
  if (std::any_of(entries.begin(), entries.end(), is_npy)) return parse_npz(file, directory);
  throw format_error("the zip archive is neither of torch.save nor of numpy.savez")
      .needed("a record <name>/data.pkl, or records that end in .npy")
      .found(list_of(entries));
}

// --- files of others --------------------------------------------------------------------------------

struct Signature {
  std::size_t offset;
  std::string_view bytes;
  std::string_view problem;
  std::string_view hint;
};

constexpr std::string_view kDecompress =
    "Decompress it first: no row of a compressed file can be found without the rest.";
constexpr std::string_view kConvert = "Convert it to .npy, .safetensors or .pt once.";
constexpr std::string_view kDecode =
    "Decode the images into one array once, and save it as .npy or .safetensors.";

constexpr std::array kSignatures = {
    Signature{0, "version https://git-lfs"sv, "this is a git-lfs pointer, not the file it stands for",
              "Fetch the file with git lfs pull."},
    Signature{0, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv,
              "this is a torch.save file in the legacy format, from before torch 1.6",
              "Re-save it with torch.save(torch.load(path), path)."},
    Signature{0, "\x80\x02"sv, "this is a pickle, which Penstock never executes", kConvert},
    Signature{0, "\x80\x03"sv, "this is a pickle, which Penstock never executes", kConvert},
    Signature{0, "\x80\x04"sv, "this is a pickle, which Penstock never executes", kConvert},
    Signature{0, "\x80\x05"sv, "this is a pickle, which Penstock never executes", kConvert},
    Signature{0, "\x89HDF\r\n\x1a\n"sv, "this is an HDF5 file", kConvert},
    Signature{0, "\x1f\x8b"sv, "this is a gzip file", kDecompress},
    Signature{0, "\x28\xb5\x2f\xfd"sv, "this is a zstd file", kDecompress},
    Signature{
        257, "ustar"sv, "this is a tar archive",
        "Its images penstock.ImageDataset reads where they lie; anything else must be extracted first."},
    Signature{0, "PAR1"sv, "this is a Parquet file", kConvert},
    Signature{0, "ARROW1"sv, "this is an Arrow file", kConvert},
    Signature{0, "\xff\xd8\xff"sv, "this is a JPEG image", kDecode},
    Signature{0, "\x89PNG\r\n\x1a\n"sv, "this is a PNG image", kDecode},
};

bool carries(std::string_view text, const Signature& signature) {
  return signature.offset < text.size() && text.substr(signature.offset).starts_with(signature.bytes);
}

bool is_plain_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= ' ' && c <= '~') || c == '\t' || c == '\n' || c == '\r' || c == '\f';
  });
}

bool is_html(std::string_view text) {
  std::string lower(without_leading_blanks(text).substr(0, 14));
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return lower.starts_with("<!doctype html") || lower.starts_with("<html");
}

Error text_error(std::string_view text) {
  const std::string_view begin = without_leading_blanks(text);
  const bool is_json = begin.starts_with('{') || begin.starts_with('[');
  return format_error(is_json ? "this is JSON text, not a file of arrays"
                              : "this is text, not a file of arrays")
      .found(quoted_text(text));
}

Error explanation(std::string_view text) {
  const auto known = std::find_if(kSignatures.begin(), kSignatures.end(),
                                  [&](const Signature& each) { return carries(text, each); });
  if (known != kSignatures.end())
    return format_error(std::string(known->problem)).hint(std::string(known->hint));
  if (text.find_first_not_of('\0') == text.npos) {
    return format_error("the file begins with nothing but zeros")
        .found(std::to_string(text.size()) + " zero bytes")
        .hint("Copy or download it again: this is what an interrupted copy leaves.");
  }
  if (is_html(text)) {
    return format_error("this is an HTML page, not a file of arrays")
        .hint("Download it again: an error or login page was saved in its place.");
  }
  if (is_plain_text(text)) return text_error(text);
  return format_error("no format that Penstock reads")
      .needed(".npy, .npz, .safetensors, or .pt of torch.save")
      .found("a file that begins with " + quoted_text(text.substr(0, 8)))
      .hint("A file without a header can be read as raw: say its dtype and row shape.");
}

}  // namespace

FileLayout parse_file(const ByteSource& file) {
  if (file.size() == 0) throw format_error("the file is empty").hint("Copy or download it again.");
  const auto first = file.read(0, std::min(file.size(), kFirstBytes));
  const std::string_view text = as_text(first);
  if (text.starts_with("\x93NUMPY")) return parse_npy(file);
  if (text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06")) return parse_archive(file);
  if (looks_like_safetensors(first)) return parse_safetensors(file);
  throw explanation(as_text(file.read(0, std::min(file.size(), kBytesToExplain))));
}

}  // namespace penstock
