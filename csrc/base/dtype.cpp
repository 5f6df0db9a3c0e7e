#include "base/dtype.h"

#include <array>
#include <cstddef>

namespace penstock {
namespace {

struct Traits {
  DType dtype;
  std::string_view name;
  std::int64_t item_bytes;
  std::int64_t swap_bytes;
};

constexpr std::array kTraits = {
    Traits{DType::kBool, "bool", 1, 1},
    Traits{DType::kUInt8, "uint8", 1, 1},
    Traits{DType::kInt8, "int8", 1, 1},
    Traits{DType::kUInt16, "uint16", 2, 2},
    Traits{DType::kInt16, "int16", 2, 2},
    Traits{DType::kUInt32, "uint32", 4, 4},
    Traits{DType::kInt32, "int32", 4, 4},
    Traits{DType::kUInt64, "uint64", 8, 8},
    Traits{DType::kInt64, "int64", 8, 8},
    Traits{DType::kFloat16, "float16", 2, 2},
    Traits{DType::kBFloat16, "bfloat16", 2, 2},
    Traits{DType::kFloat32, "float32", 4, 4},
    Traits{DType::kFloat64, "float64", 8, 8},
    Traits{DType::kComplex32, "complex32", 4, 2},
    Traits{DType::kComplex64, "complex64", 8, 4},
    Traits{DType::kComplex128, "complex128", 16, 8},
    Traits{DType::kFloat8E4M3FN, "float8_e4m3fn", 1, 1},
    Traits{DType::kFloat8E5M2, "float8_e5m2", 1, 1},
    Traits{DType::kFloat8E4M3FNUZ, "float8_e4m3fnuz", 1, 1},
    Traits{DType::kFloat8E5M2FNUZ, "float8_e5m2fnuz", 1, 1},
    Traits{DType::kFloat8E8M0FNU, "float8_e8m0fnu", 1, 1},
    Traits{DType::kFloat4E2M1FNx2, "float4_e2m1fn_x2", 1, 1},
};

constexpr bool in_enum_order() {
  for (std::size_t i = 0; i < kTraits.size(); ++i) {
    if (static_cast<std::size_t>(kTraits[i].dtype) != i) return false;
  }
  return true;
}
static_assert(in_enum_order());

const Traits& traits(DType dtype) noexcept { return kTraits[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::int64_t item_bytes(DType dtype) noexcept { return traits(dtype).item_bytes; }

std::int64_t swap_bytes(DType dtype) noexcept { return traits(dtype).swap_bytes; }

std::string_view dtype_name(DType dtype) noexcept { return traits(dtype).name; }

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const Traits& each : kTraits) {
    if (each.name == name) return each.dtype;
  }
  return std::nullopt;
}

}  // namespace penstock
