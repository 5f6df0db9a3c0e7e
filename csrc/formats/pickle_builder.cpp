#include "formats/pickle_builder.h"

#include <string>

#include "base/bytes.h"
#include "base/error.h"
#include "formats/pickle_globals.h"
#include "formats/pickle_reader.h"

namespace penstock {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t kMaxDimensions = 64;

void require_arguments(std::span<const PickleValue> arguments, std::size_t least, std::size_t most) {
  if (arguments.size() >= least && arguments.size() <= most) return;
  throw malformed_pickle("a name is used with " + std::to_string(arguments.size()) + " arguments");
}

std::int64_t non_negative(const PickleValue& value, const char* what) {
  const auto number = static_cast<std::int64_t>(value.value);
  if (value.kind == Kind::kInt && number >= 0) return number;
  throw malformed_pickle(std::string(what) + " of a tensor is no number >= 0")
      .found(value.kind == Kind::kInt ? std::to_string(number) : "no int of 64 bits");
}

PickleValue make_size(std::span<const PickleValue> arguments) {
  require_arguments(arguments, 1, 1);
  if (arguments[0].kind != Kind::kTuple) throw malformed_pickle("a torch.Size is made of what is no tuple");
  return arguments[0];
}

}  // namespace

void PickleBuilder::count_values(std::size_t more) {
  values_ += more;
  if (values_ > kMaxValues) {
    throw format_error("the pickle holds more than 33,554,432 values")
        .hint("Save numbers as tensors rather than as Python lists.");
  }
}

PickleValue PickleBuilder::tuple(std::span<const PickleValue> items) {
  count_values(items.size());
  const std::size_t begin = data_.tuple_items.size();
  data_.tuple_items.insert(data_.tuple_items.end(), items.begin(), items.end());
  return {Kind::kTuple, static_cast<std::uint32_t>(items.size()), begin};
}

PickleValue PickleBuilder::container(Kind kind) {
  count_values(1);
  data_.containers.emplace_back();
  return {kind, 0, data_.containers.size() - 1};
}

void PickleBuilder::extend(const PickleValue& container, std::span<const PickleValue> items) {
  count_values(items.size());
  auto& all = data_.containers[container.value];
  all.insert(all.end(), items.begin(), items.end());
}

PickleValue PickleBuilder::call(const PickleValue& function, const PickleValue& arguments) {
  if (function.kind != Kind::kGlobal || arguments.kind != Kind::kTuple) {
    throw malformed_pickle("it calls what is no name");
  }
  return make(function, data_.items(arguments));
}

PickleValue PickleBuilder::make(const PickleValue& function, std::span<const PickleValue> arguments) {
  switch (static_cast<PickleGlobal>(function.count)) {
    case PickleGlobal::kLeafType: return {Kind::kLeaf, 0, function.value};
    case PickleGlobal::kSetType: return make_set(arguments);
    case PickleGlobal::kOrderedDict: require_arguments(arguments, 0, 0); return container(Kind::kDict);
    case PickleGlobal::kSize: return make_size(arguments);
    case PickleGlobal::kRebuildTensorV2: return rebuild_tensor(arguments, false);
    case PickleGlobal::kRebuildTensorV3: return rebuild_tensor(arguments, true);
    case PickleGlobal::kRebuildParameter:
    case PickleGlobal::kRebuildParameterWithState:
      require_arguments(arguments, 3, 4);
      if (arguments[0].kind != Kind::kTensor)
        throw malformed_pickle("a parameter is made of what is no tensor");
      return arguments[0];
    case PickleGlobal::kRebuildFromType: return rebuild_from_type(arguments);
    case PickleGlobal::kTypedStorage:
    case PickleGlobal::kUntypedStorage:
    case PickleGlobal::kDType:
    case PickleGlobal::kForeignDType:
    case PickleGlobal::kTensorType: break;
  }
  throw malformed_pickle("it calls a type; nothing was executed");
}

/// Holds its argument, in which the items are.
PickleValue PickleBuilder::make_set(std::span<const PickleValue> arguments) {
  require_arguments(arguments, 0, 1);
  const PickleValue made = container(Kind::kSet);
  extend(made, arguments);
  return made;
}

