#include "formats/pickle.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>

#include "base/error.h"
#include "formats/py_literal.h"

namespace penstock {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t kMaxStack = 1'000'000;
constexpr std::size_t kMaxMarks = 100'000;
constexpr std::size_t kMaxValues = std::size_t{1} << 25U;  // in all containers, tensors and storages together
constexpr std::size_t kMaxDimensions = 64;
constexpr std::uint8_t kFirstProtocol = 2;
constexpr std::uint8_t kLastProtocol = 5;

// --- opcodes ----------------------------------------------------------------------------------------

enum class Op : std::uint8_t {
  kProto = 0x80,
  kFrame = 0x95,
  kStop = '.',

  kNone = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kBinFloat = 'G',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kBinBytes8 = 0x8e,
  kByteArray8 = 0x96,

  kMark = '(',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,

  kBinPut = 'q',
  kLongBinPut = 'r',
  kMemoize = 0x94,
  kBinGet = 'h',
  kLongBinGet = 'j',

  kGlobal = 'c',
  kStackGlobal = 0x93,
  kReduce = 'R',
  kBuild = 'b',
  kBinPersId = 'Q',
};

// --- names ------------------------------------------------------------------------------------------

/// Everything a name can mean. What is not here does not exist.
enum class Global : std::uint8_t {
  kTypedStorage,  ///< value: its DType
  kUntypedStorage,
  kDType,         ///< value: its DType
  kForeignDType,  ///< one no plain tensor of ours has; value: its place in kForeignDTypes
  kLeafType,      ///< makes something no tensor can be in
  kOrderedDict,
  kSize,
  kTensorType,
  kRebuildTensorV2,
  kRebuildTensorV3,
  kRebuildParameter,
  kRebuildParameterWithState,
  kRebuildFromType,
};

struct KnownGlobal {
  std::string_view module;
  std::string_view name;
  Global what;
};

constexpr std::array kGlobals = {
    KnownGlobal{"torch._utils", "_rebuild_tensor_v2", Global::kRebuildTensorV2},
    KnownGlobal{"torch._utils", "_rebuild_tensor_v3", Global::kRebuildTensorV3},
    KnownGlobal{"torch._utils", "_rebuild_parameter", Global::kRebuildParameter},
    KnownGlobal{"torch._utils", "_rebuild_parameter_with_state", Global::kRebuildParameterWithState},
    KnownGlobal{"torch._tensor", "_rebuild_from_type_v2", Global::kRebuildFromType},
    KnownGlobal{"torch", "Tensor", Global::kTensorType},
    KnownGlobal{"torch", "Size", Global::kSize},
    KnownGlobal{"torch.storage", "UntypedStorage", Global::kUntypedStorage},
    KnownGlobal{"collections", "OrderedDict", Global::kOrderedDict},
    KnownGlobal{"collections", "Counter", Global::kLeafType},
    KnownGlobal{"torch", "device", Global::kLeafType},
    KnownGlobal{"torch.serialization", "_get_layout", Global::kLeafType},
    KnownGlobal{"_codecs", "encode", Global::kLeafType},
    KnownGlobal{"__builtin__", "set", Global::kLeafType},
    KnownGlobal{"__builtin__", "frozenset", Global::kLeafType},
    KnownGlobal{"__builtin__", "bytearray", Global::kLeafType},
    KnownGlobal{"__builtin__", "complex", Global::kLeafType},
    KnownGlobal{"builtins", "set", Global::kLeafType},
    KnownGlobal{"builtins", "frozenset", Global::kLeafType},
    KnownGlobal{"builtins", "bytearray", Global::kLeafType},
    KnownGlobal{"builtins", "complex", Global::kLeafType},
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
  const std::string full = py_quoted(std::string(module) + "." + std::string(name));
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

PickleValue global_value(Global what, std::uint64_t value = 0) {
  return {Kind::kGlobal, static_cast<std::uint32_t>(what), value};
}

/// The classes and dtypes that module torch holds by the dozen.
std::optional<PickleValue> find_element_type(std::string_view name) {
  const auto storage = std::find_if(kStorageClasses.begin(), kStorageClasses.end(),
                                    [&](const StorageClass& each) { return each.name == name; });
  if (storage != kStorageClasses.end()) {
    return global_value(Global::kTypedStorage, static_cast<std::uint64_t>(storage->dtype));
  }
  if (const auto dtype = dtype_from_name(name)) {
    return global_value(Global::kDType, static_cast<std::uint64_t>(*dtype));
  }
  const auto foreign = std::find(kForeignDTypes.begin(), kForeignDTypes.end(), name);
  if (foreign == kForeignDTypes.end()) return std::nullopt;
  return global_value(Global::kForeignDType, static_cast<std::uint64_t>(foreign - kForeignDTypes.begin()));
}

PickleValue find_global(std::string_view module, std::string_view name) {
  for (const KnownGlobal& each : kGlobals) {
    if (each.module == module && each.name == name) return global_value(each.what);
  }
  const auto found = module == "torch" ? find_element_type(name) : std::nullopt;
  if (!found) throw refused_global(module, name);
  return *found;
}

// --- the machine ------------------------------------------------------------------------------------

Error malformed(std::string problem) { return format_error("the pickle is broken: " + std::move(problem)); }

/// The bytes of a pickle, taken from the front. single-owner
class PickleReader {
 public:
  explicit PickleReader(Bytes pickle) : pickle_(pickle) {}

  [[nodiscard]] std::size_t position() const noexcept { return at_; }

  Bytes take(std::uint64_t count) {
    if (!in_bounds(pickle_.size(), at_, count)) {
      throw malformed("it is cut short")
          .needed(std::to_string(count) + " bytes from offset " + std::to_string(at_))
          .found("a pickle of " + std::to_string(pickle_.size()) + " bytes");
    }
    const Bytes taken = pickle_.subspan(at_, count);
    at_ += count;
    return taken;
  }

  template <typename T>
  T number() {
    return load_le<T>(take(sizeof(T)), 0);
  }

  std::string_view line() {
    const std::string_view rest = as_text(pickle_).substr(at_);
    const std::size_t length = rest.find('\n');
    if (length == std::string_view::npos) throw malformed("a name has no end");
    at_ += length + 1;
    return rest.substr(0, length);
  }

 private:
  Bytes pickle_;
  std::size_t at_ = 0;
};

/// Runs the opcodes. single-owner
class Evaluator {
 public:
  explicit Evaluator(Bytes pickle) : reader_(pickle) { data_.pickle = pickle; }

  PickleData run();

 private:
  void run_to_stop();
  void execute(Op op);
  bool push_plain(Op op);
  bool push_text_or_bytes(Op op);
  bool build_tuple(Op op);
  bool build_container(Op op);
  bool use_memo(Op op);
  bool use_name(Op op);

  [[nodiscard]] std::size_t floor() const noexcept { return marks_.empty() ? 0 : marks_.back(); }
  void require_on_stack(std::size_t count) const;
  void push(PickleValue value);
  void push_int(std::int64_t value) { push({Kind::kInt, 0, static_cast<std::uint64_t>(value)}); }
  void push_text(std::uint64_t bytes);
  void push_bytes(std::uint64_t bytes);
  void push_long(std::uint64_t bytes);
  void push_tuple(std::size_t count);
  PickleValue pop();
  PickleValue& top();
  void mark();
  std::size_t pop_mark();
  void count_values(std::size_t more);

  PickleValue new_container(Kind kind);
  void extend(Kind kind, std::size_t count);
  void discard_items();
  void put(std::size_t index);
  void get(std::size_t index);

  void read_protocol();
  void push_stack_global();
  void build();
  void reduce();
  PickleValue call(const PickleValue& function, std::span<const PickleValue> arguments);
  PickleValue make_size(std::span<const PickleValue> arguments);
  PickleValue rebuild_from_type(std::span<const PickleValue> arguments);
  PickleValue rebuild_tensor(std::span<const PickleValue> arguments, bool says_dtype);
  std::vector<std::int64_t> dimensions(const PickleValue& tuple) const;
  std::string_view lazy_op(const PickleValue& metadata) const;
  void push_storage();

  struct Storage {
    std::string_view key;
    std::uint64_t bytes = 0;
    std::optional<DType> dtype;  ///< nothing: untyped
  };

  PickleReader reader_;
  PickleData data_;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;  ///< sizes of the stack
  std::vector<std::optional<PickleValue>> memo_;
  std::size_t memoized_ = 0;
  std::size_t values_ = 0;
  std::vector<Storage> storages_;
};

bool is_global(const PickleValue& value, Global what) {
  return value.kind == Kind::kGlobal && value.count == static_cast<std::uint32_t>(what);
}

void require_arguments(std::span<const PickleValue> arguments, std::size_t least, std::size_t most) {
  if (arguments.size() >= least && arguments.size() <= most) return;
  throw malformed("a name is used with " + std::to_string(arguments.size()) + " arguments");
}

std::int64_t non_negative(const PickleValue& value, const char* what) {
  const auto number = static_cast<std::int64_t>(value.value);
  if (value.kind == Kind::kInt && number >= 0) return number;
  throw malformed(std::string(what) + " of a tensor is no number >= 0")
      .found(value.kind == Kind::kInt ? std::to_string(number) : "no int of 64 bits");
}

// --- stack ------------------------------------------------------------------------------------------

void Evaluator::require_on_stack(std::size_t count) const {
  if (stack_.size() - floor() < count) throw malformed("it takes more from its stack than it put there");
}

void Evaluator::push(PickleValue value) {
  if (stack_.size() == kMaxStack) throw malformed("its stack grows over 1,000,000 values");
  stack_.push_back(value);
}

PickleValue Evaluator::pop() {
  const PickleValue value = top();
  stack_.pop_back();
  return value;
}

PickleValue& Evaluator::top() {
  require_on_stack(1);
  return stack_.back();
}

void Evaluator::mark() {
  if (marks_.size() == kMaxMarks) throw malformed("it opens over 100,000 containers at once");
  marks_.push_back(stack_.size());
}

/// \returns how many values stood above the mark; they stay
std::size_t Evaluator::pop_mark() {
  if (marks_.empty()) throw malformed("it closes a container that it did not open");
  const std::size_t count = stack_.size() - marks_.back();
  marks_.pop_back();
  return count;
}

void Evaluator::count_values(std::size_t more) {
  values_ += more;
  if (values_ > kMaxValues) {
    throw format_error("the pickle holds more than 33,554,432 values")
        .hint("Save numbers as tensors rather than as Python lists.");
  }
}

// --- plain values -----------------------------------------------------------------------------------

void Evaluator::push_text(std::uint64_t bytes) {
  const std::size_t begin = reader_.position();
  reader_.take(bytes);
  if (bytes > std::numeric_limits<std::uint32_t>::max()) throw malformed("a text is over 4 GiB long");
  push({Kind::kText, static_cast<std::uint32_t>(bytes), begin});
}

void Evaluator::push_bytes(std::uint64_t bytes) {
  reader_.take(bytes);
  push({});
}

void Evaluator::push_long(std::uint64_t bytes) {
  const Bytes digits = reader_.take(bytes);
  if (digits.size() > sizeof(std::uint64_t)) return push({});
  const bool negative = !digits.empty() && (digits.back() & std::byte{0x80}) != std::byte{0};
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = digits.size(); i-- > 0;)
    value = (value << 8U) | std::to_integer<std::uint64_t>(digits[i]);
  push_int(static_cast<std::int64_t>(value));
}

bool Evaluator::push_plain(Op op) {
  switch (op) {
    case Op::kNone:
      push({});
      return true;
    case Op::kNewTrue:
    case Op::kNewFalse:
      push({Kind::kBool, 0, op == Op::kNewTrue ? 1U : 0U});
      return true;
    case Op::kBinInt:
      push_int(static_cast<std::int32_t>(reader_.number<std::uint32_t>()));
      return true;
    case Op::kBinInt1:
      push_int(reader_.number<std::uint8_t>());
      return true;
    case Op::kBinInt2:
      push_int(reader_.number<std::uint16_t>());
      return true;
    case Op::kLong1:
      push_long(reader_.number<std::uint8_t>());
      return true;
    case Op::kLong4:
      push_long(reader_.number<std::uint32_t>());
      return true;
    case Op::kBinFloat:
      push_bytes(8);
      return true;
    default:
      return false;
  }
}

bool Evaluator::push_text_or_bytes(Op op) {
  switch (op) {
    case Op::kShortBinString:
    case Op::kShortBinUnicode:
      push_text(reader_.number<std::uint8_t>());
      return true;
    case Op::kBinUnicode:
      push_text(reader_.number<std::uint32_t>());
      return true;
    case Op::kBinUnicode8:
      push_text(reader_.number<std::uint64_t>());
      return true;
    case Op::kShortBinBytes:
      push_bytes(reader_.number<std::uint8_t>());
      return true;
    case Op::kBinBytes:
      push_bytes(reader_.number<std::uint32_t>());
      return true;
    case Op::kBinBytes8:
    case Op::kByteArray8:
      push_bytes(reader_.number<std::uint64_t>());
      return true;
    default:
      return false;
  }
}

// --- containers -------------------------------------------------------------------------------------

void Evaluator::push_tuple(std::size_t count) {
  require_on_stack(count);
  count_values(count);
  const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
  const std::size_t begin = data_.tuple_items.size();
  data_.tuple_items.insert(data_.tuple_items.end(), first, stack_.end());
  stack_.erase(first, stack_.end());
  push({Kind::kTuple, static_cast<std::uint32_t>(count), begin});
}

bool Evaluator::build_tuple(Op op) {
  switch (op) {
    case Op::kMark:
      mark();
      return true;
    case Op::kEmptyTuple:
      push_tuple(0);
      return true;
    case Op::kTuple:
      push_tuple(pop_mark());
      return true;
    case Op::kTuple1:
      push_tuple(1);
      return true;
    case Op::kTuple2:
      push_tuple(2);
      return true;
    case Op::kTuple3:
      push_tuple(3);
      return true;
    default:
      return false;
  }
}

PickleValue Evaluator::new_container(Kind kind) {
  count_values(1);
  data_.containers.emplace_back();
  return {kind, 0, data_.containers.size() - 1};
}

/// Moves the top `count` values into the list or dict below them.
void Evaluator::extend(Kind kind, std::size_t count) {
  require_on_stack(count + 1);
  const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
  const PickleValue& target = *(first - 1);
  if (target.kind != kind) {
    throw malformed(kind == Kind::kList ? "it appends to what is no list"
                                        : "it sets items of what is no dict");
  }
  if (kind == Kind::kDict && count % 2 != 0) throw malformed("it sets a key without a value");
  count_values(count);
  auto& items = data_.containers[target.value];
  items.insert(items.end(), first, stack_.end());
  stack_.erase(first, stack_.end());
}

void Evaluator::discard_items() {
  const std::size_t count = pop_mark();
  stack_.resize(stack_.size() - count);
}

bool Evaluator::build_container(Op op) {
  switch (op) {
    case Op::kEmptyList:
      push(new_container(Kind::kList));
      return true;
    case Op::kEmptyDict:
      push(new_container(Kind::kDict));
      return true;
    case Op::kAppend:
      extend(Kind::kList, 1);
      return true;
    case Op::kAppends:
      extend(Kind::kList, pop_mark());
      return true;
    case Op::kSetItem:
      extend(Kind::kDict, 2);
      return true;
    case Op::kSetItems:
      extend(Kind::kDict, pop_mark());
      return true;
    case Op::kEmptySet:
      push({});
      return true;
    case Op::kAddItems:
      discard_items();
      if (top().kind != Kind::kLeaf) throw malformed("it adds items to what is no set");
      return true;
    case Op::kFrozenSet:
      discard_items();
      push({});
      return true;
    default:
      return false;
  }
}

// --- memo -------------------------------------------------------------------------------------------

void Evaluator::put(std::size_t index) {
  const PickleValue value = top();
  if (index >= std::min(data_.pickle.size(), kMaxValues))
    throw malformed("its memo has more places than it can use");
  if (index >= memo_.size()) memo_.resize(index + 1);
  memoized_ += memo_[index] ? 0U : 1U;
  memo_[index] = value;
}

void Evaluator::get(std::size_t index) {
  if (index >= memo_.size() || !memo_[index]) {
    throw malformed("it refers back to value " + std::to_string(index) + ", which is not there");
  }
  push(*memo_[index]);
}

bool Evaluator::use_memo(Op op) {
  switch (op) {
    case Op::kBinPut:
      put(reader_.number<std::uint8_t>());
      return true;
    case Op::kLongBinPut:
      put(reader_.number<std::uint32_t>());
      return true;
    case Op::kMemoize:
      put(memoized_);
      return true;
    case Op::kBinGet:
      get(reader_.number<std::uint8_t>());
      return true;
    case Op::kLongBinGet:
      get(reader_.number<std::uint32_t>());
      return true;
    default:
      return false;
  }
}

// --- names and what they make -----------------------------------------------------------------------

bool Evaluator::use_name(Op op) {
  switch (op) {
    case Op::kGlobal: {
      const std::string_view module = reader_.line();
      push(find_global(module, reader_.line()));
      return true;
    }
    case Op::kStackGlobal:
      push_stack_global();
      return true;
    case Op::kReduce:
      reduce();
      return true;
    case Op::kBuild:
      build();
      return true;
    case Op::kBinPersId:
      push_storage();
      return true;
    default:
      return false;
  }
}

void Evaluator::push_stack_global() {
  const PickleValue name = pop();
  const PickleValue module = pop();
  if (name.kind != Kind::kText || module.kind != Kind::kText) throw malformed("a name is no text");
  push(find_global(data_.text(module), data_.text(name)));
}

/// Only a state_dict's `_metadata` and the like come this way, and they hold no items.
void Evaluator::build() {
  pop();
  if (top().kind != Kind::kDict)
    throw malformed("it sets attributes of what is no dict; nothing was executed");
}

void Evaluator::reduce() {
  const PickleValue arguments = pop();
  const PickleValue function = pop();
  if (function.kind != Kind::kGlobal || arguments.kind != Kind::kTuple) {
    throw malformed("it calls what is no name");
  }
  push(call(function, data_.items(arguments)));
}

PickleValue Evaluator::call(const PickleValue& function, std::span<const PickleValue> arguments) {
  switch (static_cast<Global>(function.count)) {
    case Global::kLeafType:
      return {};
    case Global::kOrderedDict:
      require_arguments(arguments, 0, 0);
      return new_container(Kind::kDict);
    case Global::kSize:
      return make_size(arguments);
    case Global::kRebuildTensorV2:
      return rebuild_tensor(arguments, false);
    case Global::kRebuildTensorV3:
      return rebuild_tensor(arguments, true);
    case Global::kRebuildParameter:
    case Global::kRebuildParameterWithState:
      require_arguments(arguments, 3, 4);
      if (arguments[0].kind != Kind::kTensor) throw malformed("a parameter is made of what is no tensor");
      return arguments[0];
    case Global::kRebuildFromType:
      return rebuild_from_type(arguments);
    case Global::kTypedStorage:
    case Global::kUntypedStorage:
    case Global::kDType:
    case Global::kForeignDType:
    case Global::kTensorType:
      break;
  }
  throw malformed("it calls a type; nothing was executed");
}

PickleValue Evaluator::make_size(std::span<const PickleValue> arguments) {
  require_arguments(arguments, 1, 1);
  if (arguments[0].kind != Kind::kTuple) throw malformed("a torch.Size is made of what is no tuple");
  return arguments[0];
}

/// Arguments: function, type, its arguments, state.
PickleValue Evaluator::rebuild_from_type(std::span<const PickleValue> arguments) {
  require_arguments(arguments, 4, 4);
  if (!is_global(arguments[1], Global::kTensorType)) throw malformed("a tensor's type is not torch.Tensor");
  if (arguments[0].kind != Kind::kGlobal || arguments[2].kind != Kind::kTuple ||
      is_global(arguments[0], Global::kRebuildFromType)) {
    throw malformed("a tensor with attributes is made of what is no tensor");
  }
  const PickleValue made = call(arguments[0], data_.items(arguments[2]));
  if (made.kind != Kind::kTensor) throw malformed("a tensor with attributes is made of what is no tensor");
  return made;
}

std::vector<std::int64_t> Evaluator::dimensions(const PickleValue& tuple) const {
  if (tuple.kind != Kind::kTuple) throw malformed("the shape or strides of a tensor are no tuple");
  if (tuple.count > kMaxDimensions) {
    throw format_error("a tensor has too many dimensions")
        .needed("at most " + std::to_string(kMaxDimensions))
        .found(std::to_string(tuple.count));
  }
  std::vector<std::int64_t> numbers;
  numbers.reserve(tuple.count);
  for (const PickleValue& each : data_.items(tuple)) {
    numbers.push_back(non_negative(each, "a dimension or stride"));
  }
  return numbers;
}

/// The flag that is set among {'conj': bool, 'neg': bool}, or any other that is not known to be unset.
std::string_view Evaluator::lazy_op(const PickleValue& metadata) const {
  if (metadata.kind == Kind::kLeaf) return {};
  if (metadata.kind != Kind::kDict) throw malformed("the metadata of a tensor is no dict");
  const auto items = data_.items(metadata);
  for (std::size_t i = 0; i < items.size(); i += 2) {
    if (items[i].kind != Kind::kText || items[i].count == 0)
      throw malformed("a tensor's metadata has no name");
    if (items[i + 1].kind != Kind::kBool || items[i + 1].value != 0) return data_.text(items[i]);
  }
  return {};
}

/// Arguments: storage, offset, shape, strides, requires_grad, hooks[, dtype][, metadata].
PickleValue Evaluator::rebuild_tensor(std::span<const PickleValue> arguments, bool says_dtype) {
  const std::size_t least = says_dtype ? 7 : 6;
  require_arguments(arguments, least, least + 1);
  if (arguments[0].kind != Kind::kStorage) throw malformed("a tensor is made of what is no storage");
  const Storage& storage = storages_[arguments[0].value];
  if (says_dtype && is_global(arguments[6], Global::kForeignDType)) {
    throw format_error("the file holds a tensor of torch." + std::string(kForeignDTypes[arguments[6].value]) +
                       ", a dtype that no plain tensor can have");
  }
  if (says_dtype ? !is_global(arguments[6], Global::kDType) : !storage.dtype) {
    throw malformed("a tensor has no dtype");
  }
  PickledTensor tensor;
  tensor.storage_key = storage.key;
  tensor.storage_bytes = storage.bytes;
  tensor.dtype = says_dtype ? static_cast<DType>(arguments[6].value) : *storage.dtype;
  tensor.offset = non_negative(arguments[1], "the storage offset");
  tensor.shape = dimensions(arguments[2]);
  tensor.strides = dimensions(arguments[3]);
  if (tensor.shape.size() != tensor.strides.size()) {
    throw malformed("a tensor has " + std::to_string(tensor.shape.size()) + " dimensions but " +
                    std::to_string(tensor.strides.size()) + " strides");
  }
  if (arguments.size() > least) tensor.lazy_op = lazy_op(arguments[least]);
  count_values(4 + 2 * tensor.shape.size());
  data_.tensors.push_back(std::move(tensor));
  return {Kind::kTensor, 0, data_.tensors.size() - 1};
}

/// The id of a storage: ('storage', class, key, location, number of elements).
void Evaluator::push_storage() {
  const PickleValue id = pop();
  const auto parts = id.kind == Kind::kTuple ? data_.items(id) : std::span<const PickleValue>();
  const bool well_formed = parts.size() == 5 && parts[0].kind == Kind::kText &&
                           data_.text(parts[0]) == "storage" && parts[2].kind == Kind::kText;
  if (!well_formed) throw malformed("it refers to something outside that is no storage of torch");
  Storage storage;
  storage.key = data_.text(parts[2]);
  std::uint64_t element_bytes = 1;
  if (is_global(parts[1], Global::kTypedStorage)) {
    storage.dtype = static_cast<DType>(parts[1].value);
    element_bytes = static_cast<std::uint64_t>(item_bytes(*storage.dtype));
  } else if (!is_global(parts[1], Global::kUntypedStorage)) {
    throw malformed("a storage has no storage class");
  }
  const auto elements = static_cast<std::uint64_t>(non_negative(parts[4], "the storage size"));
  const auto bytes = checked_multiply(elements, element_bytes);
  if (!bytes) throw malformed("a storage is over 2^63 bytes large");
  storage.bytes = *bytes;
  count_values(2);
  storages_.push_back(storage);
  push({Kind::kStorage, 0, storages_.size() - 1});
}

// --- running ----------------------------------------------------------------------------------------

void Evaluator::read_protocol() {
  const auto protocol = reader_.number<std::uint8_t>();
  if (protocol >= kFirstProtocol && protocol <= kLastProtocol) return;
  throw malformed("its protocol is unknown").needed("2 to 5").found(std::to_string(protocol));
}

void Evaluator::execute(Op op) {
  if (push_plain(op) || push_text_or_bytes(op) || use_memo(op) || build_tuple(op) || build_container(op) ||
      use_name(op)) {
    return;
  }
  if (op == Op::kProto) return read_protocol();
  if (op == Op::kFrame) {
    reader_.take(sizeof(std::uint64_t));
    return;
  }
  throw malformed("opcode " + std::to_string(static_cast<unsigned>(op)) + " is none of those data needs");
}

void Evaluator::run_to_stop() {
  while (true) {
    const std::size_t begin = reader_.position();
    try {
      const auto op = static_cast<Op>(reader_.number<std::uint8_t>());
      if (begin == 0 && op != Op::kProto) throw malformed("it does not begin with a protocol");
      if (op == Op::kStop) return;
      execute(op);
    } catch (Error& error) {
      error.at_offset(begin);
      throw;
    }
  }
}

PickleData Evaluator::run() {
  run_to_stop();
  if (stack_.size() != 1 || !marks_.empty()) throw malformed("it does not end with one value");
  data_.root = stack_.back();
  return std::move(data_);
}

}  // namespace

std::string_view PickleData::text(const PickleValue& value) const noexcept {
  return as_text(pickle.subspan(value.value, value.count));
}

std::span<const PickleValue> PickleData::items(const PickleValue& value) const noexcept {
  if (value.kind == PickleValue::Kind::kTuple)
    return std::span(tuple_items).subspan(value.value, value.count);
  return containers[value.value];
}

PickleData evaluate_pickle(Bytes pickle) { return Evaluator(pickle).run(); }

}  // namespace penstock
