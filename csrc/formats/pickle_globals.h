#pragma once

#include <cstdint>
#include <string_view>

#include "formats/pickle.h"

namespace penstock {

/// Everything a name in a pickle can mean. What is not here does not exist.
enum class PickleGlobal : std::uint8_t {
  kTypedStorage,  ///< value: its DType
  kUntypedStorage,
  kDType,         ///< value: its DType
  kForeignDType,  ///< one no plain tensor of ours has; value: which, for foreign_dtype_name
  kLeafType,      ///< makes something no tensor can be in; value: which PickleLeaf
  kSetType,
  kOrderedDict,
  kSize,
  kTensorType,
  kRebuildTensorV2,
  kRebuildTensorV3,
  kRebuildParameter,
  kRebuildParameterWithState,
  kRebuildFromType,
};

/// Looks `module.name` up in a closed table. Nothing is imported.
///
/// \returns a kGlobal: `count` is the PickleGlobal, `value` as said there
/// \throws Error kFormat, with the name, for any that is not in the table
[[nodiscard]] PickleValue find_pickle_global(std::string_view module, std::string_view name);

[[nodiscard]] bool is_global(const PickleValue& value, PickleGlobal what) noexcept;

/// "bits8". \pre `value` is what find_pickle_global gave for a kForeignDType
[[nodiscard]] std::string_view foreign_dtype_name(const PickleValue& value) noexcept;

}  // namespace penstock
