#include <cstring>
#include <utility>

#include "storage/storage.h"

namespace penstock {
namespace {

class MemoryStorage final : public Storage {
 public:
  MemoryStorage(std::span<const std::byte> bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}

  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept override { return bytes_.size(); }
  [[nodiscard]] const std::byte* data() override { return bytes_.data(); }
  void read(std::uint64_t offset, std::span<std::byte> out) override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
  }
  void advise(AccessPattern) const noexcept override {}
  void will_need(std::uint64_t, std::uint64_t) const noexcept override {}
  void will_not_need(std::uint64_t, std::uint64_t, AccessPattern) const noexcept override {}
  void check() const override {}

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
};

}  // namespace

std::shared_ptr<Storage> memory_storage(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  return std::make_shared<MemoryStorage>(bytes, std::move(owner));
}

}  // namespace penstock
