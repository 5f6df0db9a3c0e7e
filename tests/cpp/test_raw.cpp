#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "format_checks.h"
#include "formats/raw.h"

using namespace penstock;
using namespace penstock::testing;

namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

Error error_of(const RawFormat& raw, std::uint64_t file_bytes) {
  return error_from([&] { return raw_layout(raw, file_bytes); });
}

}  // namespace

TEST_CASE("a file without a header holds as many rows as fit") {
  const FileLayout layout = raw_layout({DType::kFloat32, {2, 3}, 16}, 16 + 5 * 24);
  CHECK(layout.format == "raw");
  CHECK(layout.container == Container::kArray);
  REQUIRE(layout.arrays.size() == 1);
  const ArrayLayout& array = layout.arrays[0];
  CHECK(array.name.empty());
  CHECK(array.dtype == DType::kFloat32);
  CHECK_FALSE(array.byte_swapped);
  CHECK(array.shape == Numbers{5, 2, 3});
  CHECK(array.strides == Numbers{24, 12, 4});
  CHECK(array.offset == 16);
}

TEST_CASE("rows may be single numbers, and there may be none") {
  CHECK(raw_layout({DType::kUInt16, {}, 0}, 10).arrays[0].shape == Numbers{5});
  CHECK(raw_layout({DType::kUInt16, {}, 0}, 0).arrays[0].shape == Numbers{0});
  CHECK(raw_layout({DType::kUInt16, {7}, 12}, 12).arrays[0].shape == Numbers{0, 7});
}

TEST_CASE("a rest that is no row is refused with the numbers") {
  const Error error = error_of({DType::kFloat32, {3}, 2}, 31);
  CHECK(error.kind() == ErrorKind::kFormat);
  CHECK(error.needed() == "rows of 12 bytes from offset 2");
  CHECK(error.found() == "2 rows and 5 bytes more in a file of 31 bytes");
}

TEST_CASE("an offset outside the file is refused") {
  CHECK(error_of({DType::kUInt8, {1}, 11}, 10).kind() == ErrorKind::kFormat);
  CHECK(error_of({DType::kUInt8, {1}, std::numeric_limits<std::uint64_t>::max()}, 10).kind() ==
        ErrorKind::kFormat);
}

TEST_CASE("row shapes that mean nothing are the user's mistake") {
  for (const Numbers& row_shape :
       {Numbers{-1}, Numbers{0}, Numbers{2, 0, 3}, Numbers{kMost}, Numbers{kMost, kMost},
        Numbers{1'000'000'000, 1'000'000'000, 3}, Numbers(64, 1)}) {
    CHECK(error_of({DType::kFloat64, row_shape, 0}, 64).kind() == ErrorKind::kSchema);
  }
  CHECK(raw_layout({DType::kUInt8, Numbers(63, 1), 0}, 2).arrays[0].shape.size() == 64);
}

TEST_CASE("any numbers give a layout in bounds or an error") {
  std::mt19937_64 random(7);
  const auto number = [&] { return random() >> (random() % 64); };
  for (int round = 0; round < 20'000; ++round) {
    RawFormat raw{static_cast<DType>(random() % 22), {}, number()};
    for (std::uint64_t i = random() % 4; i > 0; --i)
      raw.row_shape.push_back(static_cast<std::int64_t>(number()));
    const std::uint64_t file_bytes = number();
    try {
      const FileLayout layout = raw_layout(raw, file_bytes);
      const ArrayLayout& array = layout.arrays.at(0);
      const auto span = spanned_bytes(array.shape, array.strides, item_bytes(array.dtype));
      CHECK((span && array.offset + *span == file_bytes));
    } catch (const Error&) {
    }
  }
}
