#include "base/checksum.h"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <vector>

namespace penstock {
namespace {

using Buffer = std::vector<std::byte>;

Buffer some_bytes(std::size_t count, std::uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  Buffer bytes(count);
  for (auto& each : bytes) each = static_cast<std::byte>(random());
  return bytes;
}

TEST_CASE("the same bytes have the same sum, wherever they lie in memory") {
  const Buffer bytes = some_bytes(1000);
  const std::uint64_t sum = checksum(bytes);
  CHECK(checksum(Buffer(bytes)) == sum);
  for (std::size_t shift = 1; shift < 9; ++shift) {
    Buffer moved(shift + bytes.size());
    std::memcpy(moved.data() + shift, bytes.data(), bytes.size());
    CHECK(checksum(Bytes(moved).subspan(shift)) == sum);
  }
}

TEST_CASE("every beginning of some bytes has a sum of its own") {
  std::set<std::uint64_t> sums;
  const Buffer bytes = some_bytes(300);
  for (std::size_t size = 0; size <= 300; ++size) sums.insert(checksum(Bytes(bytes).first(size)));
  CHECK(sums.size() == 301);
}

TEST_CASE("zeros of every length differ") {
  std::set<std::uint64_t> sums;
  const Buffer zeros(300);
  for (std::size_t size = 1; size <= 300; ++size) sums.insert(checksum(Bytes(zeros).first(size)));
  CHECK(sums.size() == 300);
}

TEST_CASE("one zero is not nothing") {
  const Buffer zero(1);
  CHECK(checksum(zero) != checksum(Bytes()));
}

TEST_CASE("any other value of any byte is found, in whole steps and in what is left") {
  for (const std::size_t size : std::vector<std::size_t>{1, 7, 8, 31, 32, 33, 64, 95, 96, 104}) {
    Buffer bytes = some_bytes(size, size);
    const std::uint64_t sum = checksum(bytes);
    int found = 0;
    for (std::size_t at = 0; at < size; ++at) {
      for (unsigned value = 1; value < 256; ++value) {
        bytes[at] ^= static_cast<std::byte>(value);
        found += checksum(bytes) != sum ? 1 : 0;
        bytes[at] ^= static_cast<std::byte>(value);
      }
    }
    CHECK(found == static_cast<int>(size) * 255);
  }
}

TEST_CASE("damage of up to eight bytes in a row is found, wherever it begins, at random") {
  std::mt19937_64 random(7);
  Buffer bytes = some_bytes(256 + 19);
  const std::uint64_t sum = checksum(bytes);
  for (int round = 0; round < 50'000; ++round) {
    const std::size_t length = 1 + random() % 8;
    const std::size_t at = random() % (bytes.size() - length + 1);
    std::array<std::byte, 8> before{};
    std::memcpy(before.data(), bytes.data() + at, length);
    const std::uint64_t damage = random();
    std::memcpy(bytes.data() + at, &damage, length);
    const bool same = std::memcmp(before.data(), bytes.data() + at, length) == 0;
    REQUIRE((checksum(bytes) == sum) == same);
    std::memcpy(bytes.data() + at, before.data(), length);
  }
}

TEST_CASE("words that change places are found") {
  const Buffer bytes = some_bytes(128);
  for (std::size_t a = 0; a < 128; a += 8) {
    for (std::size_t b = a + 8; b < 128; b += 8) {
      Buffer swapped = bytes;
      std::memcpy(swapped.data() + a, bytes.data() + b, 8);
      std::memcpy(swapped.data() + b, bytes.data() + a, 8);
      REQUIRE(checksum(swapped) != checksum(bytes));
    }
  }
}

}  // namespace
}  // namespace penstock
