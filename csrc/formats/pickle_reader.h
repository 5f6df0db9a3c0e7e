#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/error.h"

namespace penstock {

/// The opcodes that data needs, of protocols 2 to 5.
enum class PickleOp : std::uint8_t {
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

/// "the pickle is broken: `problem`".
[[nodiscard]] Error malformed_pickle(const std::string& problem);

/// The bytes of a pickle, taken from the front.
///
/// Every call that takes throws Error kFormat when the pickle ends before. single-owner
class PickleReader {
 public:
  explicit PickleReader(Bytes pickle) : pickle_(pickle) {}

  [[nodiscard]] std::size_t position() const noexcept { return at_; }

  Bytes take(std::uint64_t count);

  /// A little-endian unsigned number.
  template <typename T>
  T number() {
    return load_le<T>(take(sizeof(T)), 0);
  }

  PickleOp opcode() { return static_cast<PickleOp>(number<std::uint8_t>()); }

  /// The text before the next line end, which is taken too.
  std::string_view line();

 private:
  Bytes pickle_;
  std::size_t at_ = 0;
};

}  // namespace penstock
