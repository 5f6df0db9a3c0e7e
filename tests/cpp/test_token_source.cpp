#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/thread_pool.h"
#include "assemble/token_source.h"
#include "assemble/widen.h"
#include "base/error.h"
#include "format_checks.h"
#include "index/token_files.h"
#include "temporary_folder.h"

namespace penstock {
namespace {

using testing::contains;
using testing::error_from;
using testing::le;
using testing::TemporaryFolder;

constexpr std::array kDTypes = {DType::kUInt8,  DType::kInt8,  DType::kUInt16, DType::kInt16,
                                DType::kUInt32, DType::kInt32, DType::kInt64};

bool has_sign(DType dtype) { return dtype_name(dtype).starts_with("int"); }

/// A number of random width that fits.
std::int64_t random_token(std::mt19937_64& random, DType dtype) {
  const int bits = static_cast<int>(8 * item_bytes(dtype)) - (has_sign(dtype) ? 1 : 0);
  const auto number = static_cast<std::int64_t>(random() >> static_cast<unsigned>(64 - bits));
  return has_sign(dtype) && random() % 2 == 0 ? -number - 1 : number;
}

std::string file_of(const std::vector<std::int64_t>& tokens, DType dtype) {
  std::string bytes;
  for (const std::int64_t token : tokens) {
    const auto bits = static_cast<std::uint64_t>(token);
    bytes += le(bits, static_cast<int>(item_bytes(dtype)));
  }
  return bytes;
}

TEST_CASE("tokens of every dtype, count and alignment are widened, and no more is written") {
  std::mt19937_64 random(1);
  for (const DType dtype : kDTypes) {
    const TokenKernels kernels = token_kernels(dtype);
    for (std::size_t count = 0; count < 150; ++count) {
      std::vector<std::int64_t> tokens(count);
      for (auto& token : tokens) token = random_token(random, dtype);
      const std::size_t shift = random() % 8;
      const std::string bytes = std::string(shift, 'x') + file_of(tokens, dtype);
      const auto* from = reinterpret_cast<const std::byte*>(bytes.data()) + shift;
      std::vector<std::int64_t> out(count + 8, 77);
      kernels.widen(from, static_cast<std::int64_t>(count), reinterpret_cast<std::byte*>(out.data()));
      REQUIRE(std::equal(tokens.begin(), tokens.end(), out.begin()));
      REQUIRE(std::count(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(), 77) == 8);
      for (const std::int64_t bound : {std::int64_t{1}, std::int64_t{100}, std::int64_t{40'000}, INT64_MAX}) {
        const bool all_inside = std::all_of(tokens.begin(), tokens.end(),
                                            [&](std::int64_t token) { return token >= 0 && token < bound; });
        const std::uint64_t largest = kernels.largest(from, static_cast<std::int64_t>(count));
        const bool found_inside = largest < kernels.limit(bound);
        REQUIRE(found_inside == all_inside);
      }
    }
  }
}

/// Files of tokens, and what they hold.
struct Written {
  TemporaryFolder folder;
  std::vector<std::string> paths;
  std::vector<std::vector<std::int64_t>> tokens;
  DType dtype;

  Written(DType dtype_, const std::vector<std::size_t>& lengths, std::uint64_t seed) : dtype(dtype_) {
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      tokens.emplace_back(lengths[i]);
      for (auto& token : tokens.back()) token = random_token(random, dtype);
      folder.write(std::to_string(i) + ".bin", file_of(tokens.back(), dtype));
      paths.push_back(folder.path(std::to_string(i) + ".bin"));
    }
  }

  [[nodiscard]] std::shared_ptr<TokenSource> open(std::int64_t block_size, std::int64_t stride,
                                                  FileAccess access,
                                                  std::optional<std::int64_t> vocab_size = {}) const {
    const TokenFiles files(paths, TokenFormat::kRaw, dtype, access);
    return std::make_shared<TokenSource>(
        TokenSource::Parts{files.windows(block_size, stride), vocab_size, {0, 1}});
  }

  /// The slow way: every window of every file.
  [[nodiscard]] std::vector<std::vector<std::int64_t>> windows(std::size_t block_size,
                                                               std::size_t stride) const {
    std::vector<std::vector<std::int64_t>> all;
    for (const auto& file : tokens) {
      for (std::size_t at = 0; at + block_size + 1 <= file.size(); at += stride) {
        const auto first = file.begin() + static_cast<std::ptrdiff_t>(at);
        all.emplace_back(first, first + static_cast<std::ptrdiff_t>(block_size) + 1);
      }
    }
    return all;
  }
};

struct Batch {
  std::vector<std::int64_t> x;
  std::vector<std::int64_t> y;
};

Batch gather(TokenSource& source, const std::vector<std::int64_t>& rows) {
  const auto size = rows.size() * static_cast<std::size_t>(source.fields()[0].row_shape[0]);
  Batch batch{std::vector<std::int64_t>(size), std::vector<std::int64_t>(size)};
  const std::array outs = {reinterpret_cast<std::byte*>(batch.x.data()),
                           reinterpret_cast<std::byte*>(batch.y.data())};
  source.gather(rows, outs);
  return batch;
}

TEST_CASE("windows of files equal a loop over them, mapped and read, by one thread and by several") {
  std::mt19937_64 random(9);
  for (int round = 0; round < 60; ++round) {
    const DType dtype = kDTypes[random() % kDTypes.size()];
    const std::size_t block_size = 1 + random() % (round % 10 == 0 ? 3000 : 20);
    const std::size_t stride = 1 + random() % (2 * block_size);
    const Written written(dtype, {5, block_size + 1, block_size, 5 * block_size + 9, 1}, random());
    const auto windows = written.windows(block_size, stride);
    for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
      const auto source =
          written.open(static_cast<std::int64_t>(block_size), static_cast<std::int64_t>(stride), access);
      REQUIRE(source->num_rows() == static_cast<std::int64_t>(windows.size()));
      std::vector<std::int64_t> rows(1 + random() % 300);
      for (auto& row : rows) row = static_cast<std::int64_t>(random() % windows.size());
      set_num_threads(1 + round % 3);
      const Batch batch = gather(*source, rows);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto& window = windows[static_cast<std::size_t>(rows[i])];
        const auto at = static_cast<std::ptrdiff_t>(i * block_size);
        REQUIRE(std::equal(window.begin(), window.end() - 1, batch.x.begin() + at));
        REQUIRE(std::equal(window.begin() + 1, window.end(), batch.y.begin() + at));
      }
    }
  }
  set_num_threads(1);
}

TEST_CASE("one field alone") {
  const Written written(DType::kUInt16, {100}, 1);
  const auto source = written.open(10, 10, FileAccess::kMap);
  const auto y = source->select(1);
  REQUIRE(y->fields().size() == 1);
  CHECK(y->fields()[0].name == "y");
  std::vector<std::int64_t> out(20);
  const std::array outs = {reinterpret_cast<std::byte*>(out.data())};
  y->gather(std::vector<std::int64_t>{3, 1}, outs);
  CHECK(out == gather(*source, {3, 1}).y);
}

TEST_CASE("no file is as long as a window, and numbers that are impossibly large") {
  const Written written(DType::kUInt16, {10, 3}, 1);
  CHECK_NOTHROW((void)written.open(9, 1, FileAccess::kMap));
  for (const std::int64_t block_size : {std::int64_t{10}, INT64_MAX / 2, INT64_MAX - 1, INT64_MAX}) {
    const Error error = error_from([&] { return written.open(block_size, 1, FileAccess::kMap); });
    CHECK(error.kind() == ErrorKind::kSchema);
    CHECK(error.found() == "at most 10 in a file");
  }
  CHECK(written.open(2, INT64_MAX, FileAccess::kMap)->num_rows() == 2);
  const TokenFiles files(written.paths, TokenFormat::kRaw, DType::kUInt16, FileAccess::kMap);
  CHECK(files.num_tokens() == 13);
  CHECK(files.num_left_out(2, 2) == 1);
  CHECK(files.num_left_out(4, 4) == 4);
  CHECK(files.num_left_out(2, INT64_MAX) == 7);
  CHECK(files.num_left_out(INT64_MAX, INT64_MAX) == 13);
}

TEST_CASE("a token outside the vocabulary is named with its place") {
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    for (const DType dtype : {DType::kInt16, DType::kInt32, DType::kInt64}) {
      for (const std::int64_t token : {-1, -32768, 500, 32767}) {
        Written written(dtype, {7, 100}, 1);
        for (auto& each : written.tokens[1]) each = 499;
        written.tokens[1][57] = token;
        written.folder.write("1.bin", file_of(written.tokens[1], dtype));
        const auto source = written.open(10, 10, access, 500);
        CHECK_NOTHROW((void)gather(*source, {0, 1, 2, 3, 4, 6, 7, 8}));
        const Error error = error_from([&] { return gather(*source, {0, 8, 5, 1}); });
        CHECK(error.kind() == ErrorKind::kFormat);
        CHECK(error.path() == written.paths[1]);
        CHECK(error.row() == 5);
        CHECK(error.offset() == static_cast<std::uint64_t>(57 * item_bytes(dtype)));
        CHECK(error.found() == std::to_string(token));
        CHECK(error.needed() == "0 to 499");
      }
    }
  }
}

