#include "formats/torch.h"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "recording_source.h"
#include "zip_writer.h"

namespace penstock {
namespace {

using namespace testing;
using Records = std::vector<std::pair<std::string, std::string>>;

// --- pickles, opcode by opcode ----------------------------------------------------------------------

std::string text(const std::string& value) { return "X" + le(value.size(), 4) + value; }

std::string number(std::int64_t value) {
  return std::string("\x8a\x08") + le(static_cast<std::uint64_t>(value), 8);
}

std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

std::string tuple(const Numbers& numbers) {
  std::string items;
  for (const std::int64_t each : numbers) items += number(each);
  return "(" + items + "t";
}

std::string dict(const std::string& items) { return "}(" + items + "u"; }

std::string list(const std::string& items) { return "](" + items + "e"; }

const std::string kNoHooks = global("collections", "OrderedDict") + ")R";

std::string storage(const std::string& type, const std::string& key, std::int64_t elements) {
  const std::string module = type == "UntypedStorage" ? "torch.storage" : "torch";
  return "(" + text("storage") + global(module, type) + text(key) + text("cpu") + number(elements) + "tQ";
}

/// How a tensor is written; the defaults describe float32 values of shape (2, 3) in 24 bytes.
struct Written {
  std::string storage = penstock::storage("FloatStorage", "0", 6);
  std::int64_t offset = 0;
  Numbers shape = {2, 3};
  Numbers strides = {3, 1};
  std::string rest = {};  ///< arguments after the hooks
  std::string rebuild = "_rebuild_tensor_v2";
};

std::string tensor_arguments(const Written& t) {
  return "(" + t.storage + number(t.offset) + tuple(t.shape) + tuple(t.strides) + "\x89" + kNoHooks + t.rest +
         "t";
}

std::string tensor(const Written& t = Written()) {
  return global("torch._utils", t.rebuild) + tensor_arguments(t) + "R";
}

std::string pickle(const std::string& value) { return "\x80\x02" + value + "."; }

// --- archives around them ---------------------------------------------------------------------------

const std::string kData(24, 'd');

ZipWriter archive(const std::string& value, const Records& records = {{"0", kData}}) {
  ZipWriter writer;
  writer.add("file/data.pkl", pickle(value)).add("file/byteorder", "little");
  for (const auto& [key, data] : records) writer.add("file/data/" + key, data);
  writer.add("file/version", "3\n");
  return writer;
}

FileLayout layout_of(const ByteSource& source) { return parse_torch(source, parse_zip_directory(source)); }

FileLayout layout_of(const ZipWriter& writer) {
  const std::string file = writer.finish({.zip64 = true});
  FileLayout layout = layout_of(MemorySource(as_bytes(file)));
  check_in_bounds(layout, file.size());
  return layout;
}

FileLayout layout_of(const std::string& value) { return layout_of(archive(value)); }

template <typename T>
std::string refusal(const T& value_or_archive) {
  return refusal_of([&] { layout_of(value_or_archive); });
}

std::vector<std::string> names(const FileLayout& layout) {
  std::vector<std::string> all;
  for (const ArrayLayout& array : layout.arrays) all.push_back(array.name);
  return all;
}

using Names = std::vector<std::string>;

/// "name: kind" of each value that is no tensor.
Names others(const FileLayout& layout) {
  Names all;
  for (const OtherValue& each : layout.others) all.push_back(each.name + ": " + std::string(each.kind));
  return all;
}

// --- what is read -----------------------------------------------------------------------------------

TEST_CASE("one tensor is one array without a name") {
  const FileLayout layout = layout_of(tensor());
  CHECK(layout.format == "torch");
  CHECK(layout.container == Container::kArray);
  REQUIRE(layout.arrays.size() == 1);
  const ArrayLayout& array = layout.arrays[0];
  CHECK(array.name.empty());
  CHECK(array.dtype == DType::kFloat32);
  CHECK_FALSE(array.byte_swapped);
  CHECK(array.shape == Numbers{2, 3});
  CHECK(array.strides == Numbers{12, 4});
  CHECK(array.offset == archive(tensor()).finish().find(kData));
}

TEST_CASE("a dict is a mapping, a list or tuple a sequence, and nested names are joined") {
  const FileLayout mapping =
      layout_of(dict(text("a") + tensor() + text("b") + dict(text("c") + list(tensor()))));
  CHECK(mapping.container == Container::kMapping);
  CHECK(names(mapping) == Names{"a", "b.c.0"});
  const FileLayout sequence = layout_of(list(number(5) + tensor() + "N" + tensor() + "\x85"));
  CHECK(sequence.container == Container::kSequence);
  CHECK(names(sequence) == Names{"1", "3.0"});
  CHECK(layout_of(tensor() + tensor() + "\x86").container == Container::kSequence);
}

TEST_CASE("an OrderedDict with attributes, as of state_dict(), is a dict") {
  const std::string metadata = dict(text("_metadata") + kNoHooks);
  CHECK(names(layout_of(kNoHooks + "(" + text("weight") + tensor() + "u" + metadata + "b")) ==
        Names{"weight"});
}

TEST_CASE("int keys become their decimal text") {
  CHECK(names(layout_of(dict(number(-7) + tensor() + number(12) + tensor()))) == Names{"-7", "12"});
}

TEST_CASE("leaves that are no tensors are passed over") {
  const std::string leaves =
      text("i") + number(1) + text("f") + "G" + std::string(8, '\0') + text("n") + "N" + text("t") + "\x88" +
      text("s") + text("x") + text("big") + "\x8a\x10" + std::string(16, '\x7f') + text("size") +
      global("torch", "Size") + tuple({1, 2}) + "\x85R" + text("dev") + global("torch", "device") +
      text("cpu") + "\x85R" + text("dt") + global("torch", "float8_e4m3fn") + text("bytes") +
      global("_codecs", "encode") + text("b") + text("latin1") + "\x86R" + text("set") +
      global("__builtin__", "set") + list(number(1)) + "\x85R" + text("st") + storage("ByteStorage", "9", 1);
  const FileLayout layout = layout_of(dict(leaves + text("x") + tensor()));
  CHECK(names(layout) == Names{"x"});
  CHECK(others(layout) == Names{"i: int", "f: float", "t: bool", "s: str", "big: int", "size: tuple",
                                "dev: device", "dt: dtype", "bytes: bytes", "set: set", "st: storage"});
}

TEST_CASE("a container without a tensor is one value, and an empty one none") {
  const std::string inner = dict(text("a") + list(number(1) + number(2)) + text("b") + "]");
  const FileLayout layout = layout_of(list(tensor() + inner + list(tensor() + number(3)) + "}" + "N"));
  CHECK(names(layout) == Names{"0", "2.0"});
  CHECK(others(layout) == Names{"1: dict", "2.1: int"});
}

TEST_CASE("of many values that are no tensors the first are named") {
  std::string items;
  for (int i = 0; i < 5000; ++i) items += list(number(i));
  const FileLayout layout = layout_of(list(items + tensor()));
  CHECK(names(layout) == Names{"5000"});
  CHECK(layout.others.size() == 1000);
  CHECK(layout.others.back().name == "999");
}

TEST_CASE("values without a name of their own, or with one that is too long, are told all the same") {
  const std::string odd =
      dict("\x88" + number(1) + text(std::string(5000, 'n')) + number(2) + text("x") + tensor());
  CHECK(others(layout_of(odd)) == Names{"<bool>: int", "...: int"});
}

TEST_CASE("protocol 4 says the same with other opcodes") {
  const auto short_text = [](const std::string& value) { return "\x8c" + le(value.size(), 1) + value; };
  const std::string value =
      "\x95" + le(100, 8) + "}\x94(" + short_text("k") + "\x94" + short_text("torch._utils") +
      short_text("_rebuild_tensor_v2") + "\x93\x94" + tensor_arguments(Written()) + "R\x94" +
      short_text("same") + "h\x03" + short_text("bytes") + "C\x02hi" + short_text("set") + "\x8f(K\x01\x90" +
      short_text("frozen") + "(K\x01\x91" + short_text("text") + "\x8d" + le(1, 8) + "tu";
  ZipWriter writer;
  writer.add("file/data.pkl", "\x80\x04" + value + ".").add("file/data/0", kData);
  CHECK(names(layout_of(writer)) == Names{"k", "same"});
}

TEST_CASE("a tensor met twice, or storage shared by several, is one place in the file") {
  const std::string row = tensor({.offset = 3, .shape = {3}, .strides = {1}});
  const FileLayout layout = layout_of(list(tensor() + "q\x01h\x01" + row));
  REQUIRE(layout.arrays.size() == 3);
  CHECK(layout.arrays[0].offset == layout.arrays[1].offset);
  CHECK(layout.arrays[2].offset == layout.arrays[0].offset + 12);
}

TEST_CASE("views keep their offset and strides") {
  const FileLayout layout = layout_of(list(tensor() + tensor({.offset = 2, .shape = {2}, .strides = {3}}) +
                                           tensor({.offset = 5, .shape = {}, .strides = {}}) +
                                           tensor({.shape = {1000, 6}, .strides = {0, 1}})));
  REQUIRE(layout.arrays.size() == 4);
  const std::uint64_t begin = layout.arrays[0].offset;
  CHECK(layout.arrays[1].strides == Numbers{12});
  CHECK(layout.arrays[1].offset == begin + 8);
  CHECK(layout.arrays[2].shape.empty());
  CHECK(layout.arrays[2].offset == begin + 20);
  CHECK(layout.arrays[3].strides == Numbers{0, 4});
}

TEST_CASE("tensors without elements may have any offset and an empty record") {
  const std::string empty =
      tensor({.storage = storage("FloatStorage", "0", 0), .offset = 3, .shape = {0, 2}, .strides = {5, 1}});
  const FileLayout layout = layout_of(archive(empty, {{"0", ""}}));
  CHECK(layout.arrays.at(0).shape == Numbers{0, 2});
}

TEST_CASE("newer dtypes come with an untyped storage whose size is in bytes") {
  const auto of = [](const std::string& dtype) {
    return tensor({.storage = storage("UntypedStorage", "0", 24),
                   .shape = {4},
                   .strides = {2},
                   .rest = global("torch", dtype),
                   .rebuild = "_rebuild_tensor_v3"});
  };
  CHECK(layout_of(of("uint16")).arrays.at(0).dtype == DType::kUInt16);
  CHECK(layout_of(of("uint16")).arrays.at(0).strides == Numbers{4});
  CHECK(layout_of(of("float8_e5m2")).arrays.at(0).dtype == DType::kFloat8E5M2);
  CHECK(contains(refusal(of("bits8")), "torch.bits8"));
  CHECK(contains(refusal(of("uint64")), "reaches out"));
}

TEST_CASE("every storage class stands for its dtype") {
  const std::vector<std::pair<std::string, DType>> classes = {{"FloatStorage", DType::kFloat32},
                                                              {"DoubleStorage", DType::kFloat64},
                                                              {"HalfStorage", DType::kFloat16},
                                                              {"BFloat16Storage", DType::kBFloat16},
                                                              {"ByteStorage", DType::kUInt8},
                                                              {"CharStorage", DType::kInt8},
                                                              {"ShortStorage", DType::kInt16},
                                                              {"IntStorage", DType::kInt32},
                                                              {"LongStorage", DType::kInt64},
                                                              {"BoolStorage", DType::kBool},
                                                              {"ComplexFloatStorage", DType::kComplex64},
                                                              {"ComplexDoubleStorage", DType::kComplex128}};
  for (const auto& [name, dtype] : classes) {
    const std::int64_t elements = 48 / item_bytes(dtype);
    const Written written = {.storage = storage(name, "0", elements), .shape = {elements}, .strides = {1}};
    CHECK(layout_of(archive(tensor(written), {{"0", std::string(48, 'x')}})).arrays.at(0).dtype == dtype);
  }
}

TEST_CASE("parameters and tensors with attributes are tensors") {
  const auto parameter = [](const std::string& name, const std::string& more) {
    return global("torch._utils", name) + "(" + tensor() + "\x88" + kNoHooks + more + "tR";
  };
  CHECK(layout_of(parameter("_rebuild_parameter", "")).container == Container::kArray);
  CHECK(layout_of(parameter("_rebuild_parameter_with_state", dict(""))).arrays.size() == 1);
  const std::string attributed = global("torch._tensor", "_rebuild_from_type_v2") + "(" +
                                 global("torch._utils", "_rebuild_tensor_v2") + global("torch", "Tensor") +
                                 tensor_arguments(Written()) + dict(text("tag") + number(1)) + "tR";
  CHECK(layout_of(attributed).arrays.size() == 1);
}

TEST_CASE("big-endian files are byte-swapped, where an element has an order") {
  const auto big = [](const Written& written) {
    ZipWriter writer;
    writer.add("f/data.pkl", pickle(tensor(written))).add("f/byteorder", "big").add("f/data/0", kData);
    return layout_of(writer).arrays.at(0).byte_swapped;
  };
  CHECK(big(Written()));
  CHECK_FALSE(big({.storage = storage("ByteStorage", "0", 24)}));
}

TEST_CASE("a file without byteorder is little-endian and an unknown order is refused") {
  ZipWriter writer;
  writer.add("f/data.pkl", pickle(tensor())).add("f/data/0", kData);
  CHECK_FALSE(layout_of(writer).arrays.at(0).byte_swapped);
  CHECK(contains(refusal(writer.add("f/byteorder", "middle")), "byteorder is broken"));
}

TEST_CASE("no byte of a storage is read") {
  const std::string data(200'000, 'd');
  const std::string value = tensor({.storage = storage("ByteStorage", "0", 200'000)});
  const RecordingSource source(archive(value, {{"0", data}}).finish({.zip64 = true}));
  const FileLayout layout = layout_of(source);
  CHECK_FALSE(source.was_read(layout.arrays.at(0).offset, data.size()));
}

// --- what is refused --------------------------------------------------------------------------------

TEST_CASE("a name outside the table is given in the error and nothing is executed") {
  const std::string attack = global("os", "system") + text("echo") + "\x85R";
  CHECK(contains(refusal(attack), "'os.system'"));
  CHECK(contains(refusal(attack), "nothing was executed"));
  CHECK(contains(refusal(text("posix") + text("system") + "\x93"), "'posix.system'"));
  CHECK(contains(refusal(global("builtins", "eval")), "'builtins.eval'"));
  CHECK(contains(refusal(global("torch", "load")), "'torch.load'"));
  CHECK(contains(refusal(global("torch._utils", "_rebuild_tensor_v2.__globals__")), "__globals__"));
}

TEST_CASE("what a plain tensor cannot hold is refused by name") {
  const auto utils = [](const std::string& name) { return refusal(global("torch._utils", name)); };
  CHECK(contains(utils("_rebuild_sparse_tensor"), "sparse"));
  CHECK(contains(utils("_rebuild_qtensor"), "quantized"));
  CHECK(contains(utils("_rebuild_nested_tensor"), "nested"));
  CHECK(contains(utils("_rebuild_meta_tensor_no_storage"), "meta"));
  CHECK(contains(utils("_rebuild_wrapper_subclass"), "subclass"));
  CHECK(contains(refusal(global("torch", "QInt8Storage")), "quantized"));
  CHECK(contains(refusal(global("torch.nested._internal.nested_tensor", "_rebuild_njt")), "nested"));
  CHECK(contains(refusal(global("numpy._core.multiarray", "_reconstruct")), "NumPy"));
  CHECK(contains(refusal(global("numpy.core.multiarray", "scalar")), "NumPy"));
  CHECK(contains(refusal(global("numpy", "ndarray")), "NumPy"));
}

TEST_CASE("lazy conj and neg views are refused, unset flags are not") {
  const auto with = [](const std::string& metadata) { return tensor({.rest = metadata}); };
  CHECK(contains(refusal(with(dict(text("conj") + "\x88"))), "'conj'"));
  CHECK(contains(refusal(with(dict(text("conj") + "\x89" + text("neg") + "\x88"))), "'neg'"));
  CHECK(refusal(with(dict(text("conj") + "\x89"))) == "accepted");
  CHECK(refusal(with("N")) == "accepted");
}

TEST_CASE("a file without any tensor is refused") {
  for (const std::string& value : {std::string("N"), number(1), dict(""), list(number(1)), text("x")}) {
    CHECK(contains(refusal(value), "no tensor"));
  }
}

TEST_CASE("two tensors of one name, or one without a name, are refused") {
  CHECK(
      contains(refusal(dict(text("a.b") + tensor() + text("a") + dict(text("b") + tensor()))), "same name"));
  CHECK(contains(refusal(dict(text("a") + tensor() + text("a") + list(tensor()))), "key 'a' twice"));
  CHECK(contains(refusal(dict(number(1) + tensor() + text("1") + tensor())), "key '1' twice"));
  CHECK(contains(refusal(dict("N" + list(tensor()))), "neither text nor an int"));
  CHECK(contains(refusal(dict(text("\xff") + tensor())), "UTF-8"));
  CHECK(refusal(dict("N" + list(number(1)) + text("a") + tensor())) == "accepted");
}

TEST_CASE("containers that contain themselves are refused") {
  CHECK(contains(refusal("]q\x01h\x01"
                         "a"),
                 "contains itself"));
  CHECK(contains(refusal("}q\x01" + text("k") + "h\x01s"), "contains itself"));
  CHECK(contains(refusal("]q\x01h\x01\x85"
                         "a"),
                 "contains itself"));
}

TEST_CASE("nesting has a limit, on every kind of container") {
  const auto nested = [](int levels, const std::string& open, const std::string& close) {
    std::string value;
    for (int i = 0; i < levels; ++i) value += open;
    value += tensor();
    for (int i = 0; i < levels; ++i) value += close;
    return value;
  };
  CHECK(refusal(nested(256, "]", "a")) == "accepted");
  CHECK(contains(refusal(nested(257, "]", "a")), "too deep"));
  CHECK(contains(refusal(nested(90'000, "(", "t")), "too deep"));
  CHECK(contains(refusal(nested(100'001, "(", "t")), "containers at once"));
  CHECK(contains(refusal(nested(300'000, "", "\x85")), "too deep"));
}

TEST_CASE("a small pickle that stands for a huge tree is refused in time") {
  std::string value = "]" + tensor() + "a";
  for (int i = 0; i < 60; ++i) value = "](" + value + "q\x01h\x01" + "e";
  CHECK(contains(refusal(value), "too many"));
}

TEST_CASE("numbers that do not fit, and what is no number, are no sizes") {
  const std::string huge = "\x8b" + le(9, 4) + std::string(9, '\x7f');
  const std::string broken = global("torch._utils", "_rebuild_tensor_v2") + "(" +
                             storage("FloatStorage", "0", 6) + number(0) + huge + "\x85" + tuple({1}) +
                             "\x89" + kNoHooks + "tR";
  CHECK(contains(refusal(broken), "no number"));
  CHECK(contains(refusal("\x8b" + le(0x7FFFFFFF, 4)), "cut short"));
  CHECK(contains(refusal("\x8b" + le(0xFFFFFFFF, 4)), "cut short"));
  CHECK(contains(refusal("X" + le(0xFFFFFFFF, 4)), "cut short"));
  CHECK(contains(refusal("\x8d" + le(~std::uint64_t{0}, 8)), "cut short"));
}

TEST_CASE("negative offsets, dimensions, strides and sizes are refused") {
  CHECK(contains(refusal(tensor({.offset = -1})), "offset"));
  CHECK(contains(refusal(tensor({.shape = {-2, 3}})), "dimension"));
  CHECK(contains(refusal(tensor({.strides = {-3, 1}})), "stride"));
  CHECK(contains(refusal(tensor({.storage = storage("FloatStorage", "0", -6)})), "size"));
}

TEST_CASE("a tensor may not reach out of its storage, whatever overflows") {
  const std::int64_t huge = std::int64_t{1} << 62U;
  CHECK(contains(refusal(tensor({.offset = 1})), "reaches out"));
  CHECK(contains(refusal(tensor({.strides = {4, 1}})), "reaches out"));
  CHECK(contains(refusal(tensor({.offset = huge})), "reaches out"));
  CHECK(contains(refusal(tensor({.shape = {huge, 3}})), "reaches out"));
  CHECK(contains(refusal(tensor({.shape = {huge, huge}, .strides = {4, 4}})), "reaches out"));
  CHECK(contains(refusal(tensor({.strides = {huge, 1}})), "stride"));
  CHECK(contains(refusal(tensor({.storage = storage("DoubleStorage", "0", huge)})), "2^63"));
  CHECK(contains(refusal(tensor({.shape = {2}})), "strides"));
  CHECK(contains(refusal(tensor({.shape = Numbers(65, 1), .strides = Numbers(65, 1)})), "dimensions"));
}

TEST_CASE("a record must be exactly as large as its storage") {
  for (const std::size_t bytes : {0U, 20U, 23U, 25U, 28U, 48U}) {
    CAPTURE(bytes);
    CHECK(contains(refusal(archive(tensor(), {{"0", std::string(bytes, 'd')}})), "not as large"));
  }
  CHECK(contains(refusal(archive(tensor(), {{"1", kData}})), "lacks the record 'data/0'"));
}

TEST_CASE("an error names the tensor") {
  try {
    layout_of(dict(text("good") + tensor() + text("bad") + tensor({.offset = 1})));
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.field() == "bad");
    CHECK(error.needed() == "shape (2, 3) with strides (3, 1) from 1, in elements of 4 bytes");
    CHECK(error.found() == "a storage of 24 bytes");
  }
}

TEST_CASE("the offset of a pickle's error is one in the file") {
  const ZipWriter writer = archive("N" + global("os", "system"));
  try {
    layout_of(writer);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.offset() == writer.finish().find("cos\n"));
  }
}

TEST_CASE("deflated, encrypted and contradictory records are refused") {
  const auto with = [](const ZipWriter::Lies& lies) {
    ZipWriter writer;
    writer.add("f/data.pkl", pickle(tensor())).add("f/data/0", kData, lies);
    return refusal(writer);
  };
  CHECK(contains(with({.method = 8}), "compressed"));
  CHECK(contains(with({.flags = 1}), "encrypted"));
  CHECK(contains(with({.compressed_bytes = 20}), "two sizes"));
  CHECK(contains(with({.bytes = 20, .compressed_bytes = 20}), "not as large"));
}

TEST_CASE("a data.pkl that fails its CRC-32 is refused, where it has one") {
  if (!has_zlib()) return;
  const std::string value = pickle(tensor());
  const auto with = [&](std::uint32_t crc32) {
    ZipWriter writer;
    writer.add("f/data.pkl", value, {.crc32 = crc32}).add("f/data/0", kData, {.crc32 = 1});
    return writer;
  };
  CHECK(refusal(with(checksum_of(value))) == "accepted");
  CHECK(refusal(with(0)) == "accepted");
  const Error error = error_from([&] { return layout_of(with(0x00BADBAD)); });
  CHECK(error.kind() == ErrorKind::kFormat);
  CHECK(error.problem() == "the record f/data.pkl fails its CRC-32");
  CHECK(error.needed() == "0x00badbad");
  CHECK(error.found().size() == 10);
  CHECK(error.found() != error.needed());
}

TEST_CASE("a set of tensors is refused, a set of anything else passed over") {
  const auto made = [](const std::string& type, const std::string& items) {
    return global("builtins", type) + list(items) + "\x85R";
  };
  const auto beside = [](const std::string& set) { return dict(text("x") + tensor() + text("s") + set); };
  for (const std::string& set :
       {made("set", tensor()), made("frozenset", number(1) + tensor() + "\x85"), "\x8f(" + tensor() + "\x90",
        "(" + tensor() + "\x91", "\x8f((" + tensor() + "\x91\x90"}) {
    CHECK(contains(refusal(set), "a set of tensors"));
    CHECK(contains(refusal(beside(set)), "a set of tensors"));
  }
  CHECK(error_from([&] { return layout_of(beside(made("set", tensor()))); }).found() == "one inside 's'");
  for (const std::string& set :
       {made("set", number(1)), made("set", ""), global("builtins", "set") + ")R",
        "\x8f(" + number(1) + "\x85\x90", std::string("\x8f"), std::string("(\x91")}) {
    CHECK(names(layout_of(beside(set))) == Names{"x"});
  }
  CHECK(contains(refusal("N(N\x90"), "no set"));
  CHECK(contains(refusal(global("builtins", "set") + "NN\x86R"), "2 arguments"));
}

TEST_CASE("records that overlap are refused") {
  const std::string inner = "PK\3\4" + le(0, 22) + le(8, 2) + le(0, 2) + "f/data/1" + std::string(24, 'x');
  const auto bytes = static_cast<std::int64_t>(inner.size());
  ZipWriter writer;
  writer.add("f/data.pkl", pickle(list(tensor({.storage = storage("ByteStorage", "0", bytes)}) +
                                       tensor({.storage = storage("FloatStorage", "1", 6)}))));
  const std::uint64_t begin = writer.size() + 38;  // where data/0's bytes begin: with a header of data/1
  writer.add("f/data/0", inner);
  writer.add("f/data/1", "", {.bytes = 24, .compressed_bytes = 24, .header_offset = begin});
  CHECK(contains(refusal(writer), "f/data/0 and f/data/1 overlap"));
}

TEST_CASE("TorchScript, torch.export and other archives are refused by name") {
  CHECK(contains(refusal(archive(tensor()).add("file/constants.pkl", "")), "TorchScript"));
  CHECK(contains(refusal(archive(tensor()).add("file/code/a.py", "")), "TorchScript"));
  CHECK(contains(refusal(ZipWriter().add("f/archive_format", "pt2")), "torch.export"));
  CHECK(contains(refusal(ZipWriter().add("f/x", "")), "no data.pkl"));
  CHECK(contains(refusal(ZipWriter().add("x.npy", "")), "no folder"));
  CHECK(contains(refusal(ZipWriter()), "no folder"));
}

TEST_CASE("a pickle cut short at any byte is refused") {
  const std::string whole = pickle(dict(text("a") + tensor() + text("b") + list(tensor())));
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    CAPTURE(bytes);
    ZipWriter writer;
    writer.add("f/data.pkl", whole.substr(0, bytes)).add("f/data/0", kData);
    CHECK(contains(refusal(writer), "pickle is broken"));
  }
}

TEST_CASE("pickles that misuse the stack, the memo or a value are refused") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "one value"},
      {"NN", "one value"},
      {"(", "one value"},
      {"R", "more from its stack"},
      {"\x85", "more from its stack"},
      {"N\x86", "more from its stack"},
      {"N(\x85t", "more from its stack"},
      {"Q", "more from its stack"},
      {"a", "more from its stack"},
      {"(e", "more from its stack"},
      {"q\x01", "more from its stack"},
      {"N(q\x01", "more from its stack"},
      {"t", "did not open"},
      {"e", "did not open"},
      {"h\x05", "not there"},
      {"j" + le(0xFFFFFFFF, 4), "not there"},
      {"Nr" + le(0xFFFFFFFF, 4), "memo"},
      {"NNa", "no list"},
      {"}Na", "no list"},
      {"NNNs", "no dict"},
      {"](NNu", "no dict"},
      {"}(Nu", "without a value"},
      {"N)R", "no name"},
      {global("torch", "Size") + "NR", "no name"},
      {global("torch", "float32") + ")R", "calls a type"},
      {global("torch", "Size") + ")R", "0 arguments"},
      {"NNb", "no dict"},
      {"NQ", "no storage"},
      {tuple({1, 2, 3, 4, 5}) + "Q", "no storage"},
      {"NN\x93", "no text"},
      {"carbon", "no end"},
      {"\xff", "opcode 255"},
      {"0", "opcode 48"},
      {"\x80\x07", "protocol"},
      {global("torch._utils", "_rebuild_tensor_v2") + tuple({1, 2}) + "R", "2 arguments"},
      {tensor({.storage = "N"}), "no storage"},
      {tensor({.storage = storage("UntypedStorage", "0", 24)}), "no dtype"},
      {global("torch._utils", "_rebuild_parameter") + "(NNNtR", "no tensor"},
  };
  for (const auto& [value, expected] : cases) {
    const std::string found = refusal(value);
    CHECK_MESSAGE(contains(found, expected), found);
  }
  CHECK(contains(refusal(ZipWriter().add("f/data.pkl", "N.")), "begin with a protocol"));
  CHECK(contains(refusal(std::string(1'000'001, 'N')), "1,000,000"));
}

TEST_CASE("a tensor with attributes cannot be made of itself for ever") {
  std::string arguments = tensor_arguments(Written());
  const std::string function = global("torch._tensor", "_rebuild_from_type_v2");
  for (int i = 0; i < 1000; ++i) arguments = "(" + function + global("torch", "Tensor") + arguments + "Nt";
  CHECK(contains(refusal(function + arguments + "R"), "no tensor"));
}

TEST_CASE("an over-large pickle is refused before it is read") {
  const std::uint64_t bytes = (std::uint64_t{64} << 20U) + 1;
  CHECK(contains(refusal(ZipWriter().add("f/data.pkl", "x", {.bytes = bytes, .compressed_bytes = bytes})),
                 "too large"));
}

// --- any bytes --------------------------------------------------------------------------------------

std::string everything() {
  return dict(text("a") + tensor() + "q\x01" + text("b") + list("h\x01" + number(3)) + text("c") +
              tensor({.storage = storage("UntypedStorage", "1", 8),
                      .offset = 1,
                      .shape = {3},
                      .strides = {1},
                      .rest = global("torch", "uint16") + dict(text("conj") + "\x89"),
                      .rebuild = "_rebuild_tensor_v3"}));
}

bool accepts_soundly(const std::string& file) {
  const MemorySource source(as_bytes(file));
  return testing::accepts_soundly([&] { return layout_of(source); }, file.size());
}

TEST_CASE("any bytes give a layout in bounds or an error: torch archives") {
  const std::string valid = archive(everything(), {{"0", kData}, {"1", "12345678"}}).finish({.zip64 = true});
  std::mt19937 random(3);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) accepted += accepts_soundly(damaged(valid, random)) ? 1 : 0;
  CHECK(accepted > 100);
}

TEST_CASE("any bytes give a layout in bounds or an error: pickles in sound archives") {
  const std::string valid = pickle(everything());
  std::mt19937 random(4);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    ZipWriter writer;
    writer.add("f/data.pkl", damaged(valid, random)).add("f/data/0", kData).add("f/data/1", "12345678");
    accepted += accepts_soundly(writer.finish()) ? 1 : 0;
  }
  CHECK(accepted > 100);
}

}  // namespace
}  // namespace penstock
