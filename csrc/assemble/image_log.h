#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace penstock {

/// What was noticed about images while batches were read: first notes in full, then only counted.
///
/// thread-safe
class ImageLog {
 public:
  ImageLog() = default;

  /// Of the rows of two datasets, one after another: each dataset's log hears of its own.
  ImageLog(std::shared_ptr<ImageLog> first, std::int64_t first_rows, std::shared_ptr<ImageLog> second);

  struct Note {
    std::int64_t row;
    std::string text;
  };

  /// An image could not be decoded, and another one stood in for it.
  void note_broken(std::int64_t row, std::string problem);

  /// libjpeg warned of an image that it decoded.
  void note_warning(std::int64_t row, std::string warning);

  struct Notes {
    std::int64_t total = 0;
    std::vector<Note> first;  ///< one a row, in the order they came
  };
  [[nodiscard]] Notes broken() const;
  [[nodiscard]] Notes warnings() const;

 private:
  std::shared_ptr<ImageLog> first_;  ///< or none
  std::shared_ptr<ImageLog> second_;
  std::int64_t first_rows_ = 0;
  Notes broken_;
  Notes warnings_;
};

}  // namespace penstock
