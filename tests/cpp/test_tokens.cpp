#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/byte_source.h"
#include "base/bytes.h"
#include "base/error.h"
#include "format_checks.h"
#include "formats/tokens.h"
#include "recording_source.h"

using namespace penstock;
using namespace penstock::testing;

namespace {

std::string llm_c(std::uint32_t magic, std::uint32_t version, std::uint32_t num_tokens,
                  std::size_t data_bytes) {
  std::string file = le(magic, 4) + le(version, 4) + le(num_tokens, 4);
  file.resize(1024);
  return file + std::string(data_bytes, 'x');
}

struct Index {
  std::string magic = std::string("MMIDIDX\0\0", 9);
  std::uint64_t version = 1;
  std::uint64_t code = 8;
  Numbers lengths = {3, 0, 5};
  Numbers pointers = {0, 6, 6};
  Numbers documents = {0, 1, 3};
  std::string modes = {};

  [[nodiscard]] std::string bytes() const { return bytes(lengths.size(), documents.size()); }
  [[nodiscard]] std::string bytes(std::uint64_t num_sequences, std::uint64_t num_documents) const {
    std::string file = magic + le(version, 8) + le(code, 1) + le(num_sequences, 8) + le(num_documents, 8);
    for (const std::int64_t each : lengths) file += le(static_cast<std::uint64_t>(each), 4);
    for (const std::int64_t each : pointers) file += le(static_cast<std::uint64_t>(each), 8);
    for (const std::int64_t each : documents) file += le(static_cast<std::uint64_t>(each), 8);
    return file + modes;
  }
};

TokenLayout read_index(const std::string& file) { return megatron_tokens(MemorySource(as_bytes(file))); }
TokenLayout read_llm_c(const std::string& file) { return llm_c_tokens(MemorySource(as_bytes(file))); }

std::string refused(const Index& index) {
  return refusal_of([&] { return read_index(index.bytes()); });
}

}  // namespace

TEST_CASE("a file without a header holds as many tokens as fit, and at least one") {
  const TokenLayout layout = raw_tokens(DType::kUInt16, 14);
  CHECK(layout.num_tokens == 7);
  CHECK(layout.offset == 0);
  CHECK(raw_tokens(DType::kUInt8, 1).num_tokens == 1);
  CHECK(raw_tokens(DType::kInt64, std::uint64_t{1} << 62U).num_tokens == std::uint64_t{1} << 59U);
  CHECK(refusal_of([] { return raw_tokens(DType::kUInt16, 0); }) == "the file holds no tokens");
  const Error error = error_from([] { return raw_tokens(DType::kUInt32, 4099); });
  CHECK(error.kind() == ErrorKind::kFormat);
  CHECK(error.needed() == "uint32 tokens of 4 bytes");
  CHECK(error.found() == "3 bytes after the last one, in a file of 4099 bytes");
}

TEST_CASE("which dtypes tokens may be of") {
  int count = 0;
  for (int i = 0; i < 22; ++i) count += is_token_dtype(static_cast<DType>(i)) ? 1 : 0;
  CHECK(count == 7);
  for (const DType dtype :
       {DType::kBool, DType::kUInt64, DType::kFloat16, DType::kFloat32, DType::kComplex64})
    CHECK_FALSE(is_token_dtype(dtype));
}

TEST_CASE("llm.c: both headers, and nothing of the data is read") {
  const RecordingSource gpt2(llm_c(20240520, 1, 5, 10));
  TokenLayout layout = llm_c_tokens(gpt2);
  CHECK(layout.dtype == DType::kUInt16);
  CHECK(layout.offset == 1024);
  CHECK(layout.num_tokens == 5);
  CHECK(gpt2.furthest() <= 12);
  layout = read_llm_c(llm_c(20240801, 7, 5, 20));
  CHECK(layout.dtype == DType::kUInt32);
  CHECK(layout.num_tokens == 5);
}

TEST_CASE("llm.c: headers that are not so") {
  const auto refusal = [](const std::string& file) { return refusal_of([&] { return read_llm_c(file); }); };
  CHECK(refusal(llm_c(20240521, 1, 5, 10)) == "this is no file of llm.c's");
  CHECK(refusal(llm_c(20240520, 7, 5, 10)) == "the header is of a version that is not known");
  CHECK(refusal(llm_c(20240801, 1, 5, 20)) == "the header is of a version that is not known");
  for (const std::size_t data_bytes : {std::size_t{0}, std::size_t{9}, std::size_t{11}, std::size_t{20}})
    CHECK(refusal(llm_c(20240520, 1, 5, data_bytes)) == "the file is not as long as its header says");
  CHECK(refusal(llm_c(20240520, 1, 0xFFFFFFFF, 10)) == "the file is not as long as its header says");
  CHECK(refusal(llm_c(20240520, 1, 0, 0)) == "the file holds no tokens");
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{11}})
    CHECK(refusal(llm_c(20240520, 1, 5, 10).substr(0, bytes)) == "the header is cut short");
  for (const std::size_t bytes : {std::size_t{12}, std::size_t{1023}})
    CHECK(refusal(llm_c(20240520, 1, 5, 10).substr(0, bytes)) ==
          "the file is not as long as its header says");
}

