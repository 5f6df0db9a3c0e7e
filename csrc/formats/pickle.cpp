#include "formats/pickle.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/text.h"
#include "formats/pickle_builder.h"
#include "formats/pickle_globals.h"
#include "formats/pickle_reader.h"

namespace penstock {
namespace {

using Kind = PickleValue::Kind;
using Op = PickleOp;

constexpr std::size_t kMaxStack = 1'000'000;
constexpr std::size_t kMaxMarks = 100'000;
constexpr std::uint8_t kFirstProtocol = 2;
constexpr std::uint8_t kLastProtocol = 5;

/// Runs the opcodes. single-owner
class Evaluator {
 public:
  explicit Evaluator(Bytes pickle) : reader_(pickle), builder_(pickle) {}

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
  void push_leaf(PickleLeaf leaf) { push({Kind::kLeaf, 0, static_cast<std::uint64_t>(leaf)}); }
  void push_passed(std::uint64_t bytes, PickleLeaf leaf);
  void push_long(std::uint64_t bytes);
  [[nodiscard]] std::span<const PickleValue> top_values(std::size_t count) const;
  void drop(std::size_t count);
  void push_tuple(std::size_t count);
  PickleValue pop();
  PickleValue& top();
  void mark();
  std::size_t pop_mark();

  void extend(Kind kind, std::size_t count);
  void push_frozen_set(std::size_t count);
  void put(std::size_t index);
  void get(std::size_t index);

  void read_protocol();
  void push_stack_global();
  void build();
  void reduce();

