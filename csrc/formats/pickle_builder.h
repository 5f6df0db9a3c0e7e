#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/pickle.h"

namespace penstock {

/// Makes the values of a PickleData that do not fit in a PickleValue, and counts them.
///
/// It is where a pickle's "calls" end. None of them calls anything: each is a constant of the closed
/// table, and makes one of the values that PickleValue lists. single-owner
class PickleBuilder {
 public:
  /// In all containers, tensors and storages together.
  static constexpr std::size_t kMaxValues = std::size_t{1} << 25U;

  explicit PickleBuilder(Bytes pickle) { data_.pickle = pickle; }

  [[nodiscard]] const PickleData& data() const noexcept { return data_; }

  /// \throws Error kFormat when it takes more values than a pickle may hold, as all that make some
  [[nodiscard]] PickleValue tuple(std::span<const PickleValue> items);
  [[nodiscard]] PickleValue container(PickleValue::Kind kind);

  /// Appends to a list, set or dict.
  void extend(const PickleValue& container, std::span<const PickleValue> items);

  /// What `function(*arguments)` is; `function` and `arguments` may be any values.
  ///
  /// \throws Error kFormat when that is none of the values we know
  [[nodiscard]] PickleValue call(const PickleValue& function, const PickleValue& arguments);

  /// The storage of a persistent id: ('storage', class, key, location, number of elements).
  ///
  /// \throws Error kFormat when `id` is anything else
  [[nodiscard]] PickleValue storage(const PickleValue& id);

  /// Ends it. \pre `root` was made by this builder
  [[nodiscard]] PickleData finish(const PickleValue& root) {
    data_.root = root;
    return std::move(data_);
  }

 private:
  struct Storage {
    std::string_view key;
    std::uint64_t bytes = 0;
    std::optional<DType> dtype;  ///< nothing: untyped
  };

  void count_values(std::size_t more);
  PickleValue make(const PickleValue& function, std::span<const PickleValue> arguments);
  PickleValue make_set(std::span<const PickleValue> arguments);
  [[nodiscard]] PickleValue rebuild_from_type(std::span<const PickleValue> arguments);
  PickleValue rebuild_tensor(std::span<const PickleValue> arguments, bool says_dtype);
  [[nodiscard]] std::vector<std::int64_t> dimensions(const PickleValue& tuple) const;
  [[nodiscard]] std::string_view lazy_op(const PickleValue& metadata) const;

  PickleData data_;
  std::vector<Storage> storages_;
  std::size_t values_ = 0;
};

}  // namespace penstock
