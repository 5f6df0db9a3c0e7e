#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "base/bytes.h"
#include "base/error.h"
#include "format_checks.h"
#include "formats/safetensors.h"
#include "recording_source.h"

using namespace penstock;
using namespace penstock::testing;
using namespace std::string_literals;

namespace {

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return le(header.size(), 8) + header + std::string(data_bytes, 'x');
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
         "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + tensor("a", dtype, shape, offsets) + "}";
}

FileLayout parse(std::string_view file) { return parse_safetensors(MemorySource(as_bytes(file))); }

Error error_of(std::string_view file) {
  return error_from([&] { return parse(file); });
}

const std::string kGood =
    file_of("{\"__metadata__\":{\"format\":\"pt\",\"\":\"\\u00e9\"}," +
                tensor("w", "F32", "[2,3]", "[2,26]") + "," + tensor("b", "BF16", "[1]", "[0,2]") + "," +
                tensor("z", "I64", "[0,5]", "[26,26]") + "," + tensor("s", "BOOL", "[]", "[26,27]") + "}   ",
            27);

}  // namespace

TEST_CASE("the tensors of a safetensors file come in the order of their bytes") {
  const FileLayout layout = parse(kGood);
  CHECK(layout.format == "safetensors");
  CHECK(layout.container == Container::kMapping);
  CHECK(layout.refused.empty());
  REQUIRE(layout.arrays.size() == 4);
  const std::uint64_t data = kGood.size() - 27;
  CHECK(layout.arrays[0].name == "b");
  CHECK(layout.arrays[0].dtype == DType::kBFloat16);
  CHECK(layout.arrays[0].offset == data);
  CHECK(layout.arrays[1].name == "w");
  CHECK(layout.arrays[1].shape == Numbers{2, 3});
  CHECK(layout.arrays[1].strides == Numbers{12, 4});
  CHECK(layout.arrays[1].offset == data + 2);
  CHECK(layout.arrays[2].name == "z");
  CHECK(layout.arrays[2].shape == Numbers{0, 5});
  CHECK(layout.arrays[3].name == "s");
  CHECK(layout.arrays[3].shape.empty());
}

TEST_CASE("tensors of no bytes at one place come in the order of their names") {
  const FileLayout layout =
      parse(file_of("{" + tensor("c", "U8", "[0]", "[1,1]") + "," + tensor("b", "U8", "[0]", "[1,1]") + "," +
                        tensor("x", "U8", "[1]", "[0,1]") + "," + tensor("a", "U8", "[3,0]", "[1,1]") + "}",
                    1));
  std::string order;
  for (const ArrayLayout& array : layout.arrays) order += array.name;
  CHECK(order == "xabc");
}

TEST_CASE("every dtype of safetensors that torch has is read") {
  struct Case {
    std::string name;
    DType dtype;
  };
  const std::vector<Case> cases = {
      {"BOOL", DType::kBool},
      {"U8", DType::kUInt8},
      {"I8", DType::kInt8},
      {"U16", DType::kUInt16},
      {"I16", DType::kInt16},
      {"U32", DType::kUInt32},
      {"I32", DType::kInt32},
      {"U64", DType::kUInt64},
      {"I64", DType::kInt64},
      {"F16", DType::kFloat16},
      {"BF16", DType::kBFloat16},
      {"F32", DType::kFloat32},
      {"F64", DType::kFloat64},
      {"C64", DType::kComplex64},
      {"F8_E4M3", DType::kFloat8E4M3FN},
      {"F8_E5M2", DType::kFloat8E5M2},
      {"F8_E4M3FNUZ", DType::kFloat8E4M3FNUZ},
      {"F8_E5M2FNUZ", DType::kFloat8E5M2FNUZ},
      {"F8_E8M0", DType::kFloat8E8M0FNU},
  };
  for (const Case& each : cases) {
    CAPTURE(each.name);
    const std::int64_t bytes = 3 * item_bytes(each.dtype);
    const FileLayout layout = parse(
        file_of(one(each.name, "[3]", "[0," + std::to_string(bytes) + "]"), static_cast<std::size_t>(bytes)));
    REQUIRE(layout.arrays.size() == 1);
    CHECK(layout.arrays[0].dtype == each.dtype);
    CHECK(layout.arrays[0].strides == Numbers{item_bytes(each.dtype)});
  }
}

TEST_CASE("4-bit floats are pairs along the last dimension") {
  const FileLayout layout = parse(file_of(one("F4", "[3,4]", "[0,6]"), 6));
  REQUIRE(layout.arrays.size() == 1);
  CHECK(layout.arrays[0].dtype == DType::kFloat4E2M1FNx2);
  CHECK(layout.arrays[0].shape == Numbers{3, 2});
  CHECK(layout.arrays[0].strides == Numbers{2, 1});
}