  PickleReader reader_;
  PickleBuilder builder_;
  std::vector<PickleValue> stack_;
  std::vector<std::size_t> marks_;  ///< sizes of the stack
  std::vector<std::optional<PickleValue>> memo_;
  std::size_t memoized_ = 0;
};

std::string_view misplaced_items(Kind container) {
  if (container == Kind::kList) return "it appends to what is no list";
  return container == Kind::kDict ? "it sets items of what is no dict" : "it adds items to what is no set";
}

// --- stack ------------------------------------------------------------------------------------------

void Evaluator::require_on_stack(std::size_t count) const {
  if (stack_.size() - floor() < count)
    throw malformed_pickle("it takes more from its stack than it put there");
}

void Evaluator::push(PickleValue value) {
  if (stack_.size() == kMaxStack) throw malformed_pickle("its stack grows over 1,000,000 values");
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
  if (marks_.size() == kMaxMarks) throw malformed_pickle("it opens over 100,000 containers at once");
  marks_.push_back(stack_.size());
}

/// \returns how many values stood above the mark; they stay
std::size_t Evaluator::pop_mark() {
  if (marks_.empty()) throw malformed_pickle("it closes a container that it did not open");
  const std::size_t count = stack_.size() - marks_.back();
  marks_.pop_back();
  return count;
}

// --- plain values -----------------------------------------------------------------------------------

void Evaluator::push_text(std::uint64_t bytes) {
  const std::size_t begin = reader_.position();
  const Bytes text = reader_.take(bytes);
  if (bytes > std::numeric_limits<std::uint32_t>::max()) throw malformed_pickle("a text is over 4 GiB long");
  if (!is_utf8(as_text(text))) throw malformed_pickle("a text is not UTF-8");
  push({Kind::kText, static_cast<std::uint32_t>(bytes), begin});
}

/// A leaf whose bytes are passed over.
void Evaluator::push_passed(std::uint64_t bytes, PickleLeaf leaf) {
  reader_.take(bytes);
  push_leaf(leaf);
}

void Evaluator::push_long(std::uint64_t bytes) {
  const Bytes digits = reader_.take(bytes);
  if (digits.size() > sizeof(std::uint64_t)) return push_leaf(PickleLeaf::kLongInt);
  const bool negative = !digits.empty() && (digits.back() & std::byte{0x80}) != std::byte{0};
  std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
  for (std::size_t i = digits.size(); i-- > 0;)
    value = (value << 8U) | std::to_integer<std::uint64_t>(digits[i]);
  push_int(static_cast<std::int64_t>(value));
}

bool Evaluator::push_plain(Op op) {
  switch (op) {
    case Op::kNone: push_leaf(PickleLeaf::kNone); return true;
    case Op::kNewTrue:
    case Op::kNewFalse: push({Kind::kBool, 0, op == Op::kNewTrue ? 1U : 0U}); return true;
    case Op::kBinInt: push_int(static_cast<std::int32_t>(reader_.number<std::uint32_t>())); return true;
    case Op::kBinInt1: push_int(reader_.number<std::uint8_t>()); return true;
    case Op::kBinInt2: push_int(reader_.number<std::uint16_t>()); return true;
    case Op::kLong1: push_long(reader_.number<std::uint8_t>()); return true;
    case Op::kLong4: push_long(reader_.number<std::uint32_t>()); return true;
    case Op::kBinFloat: push_passed(8, PickleLeaf::kFloat); return true;
    default: return false;
  }
}

bool Evaluator::push_text_or_bytes(Op op) {
  switch (op) {
    case Op::kShortBinString:
    case Op::kShortBinUnicode: push_text(reader_.number<std::uint8_t>()); return true;
    case Op::kBinUnicode: push_text(reader_.number<std::uint32_t>()); return true;
    case Op::kBinUnicode8: push_text(reader_.number<std::uint64_t>()); return true;
    case Op::kShortBinBytes: push_passed(reader_.number<std::uint8_t>(), PickleLeaf::kBytes); return true;
    case Op::kBinBytes: push_passed(reader_.number<std::uint32_t>(), PickleLeaf::kBytes); return true;
    case Op::kBinBytes8: push_passed(reader_.number<std::uint64_t>(), PickleLeaf::kBytes); return true;
    case Op::kByteArray8: push_passed(reader_.number<std::uint64_t>(), PickleLeaf::kByteArray); return true;
    default: return false;
  }
}

// --- containers -------------------------------------------------------------------------------------

/// The top `count` values of the stack.
std::span<const PickleValue> Evaluator::top_values(std::size_t count) const {
  require_on_stack(count);
  return std::span(stack_).last(count);
}

void Evaluator::drop(std::size_t count) { stack_.resize(stack_.size() - count); }

void Evaluator::push_tuple(std::size_t count) {
  const PickleValue made = builder_.tuple(top_values(count));
  drop(count);
  push(made);
}

bool Evaluator::build_tuple(Op op) {
  switch (op) {
    case Op::kMark: mark(); return true;
    case Op::kEmptyTuple: push_tuple(0); return true;
    case Op::kTuple: push_tuple(pop_mark()); return true;
    case Op::kTuple1: push_tuple(1); return true;
    case Op::kTuple2: push_tuple(2); return true;
    case Op::kTuple3: push_tuple(3); return true;
    default: return false;
  }
}

/// Moves the top `count` values into the list, set or dict below them.
void Evaluator::extend(Kind kind, std::size_t count) {
  const PickleValue target = top_values(count + 1).front();
  if (target.kind != kind) throw malformed_pickle(std::string(misplaced_items(kind)));
  if (kind == Kind::kDict && count % 2 != 0) throw malformed_pickle("it sets a key without a value");
  builder_.extend(target, top_values(count));
  drop(count);
}

void Evaluator::push_frozen_set(std::size_t count) {
  const PickleValue made = builder_.container(Kind::kSet);
  builder_.extend(made, top_values(count));
  drop(count);
  push(made);
}

bool Evaluator::build_container(Op op) {
  switch (op) {
    case Op::kEmptyList: push(builder_.container(Kind::kList)); return true;
    case Op::kEmptyDict: push(builder_.container(Kind::kDict)); return true;
    case Op::kAppend: extend(Kind::kList, 1); return true;
    case Op::kAppends: extend(Kind::kList, pop_mark()); return true;
    case Op::kSetItem: extend(Kind::kDict, 2); return true;
    case Op::kSetItems: extend(Kind::kDict, pop_mark()); return true;
    case Op::kEmptySet: push(builder_.container(Kind::kSet)); return true;
    case Op::kAddItems: extend(Kind::kSet, pop_mark()); return true;
    case Op::kFrozenSet: push_frozen_set(pop_mark()); return true;
    default: return false;
  }
}

// --- memo -------------------------------------------------------------------------------------------

void Evaluator::put(std::size_t index) {
  const PickleValue value = top();
  if (index >= std::min(builder_.data().pickle.size(), PickleBuilder::kMaxValues))
    throw malformed_pickle("its memo has more places than it can use");
  if (index >= memo_.size()) memo_.resize(index + 1);
  memoized_ += memo_[index] ? 0U : 1U;
  memo_[index] = value;
}

void Evaluator::get(std::size_t index) {
  if (index >= memo_.size() || !memo_[index]) {
    throw malformed_pickle("it refers back to value " + std::to_string(index) + ", which is not there");
  }
  push(*memo_[index]);
}

bool Evaluator::use_memo(Op op) {
  switch (op) {
    case Op::kBinPut: put(reader_.number<std::uint8_t>()); return true;
    case Op::kLongBinPut: put(reader_.number<std::uint32_t>()); return true;
    case Op::kMemoize: put(memoized_); return true;
    case Op::kBinGet: get(reader_.number<std::uint8_t>()); return true;
    case Op::kLongBinGet: get(reader_.number<std::uint32_t>()); return true;
    default: return false;
  }
}

// --- names and what they make -----------------------------------------------------------------------

bool Evaluator::use_name(Op op) {
  switch (op) {
    case Op::kGlobal: {
      const std::string_view module = reader_.line();
      push(find_pickle_global(module, reader_.line()));
      return true;
    }
    case Op::kStackGlobal: push_stack_global(); return true;
    case Op::kReduce: reduce(); return true;
    case Op::kBuild: build(); return true;
    case Op::kBinPersId: push(builder_.storage(pop())); return true;
    default: return false;
  }
}

void Evaluator::push_stack_global() {
  const PickleValue name = pop();
  const PickleValue module = pop();
  if (name.kind != Kind::kText || module.kind != Kind::kText) throw malformed_pickle("a name is no text");
  const PickleData& data = builder_.data();
  push(find_pickle_global(data.text(module), data.text(name)));
}

/// Only a state_dict's `_metadata` and the like come this way, and they hold no items.
void Evaluator::build() {
  pop();
  if (top().kind != Kind::kDict)
    throw malformed_pickle("it sets attributes of what is no dict; nothing was executed");
}

void Evaluator::reduce() {
  const PickleValue arguments = pop();
  const PickleValue function = pop();
  push(builder_.call(function, arguments));
}

// --- running ----------------------------------------------------------------------------------------

void Evaluator::read_protocol() {
  const auto protocol = reader_.number<std::uint8_t>();
  if (protocol >= kFirstProtocol && protocol <= kLastProtocol) return;
  throw malformed_pickle("its protocol is unknown").needed("2 to 5").found(std::to_string(protocol));
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
  throw malformed_pickle("opcode " + std::to_string(static_cast<unsigned>(op)) +
                         " is none of those data needs");
}

void Evaluator::run_to_stop() {
  while (true) {
    const std::size_t begin = reader_.position();
    try {
      const Op op = reader_.opcode();
      if (begin == 0 && op != Op::kProto) throw malformed_pickle("it does not begin with a protocol");
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
  if (stack_.size() != 1 || !marks_.empty()) throw malformed_pickle("it does not end with one value");
  return builder_.finish(stack_.back());
}

}  // namespace

std::string_view type_name(const PickleValue& value) noexcept {
  constexpr std::array<std::string_view, 9> kLeaves = {"NoneType", "float",   "int",    "bytes", "bytearray",
                                                       "complex",  "Counter", "device", "layout"};
  switch (value.kind) {
    case Kind::kLeaf: return kLeaves[value.value];
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kText: return "str";
    case Kind::kTuple: return "tuple";
    case Kind::kList: return "list";
    case Kind::kDict: return "dict";
    case Kind::kSet: return "set";
    case Kind::kGlobal:
      return is_global(value, PickleGlobal::kDType) || is_global(value, PickleGlobal::kForeignDType) ? "dtype"
                                                                                                     : "type";
    case Kind::kStorage: return "storage";
    case Kind::kTensor: return "Tensor";
  }
  return "";
}

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