TEST_CASE("Megatron: the tokens of all sequences, with modes and without") {
  Index index;
  TokenLayout layout = read_index(index.bytes());
  CHECK(layout.dtype == DType::kUInt16);
  CHECK(layout.offset == 0);
  CHECK(layout.num_tokens == 8);
  index.modes = std::string(3, '\0');
  CHECK(read_index(index.bytes()).num_tokens == 8);
  index = {.code = 4, .lengths = {2}, .pointers = {0}, .documents = {0, 1}};
  layout = read_index(index.bytes());
  CHECK(layout.dtype == DType::kInt32);
  CHECK(layout.num_tokens == 2);
}

TEST_CASE("Megatron: more sequences than are read at once") {
  constexpr std::int64_t kCount = 200'000;
  Index index{.lengths = Numbers(kCount, 3), .pointers = {}, .documents = {0, kCount}};
  for (std::int64_t i = 0; i < kCount; ++i) index.pointers.push_back(i * 6);
  CHECK(read_index(index.bytes()).num_tokens == 3 * kCount);
  index.pointers[150'000] += 2;
  CHECK(refused(index) == "a sequence does not begin where the one before it ends");
}

TEST_CASE("Megatron: an index that is not so") {
  CHECK(refused({.magic = std::string("TNTIDX\0\0\0", 9)}) == "this is no index of Megatron-LM's");
  CHECK(refused({.version = 2}) == "the index is of a version that is not known");
  for (const std::uint64_t code : {0U, 9U, 255U})
    CHECK(refused({.code = code}) == "the index has no such dtype");
  for (const std::uint64_t code : {6U, 7U})
    CHECK(refused({.code = code}) == "its tokens are no whole numbers");
  CHECK(refused({.lengths = {3, -1, 5}}) == "a sequence has a negative length");
  for (const Numbers& pointers : {Numbers{2, 8, 8}, Numbers{0, 0, 6}, Numbers{0, 6, 8}, Numbers{0, 6, -6}})
    CHECK(refused({.pointers = pointers}) == "a sequence does not begin where the one before it ends");
  for (const Numbers& documents : {Numbers{0, 2, 1}, Numbers{0, 4, 3}, Numbers{0, -1, 3}})
    CHECK(refused({.documents = documents}) == "documents are not in order");
  for (const Numbers& documents : {Numbers{}, Numbers{0}, Numbers{0, 2}})
    CHECK(refused({.documents = documents}) == "the last document does not end with the last sequence");
  for (const char* modes : {"x", "xx", "xxxx"})
    CHECK(refused({.modes = modes}) == "the index is not as long as its header says");
}

TEST_CASE("Megatron: counts that would overflow, and any cut") {
  const Index index;
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  for (const std::uint64_t count : {kMost, kMost / 2, kMost / 12, kMost / 8, kMost / 8 + 2})
    for (const auto& file : {index.bytes(count, 3), index.bytes(3, count), index.bytes(count, count)})
      CHECK(refusal_of([&] { return read_index(file); }) == "the index is not as long as its header says");
  const std::string whole = index.bytes();
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes)
    CHECK(refusal_of([&] { return read_index(whole.substr(0, bytes)); }) != "accepted");
}

TEST_CASE("which format a file is of") {
  const auto detected = [](const std::string& file, bool has_index) {
    return detect_tokens(MemorySource(as_bytes(file)), has_index);
  };
  CHECK(detected("ab", false) == TokenFormat::kRaw);
  CHECK(detected("", false) == TokenFormat::kRaw);
  CHECK(detected("abcdefghijkl", true) == TokenFormat::kMegatron);
  CHECK(detected(llm_c(20240520, 1, 1, 2), false) == TokenFormat::kLlmC);
  CHECK(detected(llm_c(20240801, 7, 1, 4), false) == TokenFormat::kLlmC);
  const auto refusal = [&](const std::string& file) {
    return refusal_of([&] { return detected(file, false); });
  };
  CHECK(contains(refusal(Index().bytes()), "index"));
  CHECK(contains(refusal(llm_c(20240522, 1, 1, 2)), "evaluation"));
  CHECK(contains(refusal("\x93NUMPY\x01\x00 and more"), "array"));
  CHECK(contains(refusal("PK\x03\x04 and more"), "archive"));
}

TEST_CASE("any bytes are a layout that ends with the file, or an error") {
  std::mt19937_64 random(3);
  const std::vector<std::string> seeds = {Index().bytes(), llm_c(20240520, 1, 40, 80),
                                          llm_c(20240801, 7, 40, 160)};
  for (int round = 0; round < 30'000; ++round) {
    std::string file = seeds[random() % seeds.size()];
    for (std::uint64_t changes = random() % 4; changes > 0; --changes)
      file[random() % std::min<std::size_t>(file.size(), 90)] = static_cast<char>(random());
    if (random() % 3 == 0) file.resize(random() % (file.size() + 20));
    const MemorySource source(as_bytes(file));
    for (const auto parse : {&llm_c_tokens, &megatron_tokens}) {
      try {
        const TokenLayout layout = parse(source);
        REQUIRE(is_token_dtype(layout.dtype));
        const auto bytes =
            checked_multiply(layout.num_tokens, static_cast<std::uint64_t>(item_bytes(layout.dtype)));
        REQUIRE(bytes.has_value());
        if (parse == &llm_c_tokens) REQUIRE(layout.offset + *bytes == file.size());
      } catch (const Error& error) {
        REQUIRE(error.kind() == ErrorKind::kFormat);
      }
    }
  }
}