TEST_CASE("what torch cannot hold is refused by name and still has to tile") {
  for (const std::string& header :
       {one("F4", "[2,3]", "[0,3]"), one("F6_E2M3", "[4]", "[0,3]"), one("F6_E3M2", "[4]", "[0,3]")}) {
    CAPTURE(header);
    const FileLayout layout = parse(file_of(header, 3));
    CHECK(layout.arrays.empty());
    REQUIRE(layout.refused.size() == 1);
    CHECK(layout.refused[0].name == "a");
    CHECK_THROWS_AS(parse(file_of(header, 4)), Error);
  }
  CHECK_THROWS_AS(parse(file_of(one("F4", "[3]", "[0,2]"), 2)), Error);
  CHECK_THROWS_AS(parse(file_of(one("F6_E2M3", "[3]", "[0,3]"), 3)), Error);
}

TEST_CASE("a file without tensors, fields of others and escaped names are read") {
  CHECK(parse(file_of("{}", 0)).arrays.empty());
  CHECK(parse(file_of("{\"__metadata__\":{}} \n\t", 0)).arrays.empty());
  const std::string extra =
      R"({"\u00e9":{"x":[1,-2,2.5,null,true,{"y":{"dtype":[]}}],"d\u0074ype":"U8","shape":[1],)"
      R"("data_offsets":[0,1],"z":"s"}})";
  CHECK(parse(file_of(extra, 1)).arrays.at(0).name == "\xc3\xa9");
}

TEST_CASE("ranges that do not tile the data exactly are refused") {
  const auto two = [](const std::string& first, const std::string& second) {
    return "{" + tensor("a", "U8", "[2]", first) + "," + tensor("b", "U8", "[2]", second) + "}";
  };
  CHECK(error_of(file_of(two("[0,2]", "[1,3]"), 3)).problem() == "two tensors overlap");
  CHECK(error_of(file_of(two("[0,2]", "[0,2]"), 2)).problem() == "two tensors overlap");
  CHECK(error_of(file_of(two("[0,2]", "[3,5]"), 5)).problem() == "there is a hole before a tensor");
  CHECK(error_of(file_of(two("[1,3]", "[3,5]"), 5)).field() == "a");
  CHECK(error_of(file_of(two("[0,2]", "[4,2]"), 4)).problem() == "data_offsets end before they begin");
  CHECK(error_of(file_of(two("[0,2]", "[2,4]"), 5)).problem() == "bytes follow the last tensor");
  CHECK(error_of(file_of("{}", 1)).problem() == "bytes follow the last tensor");
  const Error cut = error_of(file_of(two("[0,2]", "[2,4]"), 3));
  CHECK(cut.problem() == "the data is cut short");
  CHECK(cut.found() == std::to_string(8 + two("[0,2]", "[2,4]").size() + 3) + " bytes");
}

TEST_CASE("shapes that do not fit their range or overflow are refused") {
  for (const std::string shape :
       {"[2]", "[4]", "[]", "[0]", "[3,2]", "[9223372036854775807]", "[4611686018427387904,4]",
        "[4294967296,4294967296]", "[6148914691236517206]"}) {
    CAPTURE(shape);
    CHECK(error_of(file_of(one("U8", shape, "[0,3]"), 3)).field() == "a");
  }
  for (const std::string shape : {"[0,4611686018427387904,4]", "[4611686018427387904,4,0]"}) {
    CHECK_THROWS_AS(parse(file_of(one("U8", shape, "[0,0]"), 0)), Error);
  }
  std::string ones = "[1";
  for (int i = 0; i < 63; ++i) ones += ",1";
  CHECK(parse(file_of(one("U8", ones + "]", "[0,1]"), 1)).arrays.at(0).shape.size() == 64);
  CHECK_THROWS_AS(parse(file_of(one("U8", ones + ",1]", "[0,1]"), 1)), Error);
}

TEST_CASE("values of the wrong kind are refused") {
  for (const std::string shape :
       {"[-1]", "[-0]", "[1.0]", "[1e0]", "[true]", "[null]", "[\"1\"]", "[[1]]", "[{}]", "1", "\"1\"",
        "null", "{}", "[9223372036854775808]", "[18446744073709551616]"}) {
    CAPTURE(shape);
    CHECK(error_of(file_of(one("U8", shape, "[0,1]"), 1)).kind() == ErrorKind::kFormat);
  }
  for (const std::string offsets : {"[]", "[0]", "[0,1,1]", "[0,1.0]", "[0,-1]", "[0,[1]]", "1", "null", "{}",
                                    "[0,9223372036854775808]", "[0,9223372036854775807]"}) {
    CAPTURE(offsets);
    CHECK(error_of(file_of(one("U8", "[1]", offsets), 1)).kind() == ErrorKind::kFormat);
  }
  for (const std::string header :
       {R"({"a":1})", R"({"a":[]})", R"({"a":null})", R"({"a":{}})", R"({"a":{"dtype":"U8","shape":[1]}})",
        R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", R"({"a":{"shape":[1],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}})",
        R"({"a":{"dtype":["U8"],"shape":[1],"data_offsets":[0,1]}})", R"({"__metadata__":{"a":1}})",
        R"({"__metadata__":{"a":null}})", R"({"__metadata__":{"a":{}}})", R"({"__metadata__":{"a":["b"]}})",
        R"({"__metadata__":[]})", R"({"__metadata__":null})", R"({"__metadata__":"x"})"}) {
    CAPTURE(header);
    CHECK(error_of(file_of(header, 1)).kind() == ErrorKind::kFormat);
  }
}