TEST_CASE("a file that shrinks while it is in use is an error that names it") {
  for (const FileAccess access : {FileAccess::kMap, FileAccess::kRead}) {
    for (const std::optional<std::int64_t> vocab_size : {std::optional<std::int64_t>(), {1 << 16}}) {
      const Written written(DType::kUInt16, {100'000, 100'000}, 1);
      const auto source = written.open(1000, 1000, access, vocab_size);
      std::vector<std::int64_t> rows(static_cast<std::size_t>(source->num_rows()));
      for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(rows.size() - 1 - i);
      (void)gather(*source, rows);
      REQUIRE(::truncate(written.paths[1].c_str(), 8192) == 0);
      const Error error = error_from([&] { return gather(*source, rows); });
      CHECK(error.kind() == ErrorKind::kShard);
      CHECK(error.path() == written.paths[1]);
      CHECK(gather(*source, {0, 1, 2}).x.size() == 3000);
    }
  }
}

TEST_CASE("files that disagree, or whose dtype nobody says") {
  const TemporaryFolder folder;
  folder.write("a.bin", std::string(10, 'x'));
  std::string header = le(20240801, 4) + le(7, 4) + le(2, 4);
  header.resize(1024);
  folder.write("b.bin", header + std::string(8, 'x'));
  const auto error_of = [&](const std::vector<std::string>& names, std::optional<DType> dtype,
                            TokenFormat format = TokenFormat::kAuto) {
    std::vector<std::string> paths;
    for (const auto& name : names) paths.push_back(folder.path(name));
    return error_from([&] { return TokenFiles(paths, format, dtype, FileAccess::kAuto); });
  };
  CHECK(error_of({"b.bin", "a.bin"}, {}).path() == folder.path("a.bin"));
  CHECK(error_of({"a.bin"}, {}).kind() == ErrorKind::kSchema);
  CHECK(error_of({"a.bin", "b.bin"}, DType::kUInt16).path() == folder.path("b.bin"));
  CHECK(error_of({"b.bin"}, DType::kInt32).found() == "uint32");
  for (const DType dtype : {DType::kFloat32, DType::kUInt64, DType::kBool})
    CHECK(error_of({"a.bin"}, dtype).kind() == ErrorKind::kSchema);
  const Error no_index = error_of({"a.bin"}, DType::kUInt16, TokenFormat::kMegatron);
  CHECK(no_index.kind() == ErrorKind::kShard);
  CHECK(no_index.path() == folder.path("a.idx"));
  folder.write("a.idx", "no index");
  CHECK(error_of({"a.bin"}, DType::kUInt16).path() == folder.path("a.idx"));
  CHECK(contains(error_of({"a.bin"}, DType::kUInt16).problem(), "cut short"));
}

