#include "assemble/image_log.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "base/fork.h"

namespace penstock {
namespace {

constexpr std::size_t kMostKept = 1000;

/// One for all logs, which are seldom written to: a child finds it free.
ForkSafeMutex& writing = *new ForkSafeMutex;

void add(ImageLog::Notes& notes, std::int64_t row, std::string text) {
  const std::scoped_lock lock(writing);
  ++notes.total;
  const bool is_known =
      std::ranges::any_of(notes.first, [row](const ImageLog::Note& note) { return note.row == row; });
  if (!is_known && notes.first.size() < kMostKept) notes.first.push_back({row, std::move(text)});
}

ImageLog::Notes copy_of(const ImageLog::Notes& notes) {
  const std::scoped_lock lock(writing);
  return notes;
}

}  // namespace

void ImageLog::note_broken(std::int64_t row, std::string problem) { add(broken_, row, std::move(problem)); }
void ImageLog::note_warning(std::int64_t row, std::string warning) {
  add(warnings_, row, std::move(warning));
}
ImageLog::Notes ImageLog::broken() const { return copy_of(broken_); }
ImageLog::Notes ImageLog::warnings() const { return copy_of(warnings_); }

}  // namespace penstock