/// Arguments: function, type, its arguments, state.
PickleValue PickleBuilder::rebuild_from_type(std::span<const PickleValue> arguments) {
  require_arguments(arguments, 4, 4);
  if (!is_global(arguments[1], PickleGlobal::kTensorType))
    throw malformed_pickle("a tensor's type is not torch.Tensor");
  if (arguments[0].kind != Kind::kGlobal || arguments[2].kind != Kind::kTuple ||
      is_global(arguments[0], PickleGlobal::kRebuildFromType)) {
    throw malformed_pickle("a tensor with attributes is made of what is no tensor");
  }
  const PickleValue made = make(arguments[0], data_.items(arguments[2]));
  if (made.kind != Kind::kTensor)
    throw malformed_pickle("a tensor with attributes is made of what is no tensor");
  return made;
}

std::vector<std::int64_t> PickleBuilder::dimensions(const PickleValue& tuple) const {
  if (tuple.kind != Kind::kTuple) throw malformed_pickle("the shape or strides of a tensor are no tuple");
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
std::string_view PickleBuilder::lazy_op(const PickleValue& metadata) const {
  if (metadata.kind == Kind::kLeaf) return {};
  if (metadata.kind != Kind::kDict) throw malformed_pickle("the metadata of a tensor is no dict");
  const auto items = data_.items(metadata);
  for (std::size_t i = 0; i < items.size(); i += 2) {
    if (items[i].kind != Kind::kText || items[i].count == 0)
      throw malformed_pickle("a tensor's metadata has no name");
    if (items[i + 1].kind != Kind::kBool || items[i + 1].value != 0) return data_.text(items[i]);
  }
  return {};
}

/// Arguments: storage, offset, shape, strides, requires_grad, hooks[, dtype][, metadata].
PickleValue PickleBuilder::rebuild_tensor(std::span<const PickleValue> arguments, bool says_dtype) {
  const std::size_t least = says_dtype ? 7 : 6;
  require_arguments(arguments, least, least + 1);
  if (arguments[0].kind != Kind::kStorage) throw malformed_pickle("a tensor is made of what is no storage");
  const Storage& viewed = storages_[arguments[0].value];
  if (says_dtype && is_global(arguments[6], PickleGlobal::kForeignDType)) {
    throw format_error("the file holds a tensor of torch." + std::string(foreign_dtype_name(arguments[6])) +
                       ", a dtype that no plain tensor can have");
  }
  if (says_dtype ? !is_global(arguments[6], PickleGlobal::kDType) : !viewed.dtype) {
    throw malformed_pickle("a tensor has no dtype");
  }
  PickledTensor tensor;
  tensor.storage_key = viewed.key;
  tensor.storage_bytes = viewed.bytes;
  tensor.dtype = says_dtype ? static_cast<DType>(arguments[6].value) : *viewed.dtype;
  tensor.offset = non_negative(arguments[1], "the storage offset");
  tensor.shape = dimensions(arguments[2]);
  tensor.strides = dimensions(arguments[3]);
  if (tensor.shape.size() != tensor.strides.size()) {
    throw malformed_pickle("a tensor has " + std::to_string(tensor.shape.size()) + " dimensions but " +
                           std::to_string(tensor.strides.size()) + " strides");
  }
  if (arguments.size() > least) tensor.lazy_op = lazy_op(arguments[least]);
  count_values(8 + 2 * tensor.shape.size());
  data_.tensors.push_back(std::move(tensor));
  return {Kind::kTensor, 0, data_.tensors.size() - 1};
}

PickleValue PickleBuilder::storage(const PickleValue& id) {
  const auto parts = id.kind == Kind::kTuple ? data_.items(id) : std::span<const PickleValue>();
  const bool well_formed = parts.size() == 5 && parts[0].kind == Kind::kText &&
                           data_.text(parts[0]) == "storage" && parts[2].kind == Kind::kText;
  if (!well_formed) throw malformed_pickle("it refers to something outside that is no storage of torch");
  Storage made;
  made.key = data_.text(parts[2]);
  std::uint64_t element_bytes = 1;
  if (is_global(parts[1], PickleGlobal::kTypedStorage)) {
    made.dtype = static_cast<DType>(parts[1].value);
    element_bytes = static_cast<std::uint64_t>(item_bytes(*made.dtype));
  } else if (!is_global(parts[1], PickleGlobal::kUntypedStorage)) {
    throw malformed_pickle("a storage has no storage class");
  }
  const auto elements = static_cast<std::uint64_t>(non_negative(parts[4], "the storage size"));
  const auto bytes = checked_multiply(elements, element_bytes);
  if (!bytes) throw malformed_pickle("a storage is over 2^63 bytes large");
  made.bytes = *bytes;
  count_values(4);
  storages_.push_back(made);
  return {Kind::kStorage, 0, storages_.size() - 1};
}

}  // namespace penstock
