#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "assemble/batch_buffer.h"

namespace penstock {
namespace {

TEST_CASE("memory that was given back is used again, and never while it is held") {
  constexpr std::size_t kBytes = 3'000'000;
  std::byte* first = nullptr;
  {
    const BatchBuffer buffer(kBytes);
    first = buffer.data();
    std::memset(buffer.data(), 1, kBytes);
  }
  const BatchBuffer again(kBytes);
  CHECK(again.data() == first);
  const BatchBuffer another(kBytes);
  CHECK(another.data() != first);
}

TEST_CASE("buffers of all sizes are aligned, distinct and writable to the end") {
  std::vector<BatchBuffer> held;
  std::set<std::byte*> addresses;
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{65535}, std::size_t{65536},
        std::size_t{2'097'151}, std::size_t{2'097'152}, std::size_t{38'535'168}}) {
    held.emplace_back(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(held.back().data()) % 64 == 0);
    std::memset(held.back().data(), 0xCD, bytes);
    CHECK(addresses.insert(held.back().data()).second);
  }
}

TEST_CASE("what is kept has a bound") {
  {
    std::vector<BatchBuffer> held;
    for (int i = 0; i < 40; ++i) held.emplace_back(std::size_t{16} << 20U);
  }
  CHECK(recycled_bytes() <= (std::size_t{256} << 20U));
}

constexpr std::size_t kKeptAtLeast = std::size_t{256} << 20U;

TEST_CASE("a large batch that is not asked for again does not stay") {
  for (const std::size_t bytes : {std::size_t{1} << 20U, std::size_t{100}}) {
    {
      const BatchBuffer large(std::size_t{700} << 20U);
    }
    CHECK(recycled_bytes() >= (std::size_t{700} << 20U));
    for (int i = 0; i < 200; ++i) const BatchBuffer small(bytes);
    CHECK(recycled_bytes() <= kKeptAtLeast);
  }
}

TEST_CASE("a large batch that comes now and then is recycled") {
  {
    const BatchBuffer large(std::size_t{700} << 20U);
  }
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 50; ++i) const BatchBuffer small(std::size_t{1} << 20U);
    const std::size_t kept = recycled_bytes();
    const BatchBuffer large(std::size_t{700} << 20U);
    CHECK(recycled_bytes() + (std::size_t{700} << 20U) <= kept);
  }
}

TEST_CASE("buffers of sizes that are not asked for any more make room for those that are") {
  {
    std::vector<BatchBuffer> stale;
    for (int i = 0; i < 4; ++i) stale.emplace_back(std::size_t{100} << 20U);
  }
  constexpr std::size_t kBytes = std::size_t{60} << 20U;
  for (int round = 0; round < 3; ++round) {
    BatchBuffer buffer(kBytes);
    CHECK((buffer.data()[kBytes - 1] == std::byte{1}) == (round > 0));  // fresh memory is zero
    buffer.data()[kBytes - 1] = std::byte{1};
  }
}

TEST_CASE("the best size is taken, and of one size the one that came back last") {
  constexpr std::size_t kUnit = std::size_t{2} << 20U;
  std::vector<BatchBuffer> busy;  // no other is left that would do
  for (int i = 0; i < 100; ++i) busy.emplace_back(20 * kUnit);
  std::vector<BatchBuffer> held;
  for (const std::size_t units : std::vector<std::size_t>{24, 21, 22, 21, 23})
    held.emplace_back(units * kUnit);
  const std::byte* const best = held[3].data();
  held.clear();
  const BatchBuffer taken(20 * kUnit);
  CHECK(taken.data() == best);
}

TEST_CASE("threads may take and give back at once") {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread] {
      for (std::size_t i = 1; i < 300; ++i) {
        const std::size_t bytes = i * 3333;
        const BatchBuffer buffer(bytes);
        std::memset(buffer.data(), thread, bytes);
        CHECK(buffer.data()[bytes - 1] == static_cast<std::byte>(thread));
      }
    });
  }
  for (auto& each : threads) each.join();
}

}  // namespace
}  // namespace penstock
