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

ImageLog::ImageLog(std::shared_ptr<ImageLog> first, std::int64_t first_rows, std::shared_ptr<ImageLog> second)
    : first_(std::move(first)), second_(std::move(second)), first_rows_(first_rows) {}

void ImageLog::note_broken(std::int64_t row, std::string problem) {
  if (first_ && row < first_rows_) first_->note_broken(row, problem);
  if (second_ && row >= first_rows_) second_->note_broken(row - first_rows_, problem);
  add(broken_, row, std::move(problem));
}

void ImageLog::note_warning(std::int64_t row, std::string warning) {
  if (first_ && row < first_rows_) first_->note_warning(row, warning);
  if (second_ && row >= first_rows_) second_->note_warning(row - first_rows_, warning);
  add(warnings_, row, std::move(warning));
}

ImageLog::Notes ImageLog::broken() const { return copy_of(broken_); }
ImageLog::Notes ImageLog::warnings() const { return copy_of(warnings_); }

}  // namespace penstock
