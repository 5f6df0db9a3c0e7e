#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/dtype.h"

namespace penstock {

/// Which leaf a value is.
enum class PickleLeaf : std::uint8_t {
  kNone,
  kFloat,
  kLongInt,
  kBytes,
  kByteArray,
  kComplex,
  kCounter,
  kDevice,
  kLayout,
};

/// One value of a pickle. What does not fit lies in the PickleData it came with.
struct PickleValue {
  enum class Kind : std::uint8_t {
    kLeaf,  ///< None, a float, bytes, a device, ...: passed over; `value`: which PickleLeaf
    kBool,
    kInt,  ///< one that fits in 64 bits; longer ones are leaves
    kText,
    kTuple,
    kList,
    kDict,
    kSet,      ///< items in no order; of one made by a call, what it was made of
    kGlobal,   ///< a name of the evaluator's table
    kStorage,  ///< a record that tensors view
    kTensor,
  };

  Kind kind = Kind::kLeaf;
  std::uint32_t count = 0;  ///< bytes of a text, items of a tuple, which global
  std::uint64_t value = 0;  ///< the number itself, or where the rest lies
};

/// What Python calls the type of a value: "int", "list", "NoneType".
[[nodiscard]] std::string_view type_name(const PickleValue& value) noexcept;

/// One tensor as a pickle describes it. Nothing is checked against the archive yet.
struct PickledTensor {
  std::string_view storage_key;     ///< K of the record data/K; lies in the pickle
  std::uint64_t storage_bytes = 0;  ///< what that record must have
  DType dtype = DType::kUInt8;
  std::int64_t offset = 0;            ///< in elements, >= 0
  std::vector<std::int64_t> shape;    ///< >= 0
  std::vector<std::int64_t> strides;  ///< in elements, >= 0, one per dimension
  std::string_view lazy_op;           ///< "conj" or "neg" when its elements are not those stored; else empty
};

/// What a pickle holds. Texts point into the pickle's bytes, which must outlive it.
///
/// Lists, sets and dicts may contain themselves: whoever walks them must look out.
///
/// thread-compatible
struct PickleData {
  Bytes pickle;
  PickleValue root;
  std::vector<PickleValue> tuple_items;
  std::vector<std::vector<PickleValue>> containers;  ///< lists, sets, and dicts as key, value, key, ...
  std::vector<PickledTensor> tensors;

  /// \pre `value` is a text
  [[nodiscard]] std::string_view text(const PickleValue& value) const noexcept;

  /// The items of a tuple, list or set, or the keys and values of a dict in turn.
  ///
  /// \pre `value` is one of them
  [[nodiscard]] std::span<const PickleValue> items(const PickleValue& value) const noexcept;
};

/// Evaluates the pickle of a `torch.save` archive as data: protocols 2 to 5, without ever importing,
/// calling or building anything but the values above.
///
/// A name (`module.name`) means something only if it stands in a closed table, and then it means a
/// constant of this evaluator. Memory is bounded by a multiple of the pickle's size, the stack by
/// 1,000,000 values, a tensor by 64 dimensions.
///
/// \throws Error kFormat, with the offset inside the pickle, for names outside the table (giving the
///         name), constructs torch has but a plain tensor cannot hold, and anything malformed
[[nodiscard]] PickleData evaluate_pickle(Bytes pickle);

}  // namespace penstock