TEST_CASE("an unknown dtype is refused with its name") {
  for (const std::string dtype : {"u8", "F128", "", "F6"}) {
    CHECK(error_of(file_of(one(dtype, "[1]", "[0,1]"), 1)).found() == "'" + dtype + "'");
  }
}

TEST_CASE("no key may stand twice, at any depth") {
  const std::string a = tensor("a", "U8", "[1]", "[0,1]");
  for (const std::string& header :
       {"{" + a + "," + a + "}", std::string(R"({"__metadata__":{},"__metadata__":{}})"),
        std::string(R"({"__metadata__":{"a":"b","a":"c"}})"),
        std::string(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})"),
        std::string(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{"y":1,"y":1}}})")}) {
    CAPTURE(header);
    CHECK(error_of(file_of(header, 1)).problem().find("stands twice") != std::string::npos);
  }
}

TEST_CASE("bad JSON is refused with its offset and nothing of nlohmann's escapes") {
  const std::vector<std::string> headers = {
      "",
      " {}",
      "[]",
      "\"\"",
      "null",
      "\xef\xbb\xbf{}",
      "{",
      "{}x",
      "{}{}",
      "{}\0"s,
      "{\0}"s,
      "{,}",
      "{\"a\"}",
      "{\"a\":}",
      "{\"__metadata__\":{}",
      "{'a':1}",
      "{/**/}",
      "{\"a\x01\":1}",
      "{\"\xff\":1}",
      "{\"\\ud800\":1}",
      "{\"\\x\":1}",
      "{\"a\":{\"x\":1e999}}",
      "{\"a\":{\"x\":01}}",
      "{\"a\":{\"x\":NaN}}",
      "{\"a\":{\"x\":tru}}",
  };
  for (const std::string& header : headers) {
    CAPTURE(header);
    const Error error = error_of(file_of(header, 0));
    CHECK(error.kind() == ErrorKind::kFormat);
    REQUIRE(error.offset().has_value());
    CHECK(*error.offset() >= 8);
    CHECK(*error.offset() <= 8 + header.size());
    CHECK(
        std::all_of(error.found().begin(), error.found().end(), [](char c) { return c >= ' ' && c <= '~'; }));
  }
}

TEST_CASE("nesting is capped at 128 levels") {
  const auto nested = [](std::size_t levels) {
    return R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":)" + std::string(levels - 2, '[') +
           std::string(levels - 2, ']') + "}}";
  };
  CHECK(parse(file_of(nested(128), 1)).arrays.size() == 1);
  CHECK(error_of(file_of(nested(129), 1)).problem() == "the header is nested too deeply");
  CHECK(error_of(file_of(nested(1'000'000), 1)).problem() == "the header is nested too deeply");
}

TEST_CASE("a length of the header that cannot be is refused before anything is allocated") {
  for (const std::uint64_t length :
       {std::uint64_t{100'000'001}, std::uint64_t{1} << 63U, ~std::uint64_t{0}}) {
    CHECK(error_of(le(length, 8) + "{}").problem() == "the header is too long");
  }
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{100'000'000}}) {
    CHECK(error_of(le(length, 8) + "{}").problem() == "the header is cut short");
  }
}

TEST_CASE("a safetensors file cut anywhere is refused") {
  for (std::size_t size = 0; size < kGood.size(); ++size) {
    CAPTURE(size);
    CHECK_THROWS_AS(parse(std::string_view(kGood).substr(0, size)), Error);
  }
}

TEST_CASE("two reads fetch the header of a safetensors file, and none touches the data") {
  const RecordingSource source(kGood);
  (void)parse_safetensors(source);
  CHECK(source.furthest() == kGood.size() - 27);
  CHECK(source.reads() == 2);
}

TEST_CASE("any bytes in a safetensors file give a layout in bounds or an error") {
  constexpr std::string_view kLikely = "{}[]\",:0123456789-.eFUIB_ \\";
  std::mt19937_64 random(20240608);
  const std::array seeds = {kGood, file_of(one("F4", "[2,8]", "[0,8]"), 8)};
  int layouts = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string file = seeds[random() % seeds.size()];
    for (std::uint64_t change = random() % 3 + 1; change > 0; --change) {
      char& byte = file[random() % file.size()];
      byte = random() % 2 == 0 ? static_cast<char>(random()) : kLikely[random() % kLikely.size()];
    }
    layouts += accepts_soundly([&] { return parse(file); }, file.size()) ? 1 : 0;
  }
  CHECK(layouts > 100);
}