TEST_CASE("parts that are no windows of tokens") {
  const auto column = [](DType dtype, const std::vector<std::int64_t>& row_shape) {
    std::vector<std::int64_t> strides(row_shape.size(), item_bytes(dtype));
    return std::make_shared<Column>(Column::Parts{"x", dtype, row_shape, {}, {{8, strides, false}}, {}, {}});
  };
  const auto refused = [](const TokenSource::Parts& parts) {
    return error_from([&] { return TokenSource(parts); }).kind() == ErrorKind::kSchema;
  };
  CHECK_NOTHROW(TokenSource({column(DType::kUInt16, {2}), {}, {0}}));
  CHECK(refused({column(DType::kUInt16, {1}), {}, {0, 1}}));
  CHECK(refused({column(DType::kUInt16, {}), {}, {0, 1}}));
  CHECK(refused({column(DType::kUInt16, {2, 2}), {}, {0, 1}}));
  CHECK(refused({column(DType::kFloat32, {2}), {}, {0, 1}}));
  CHECK(refused({column(DType::kUInt64, {2}), {}, {0, 1}}));
  CHECK(refused({column(DType::kUInt8, {std::int64_t{1} << 61}), {}, {0, 1}}));
  for (const std::vector<std::int64_t>& shifts : {std::vector<std::int64_t>{}, {2}, {-1}, {0, 1, 0}})
    CHECK(refused({column(DType::kUInt16, {2}), {}, shifts}));
  for (const std::int64_t vocab_size : {0, -5})
    CHECK(refused({column(DType::kUInt16, {2}), vocab_size, {0, 1}}));
}

TEST_CASE("one dataset after another") {
  const Written a(DType::kUInt16, {50}, 1);
  const Written b(DType::kUInt16, {50}, 2);
  const auto first = a.open(10, 10, FileAccess::kMap);
  const auto both =
      std::dynamic_pointer_cast<TokenSource>(first->followed_by(*b.open(10, 5, FileAccess::kMap)));
  REQUIRE(both);
  REQUIRE(both->num_rows() == 4 + 8);
  CHECK(gather(*both, {5}).x == gather(*b.open(10, 5, FileAccess::kMap), {1}).x);
  CHECK(both->fingerprint() != first->fingerprint());
  const auto refused = [&](const Source& other) {
    return error_from([&] { return first->followed_by(other); }).kind() == ErrorKind::kSchema;
  };
  CHECK(refused(*b.open(11, 10, FileAccess::kMap)));
  CHECK(refused(*b.open(10, 10, FileAccess::kMap, 65536)));
  CHECK(refused(*b.open(10, 10, FileAccess::kMap)->select(0)));
  CHECK(refused(*Written(DType::kInt16, {50}, 1).open(10, 10, FileAccess::kMap)));
  CHECK(refused(ColumnSource(first->parts().windows)));
  CHECK_THROWS_AS((void)ColumnSource(first->parts().windows).followed_by(*first), Error);
}

}  // namespace
}  // namespace penstock
