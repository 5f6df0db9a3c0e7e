#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace penstock {

/// What was noticed about images while batches were read: first notes in full, then only counted.
///
/// thread-safe
class ImageLog {
 public:
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
  Notes broken_;
  Notes warnings_;
};

}  // namespace penstock
