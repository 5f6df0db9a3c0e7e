#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "assemble/arrangement.h"
#include "base/error.h"

namespace penstock {
namespace {

using Numbers = std::vector<std::int64_t>;
using Buffer = std::vector<std::byte>;
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::byte kUntouched{0xAB};

Field field_of(DType dtype, Numbers shape) {
  Field field{"x", dtype, std::move(shape), item_bytes(dtype), true};
  for (const std::int64_t length : field.row_shape) field.row_bytes *= length;
  return field;
}

Buffer random_bytes(std::mt19937_64& random, std::size_t count) {
  Buffer bytes(count);
  for (auto& each : bytes) each = static_cast<std::byte>(random());
  return bytes;
}

/// What each row should be in the batch: its values one by one, nullptr where there is padding.
std::vector<const std::byte*> expected_row(const Buffer& row, std::int64_t length, std::int64_t value_bytes,
                                           const RaggedLayout& layout, std::int64_t width) {
  std::vector<const std::byte*> values;
  for (std::int64_t i = 0; i < length; ++i) values.push_back(row.data() + i * value_bytes);
  while (static_cast<std::int64_t>(values.size()) > layout.max_length) {
    values.erase(layout.cuts_front ? values.begin() : values.end() - 1);
  }
  if (layout.is_packed) return values;
  const auto missing = static_cast<std::size_t>(width) - values.size();
  values.insert(layout.pads_front ? values.begin() : values.end(), missing, nullptr);
  return values;
}

struct Batch {
  Field field;
  Numbers lengths;
  std::vector<Buffer> rows;
  RaggedLayout layout;
  Padding padding;
};

std::int64_t width_of(const Batch& batch) {
  std::int64_t width = 0;
  for (const std::int64_t length : batch.lengths) {
    width = std::max(width, std::min(length, batch.layout.max_length));
  }
  while (width % batch.layout.multiple != 0) ++width;
  return width;
}

Buffer expected(const Batch& batch) {
  const std::int64_t width = width_of(batch);
  std::vector<std::vector<const std::byte*>> rows;
  for (std::size_t i = 0; i < batch.rows.size(); ++i) {
    rows.push_back(expected_row(batch.rows[i], batch.lengths[i], batch.field.row_bytes, batch.layout, width));
  }
  Buffer bytes;
  const auto add = [&](const std::byte* value) {
    for (std::int64_t k = 0; k < batch.field.row_bytes; ++k) {
      bytes.push_back(value != nullptr ? value[k]
                                       : batch.padding[static_cast<std::size_t>(k) % batch.padding.size()]);
    }
  };
  if (batch.layout.is_packed || batch.layout.batch_first) {
    for (const auto& row : rows) std::for_each(row.begin(), row.end(), add);
  } else {
    for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
      for (const auto& row : rows) add(row[i]);
    }
  }
  return bytes;
}

Numbers expected_shape(const Batch& batch) {
  const auto rows = static_cast<std::int64_t>(batch.rows.size());
  Numbers shape = {rows, width_of(batch)};
  if (batch.layout.is_packed) {
    shape = {0};
    for (const std::int64_t length : batch.lengths) shape[0] += std::min(length, batch.layout.max_length);
  } else if (!batch.layout.batch_first) {
    std::swap(shape[0], shape[1]);
  }
  shape.insert(shape.end(), batch.field.row_shape.begin(), batch.field.row_shape.end());
  return shape;
}

/// Rows [begin, end), as a slice of a gather does it.
void put_slice(const Arrangement& arrangement, const Batch& batch, std::size_t begin, std::size_t end,
               std::byte* buffer) {
  std::byte* place = buffer + arrangement.place(static_cast<std::int64_t>(begin));
  for (std::size_t i = begin; i < end; ++i) {
    REQUIRE(place == buffer + arrangement.place(static_cast<std::int64_t>(i)));
    const std::int64_t length = batch.lengths[i];
    const std::byte* first = batch.rows[i].data() + arrangement.first_kept(length) * batch.field.row_bytes;
    place = arrangement.put(place, arrangement.kept(length) == 0 ? nullptr : first, arrangement.kept(length));
  }
}

Batch random_batch(std::mt19937_64& random) {
  const std::vector<DType> dtypes = {DType::kUInt8,   DType::kInt16,     DType::kBFloat16,
                                     DType::kFloat32, DType::kComplex64, DType::kComplex128};
  Numbers shape(random() % 3);
  for (auto& length : shape) length = static_cast<std::int64_t>(random() % 4);
  Batch batch{field_of(dtypes[random() % dtypes.size()], shape), Numbers(random() % 7), {}, {}, {}};
  const std::uint64_t longest = 1 + random() % 12;
  for (auto& length : batch.lengths) {
    length = static_cast<std::int64_t>(random() % longest);
    batch.rows.push_back(random_bytes(random, static_cast<std::size_t>(length * batch.field.row_bytes)));
  }
  const auto flip = [&] { return random() % 2 == 0; };
  batch.layout = {random() % 3 == 0, flip(), flip(), flip(), kMost, 1};
  if (flip()) batch.layout.max_length = static_cast<std::int64_t>(random() % 12);
  if (flip()) batch.layout.multiple = static_cast<std::int64_t>(1 + random() % 9);
  batch.padding = random_bytes(random, static_cast<std::size_t>(item_bytes(batch.field.dtype)));
  if (flip()) std::fill(batch.padding.begin(), batch.padding.end(), batch.padding.front());
  return batch;
}

TEST_CASE("every layout of random rows equals one that is made value by value, and touches no more") {
  constexpr std::size_t kGuard = 64;
  std::mt19937_64 random(1);
  for (int round = 0; round < 6000; ++round) {
    const Batch batch = random_batch(random);
    const Arrangement arrangement(batch.field, batch.lengths, batch.layout, batch.padding);
    REQUIRE(arrangement.shape() == expected_shape(batch));
    REQUIRE(arrangement.value_bytes() == batch.field.row_bytes);
    const Buffer wanted = expected(batch);
    Buffer buffer(wanted.size() + 2 * kGuard, kUntouched);
    const std::size_t rows = batch.rows.size();
    const std::size_t cut = rows == 0 ? 0 : random() % (rows + 1);
    put_slice(arrangement, batch, cut, rows, buffer.data() + kGuard);
    put_slice(arrangement, batch, 0, cut, buffer.data() + kGuard);
    const auto begin = buffer.begin() + kGuard;
    const auto end = begin + static_cast<std::ptrdiff_t>(wanted.size());
    REQUIRE(Buffer(begin, end) == wanted);
    REQUIRE(std::all_of(buffer.begin(), begin, [](std::byte each) { return each == kUntouched; }));
    REQUIRE(std::all_of(end, buffer.end(), [](std::byte each) { return each == kUntouched; }));
  }
}

TEST_CASE("what a row takes on average") {
  const Field field = field_of(DType::kFloat32, {3});
  const Padding zero(4);
  const Numbers lengths = {5, 0, 1};
  CHECK(Arrangement(field, lengths, {}, zero).bytes_per_row() == 5 * 12);
  CHECK(Arrangement(field, {}, {}, zero).bytes_per_row() == 0);
  RaggedLayout packed;
  packed.is_packed = true;
  CHECK(Arrangement(field, lengths, packed, zero).bytes_per_row() >= 2 * 12);
  CHECK(Arrangement(field, {}, packed, zero).bytes_per_row() == 0);
}

TEST_CASE("layouts that cannot be are refused") {
  const Field field = field_of(DType::kFloat32, {});
  const auto kind_of = [&](std::int64_t max_length, std::int64_t multiple, std::size_t padding) {
    RaggedLayout layout;
    layout.max_length = max_length;
    layout.multiple = multiple;
    try {
      const Arrangement made(field, Numbers{3}, layout, Padding(padding));
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kArgument;
    }
    return false;
  };
  CHECK_FALSE(kind_of(kMost, 1, 4));
  CHECK_FALSE(kind_of(0, 7, 4));
  CHECK(kind_of(-1, 1, 4));
  CHECK(kind_of(std::numeric_limits<std::int64_t>::min(), 1, 4));
  CHECK(kind_of(kMost, 0, 4));
  CHECK(kind_of(kMost, -4, 4));
  CHECK(kind_of(kMost, 1, 0));
  CHECK(kind_of(kMost, 1, 3));
  CHECK(kind_of(kMost, 1, 8));
  CHECK(kind_of(kMost, kMost, 4));
}

}  // namespace
}  // namespace penstock
