#include "formats/pickle_globals.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/text.h"

namespace penstock {
namespace {

struct KnownGlobal {
  std::string_view module;
  std::string_view name;
  PickleGlobal what;
  PickleLeaf leaf = PickleLeaf::kNone;  ///< that a kLeafType makes
};

constexpr std::array kGlobals = {
    KnownGlobal{"torch._utils", "_rebuild_tensor_v2", PickleGlobal::kRebuildTensorV2},
    KnownGlobal{"torch._utils", "_rebuild_tensor_v3", PickleGlobal::kRebuildTensorV3},
    KnownGlobal{"torch._utils", "_rebuild_parameter", PickleGlobal::kRebuildParameter},
    KnownGlobal{"torch._utils", "_rebuild_parameter_with_state", PickleGlobal::kRebuildParameterWithState},
    KnownGlobal{"torch._tensor", "_rebuild_from_type_v2", PickleGlobal::kRebuildFromType},
    KnownGlobal{"torch", "Tensor", PickleGlobal::kTensorType},
    KnownGlobal{"torch", "Size", PickleGlobal::kSize},
    KnownGlobal{"torch.storage", "UntypedStorage", PickleGlobal::kUntypedStorage},
    KnownGlobal{"collections", "OrderedDict", PickleGlobal::kOrderedDict},
    KnownGlobal{"collections", "Counter", PickleGlobal::kLeafType, PickleLeaf::kCounter},
    KnownGlobal{"torch", "device", PickleGlobal::kLeafType, PickleLeaf::kDevice},
    KnownGlobal{"torch.serialization", "_get_layout", PickleGlobal::kLeafType, PickleLeaf::kLayout},
    KnownGlobal{"_codecs", "encode", PickleGlobal::kLeafType, PickleLeaf::kBytes},
    KnownGlobal{"__builtin__", "set", PickleGlobal::kSetType},
    KnownGlobal{"__builtin__", "frozenset", PickleGlobal::kSetType},
    KnownGlobal{"__builtin__", "bytearray", PickleGlobal::kLeafType, PickleLeaf::kByteArray},
    KnownGlobal{"__builtin__", "complex", PickleGlobal::kLeafType, PickleLeaf::kComplex},
    KnownGlobal{"builtins", "set", PickleGlobal::kSetType},
    KnownGlobal{"builtins", "frozenset", PickleGlobal::kSetType},
    KnownGlobal{"builtins", "bytearray", PickleGlobal::kLeafType, PickleLeaf::kByteArray},
    KnownGlobal{"builtins", "complex", PickleGlobal::kLeafType, PickleLeaf::kComplex},
};

struct StorageClass {
  std::string_view name;
  DType dtype;
};

/// Of module torch.
constexpr std::array kStorageClasses = {
    StorageClass{"FloatStorage", DType::kFloat32},
    StorageClass{"DoubleStorage", DType::kFloat64},
    StorageClass{"HalfStorage", DType::kFloat16},
    StorageClass{"BFloat16Storage", DType::kBFloat16},
    StorageClass{"ByteStorage", DType::kUInt8},
    StorageClass{"CharStorage", DType::kInt8},
    StorageClass{"ShortStorage", DType::kInt16},
    StorageClass{"IntStorage", DType::kInt32},
    StorageClass{"LongStorage", DType::kInt64},
    StorageClass{"BoolStorage", DType::kBool},
    StorageClass{"ComplexFloatStorage", DType::kComplex64},
    StorageClass{"ComplexDoubleStorage", DType::kComplex128},
};

/// Of module torch. Harmless as values in a dict; refused as the dtype of a tensor.
constexpr std::array<std::string_view, 24> kForeignDTypes = {
    "quint8",  "qint8",   "qint32", "quint4x2", "quint2x4", "bits8", "bits16", "bits1x8",
    "bits2x4", "bits4x2", "uint1",  "uint2",    "uint3",    "uint4", "uint5",  "uint6",
    "uint7",   "int1",    "int2",   "int3",     "int4",     "int5",  "int6",   "int7"};

/// What torch saves but a plain tensor cannot hold. An empty name stands for all of a module's, a
/// module that ends in '.' for all under it.
struct RefusedGlobal {
  std::string_view module;
  std::string_view name;
  std::string_view what;
  std::string_view hint;
};

constexpr std::string_view kToDense = "Save tensor.to_dense() instead.";
constexpr std::string_view kDequantize = "Save tensor.dequantize() instead.";
constexpr std::string_view kUnbind = "Save its parts, tensor.unbind(), as a list instead.";
constexpr std::string_view kToCpu = "Save tensor.cpu() instead.";
constexpr std::string_view kNoNumpy =
    "Convert arrays with torch.from_numpy and numbers with .item() before saving.";

constexpr std::array kRefused = {
    RefusedGlobal{"torch._utils", "_rebuild_sparse_tensor", "a sparse tensor", kToDense},
    RefusedGlobal{"torch._utils", "_rebuild_sparse_csr_tensor", "a sparse tensor", kToDense},
    RefusedGlobal{"torch._utils", "_rebuild_qtensor", "a quantized tensor", kDequantize},
    RefusedGlobal{"torch", "QInt8Storage", "a quantized tensor", kDequantize},
    RefusedGlobal{"torch", "QUInt8Storage", "a quantized tensor", kDequantize},
    RefusedGlobal{"torch", "QInt32Storage", "a quantized tensor", kDequantize},
    RefusedGlobal{"torch", "QUInt4x2Storage", "a quantized tensor", kDequantize},
    RefusedGlobal{"torch", "QUInt2x4Storage", "a quantized tensor", kDequantize},
    RefusedGlobal{"torch._utils", "_rebuild_nested_tensor", "a nested tensor", kUnbind},
    RefusedGlobal{"torch.nested.", "", "a nested tensor", kUnbind},
    RefusedGlobal{"torch._utils", "_rebuild_meta_tensor_no_storage", "a meta tensor, which has no elements",
                  "Save a tensor that has elements."},
    RefusedGlobal{"torch._utils", "_rebuild_wrapper_subclass", "a tensor subclass",
                  "Save a plain torch.Tensor instead."},
    RefusedGlobal{"torch._utils", "_rebuild_device_tensor_from_numpy", "a tensor of a special device",
                  kToCpu},
    RefusedGlobal{"torch._utils", "_rebuild_device_tensor_from_cpu_tensor", "a tensor of a special device",
                  kToCpu},
    RefusedGlobal{"numpy", "", "a NumPy array or number", kNoNumpy},
    RefusedGlobal{"numpy.", "", "a NumPy array or number", kNoNumpy},
};

bool refuses(const RefusedGlobal& each, std::string_view module, std::string_view name) {
  const bool in_module = each.module.ends_with('.') ? module.starts_with(each.module) : module == each.module;
  return in_module && (each.name.empty() || name == each.name);
}

Error refused_global(std::string_view module, std::string_view name) {
  const std::string full = quoted_text(std::string(module) + "." + std::string(name));
  for (const RefusedGlobal& each : kRefused) {
    if (!refuses(each, module, name)) continue;
    return format_error("the file holds " + std::string(each.what) + " (" + full + ")")
        .needed("plain torch tensors")
        .hint(std::string(each.hint));
  }
  return format_error("the pickle names " + full + ", which is not data; nothing was executed")
      .needed("tensors in dicts, lists and tuples, beside plain Python values")
      .hint("Save tensors or a state_dict() rather than objects.");
}

PickleValue global_value(PickleGlobal what, std::uint64_t value = 0) {
  return {PickleValue::Kind::kGlobal, static_cast<std::uint32_t>(what), value};
}

/// The classes and dtypes that module torch holds by the dozen.
std::optional<PickleValue> find_element_type(std::string_view name) {
  const auto storage = std::find_if(kStorageClasses.begin(), kStorageClasses.end(),
                                    [&](const StorageClass& each) { return each.name == name; });
  if (storage != kStorageClasses.end()) {
    return global_value(PickleGlobal::kTypedStorage, static_cast<std::uint64_t>(storage->dtype));
  }
  if (const auto dtype = dtype_from_name(name)) {
    return global_value(PickleGlobal::kDType, static_cast<std::uint64_t>(*dtype));
  }
  const auto foreign = std::find(kForeignDTypes.begin(), kForeignDTypes.end(), name);
  if (foreign == kForeignDTypes.end()) return std::nullopt;
  return global_value(PickleGlobal::kForeignDType,
                      static_cast<std::uint64_t>(foreign - kForeignDTypes.begin()));
}

}  // namespace

PickleValue find_pickle_global(std::string_view module, std::string_view name) {
  for (const KnownGlobal& each : kGlobals) {
    if (each.module == module && each.name == name)
      return global_value(each.what, static_cast<std::uint64_t>(each.leaf));
  }
  const auto found = module == "torch" ? find_element_type(name) : std::nullopt;
  if (!found) throw refused_global(module, name);
  return *found;
}

bool is_global(const PickleValue& value, PickleGlobal what) noexcept {
  return value.kind == PickleValue::Kind::kGlobal && value.count == static_cast<std::uint32_t>(what);
}

std::string_view foreign_dtype_name(const PickleValue& value) noexcept { return kForeignDTypes[value.value]; }

}  // namespace penstock
