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
#include "base/text.h"
#include "format_checks.h"
#include "formats/npy.h"
#include "formats/py_literal.h"
#include "recording_source.h"

using namespace penstock;
using namespace penstock::testing;

namespace {

std::string npy(const std::string& header, std::size_t data_bytes, char major_version = 1) {
  std::string file = std::string("\x93NUMPY") + major_version + '\0';
  const int length_bytes = major_version == 1 ? 2 : 4;
  for (int i = 0; i < length_bytes; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xFFU);
  return file + header + std::string(data_bytes, 'x');
}

std::string dict(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

FileLayout parse(std::string_view file) { return parse_npy(MemorySource(as_bytes(file))); }

Error error_of(std::string_view file) {
  return error_from([&] { return parse(file); });
}

ArrayLayout only_array(const std::string& header, std::size_t data_bytes = 4096, char major_version = 1) {
  const std::string file = npy(header, data_bytes, major_version);
  const FileLayout layout = parse(file);
  REQUIRE(layout.arrays.size() == 1);
  CHECK(layout.arrays[0].offset == file.size() - data_bytes);
  return layout.arrays[0];
}

const ArrayLayout& find(const FileLayout& layout, std::string_view name) {
  const auto found = std::find_if(layout.arrays.begin(), layout.arrays.end(),
                                  [&](const ArrayLayout& each) { return each.name == name; });
  REQUIRE(found != layout.arrays.end());
  return *found;
}

const std::string kCanonical = npy(dict("'<f4'", "(3, 4)") + std::string(58, ' ') + "\n", 48);
const std::string kStructured = npy(
    dict("[('a', '<f4'), ('', '|V3'), (('t', 'b'), [('c', '>i2', (2,)), ('d', '|u1')], (2,)), ('e', '|S3')]",
         "(2, 3)", "True"),
    120);

}  // namespace

TEST_CASE("a canonical file is one array without a name") {
  REQUIRE(kCanonical.size() == 128 + 48);
  const FileLayout layout = parse(kCanonical);
  CHECK(layout.format == "npy");
  CHECK(layout.container == Container::kArray);
  CHECK(layout.refused.empty());
  REQUIRE(layout.arrays.size() == 1);
  const ArrayLayout& array = layout.arrays[0];
  CHECK(array.name.empty());
  CHECK(array.dtype == DType::kFloat32);
  CHECK_FALSE(array.byte_swapped);
  CHECK(array.shape == Numbers{3, 4});
  CHECK(array.strides == Numbers{16, 4});
  CHECK(array.offset == 128);
  CHECK_FALSE(array.deflated.has_value());
}

TEST_CASE("every dtype that torch shares with numpy is read in both byte orders") {
  struct Case {
    std::string code;
    DType dtype;
  };
  const std::vector<Case> cases = {
      {"b1", DType::kBool},      {"i1", DType::kInt8},        {"u1", DType::kUInt8},
      {"i2", DType::kInt16},     {"u2", DType::kUInt16},      {"i4", DType::kInt32},
      {"u4", DType::kUInt32},    {"i8", DType::kInt64},       {"u8", DType::kUInt64},
      {"f2", DType::kFloat16},   {"f4", DType::kFloat32},     {"f8", DType::kFloat64},
      {"c8", DType::kComplex64}, {"c16", DType::kComplex128},
  };
  for (const Case& each : cases) {
    for (const std::string order : {"", "<", "=", "|", ">"}) {
      CAPTURE(order + each.code);
      const ArrayLayout array = only_array(dict("'" + order + each.code + "'", "(2,)"));
      CHECK(array.dtype == each.dtype);
      CHECK(array.byte_swapped == (order == ">" && item_bytes(each.dtype) > 1));
      CHECK(array.strides == Numbers{item_bytes(each.dtype)});
    }
  }
}

TEST_CASE("the header may be written in every way that numpy accepts") {
  const std::string plain = dict("'<f4'", "(2, 3)");
  const std::vector<std::string> headers = {
      plain,
      plain + "\n",
      " \t" + plain,
      "\n" + plain,
      "# a comment\n" + plain + "# another",
      "(" + plain + ")",
      "{'shape': (2, 3), 'descr': '<f4', 'fortran_order': False}",
      "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":False}",
      "{'shape': (9,), 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
      "{'sh' \"ape\": (2, 3), 'de\\\nscr': '<' 'f4', u'fortran_order' :\r\n\tFalse}",
      dict("'f4'", "(2, 3,)"),
      dict("'=f4'", "(0x2, 0X3)"),
      dict("'|f4'", "(0b10, 0o3)"),
      dict("'float32'", "(2L, 3 L)"),
      dict("'single'", "((2), +3)"),
      dict("('<f4')", "(2, # rows\n 3)"),
      dict("u'f'", "(2, \\\n3)"),
  };
  for (const std::string& header : headers) {
    CAPTURE(header);
    const ArrayLayout array = only_array(header);
    CHECK(array.dtype == DType::kFloat32);
    CHECK(array.shape == Numbers{2, 3});
  }
}

TEST_CASE("all three versions are read, and ints with an L only where Python 2 can have written them") {
  for (const char version : {'\1', '\2', '\3'}) {
    CHECK(only_array(dict("'<i8'", "(5,)"), 40, version).shape == Numbers{5});
  }
  CHECK(only_array(dict("'<i8'", "(5L,)"), 40, 2).shape == Numbers{5});
  CHECK_THROWS_AS(parse(npy(dict("'<i8'", "(5L,)"), 40, 3)), Error);
}

TEST_CASE("arrays without dimensions, without elements and with bytes after them are read") {
  CHECK(only_array(dict("'<f8'", "()"), 8).shape.empty());
  CHECK(only_array(dict("'<f8'", "(0,)"), 0).shape == Numbers{0});
  CHECK(only_array(dict("'<f8'", "(3, 0, 9223372036854775)"), 0).shape == Numbers{3, 0, 9223372036854775});
  CHECK(only_array(dict("'<f8'", "(1,)"), 4096).shape == Numbers{1});
}

TEST_CASE("Fortran order is told by the strides") {
  CHECK(only_array(dict("'<f4'", "(2, 3, 4)", "True")).strides == Numbers{4, 8, 24});
  CHECK(only_array(dict("'<f4'", "()", "True")).strides.empty());
}

TEST_CASE("a structured dtype is one strided array for each field") {
  const FileLayout layout =
      parse(npy(dict("[('x', '>i2'), ('y', '<f8', (2, 3)), ('z', '|u1')]", "(5,)"), 5 * 51));
  CHECK(layout.container == Container::kMapping);
  REQUIRE(layout.arrays.size() == 3);
  const std::uint64_t data = layout.arrays[0].offset;
  CHECK(find(layout, "x").byte_swapped);
  CHECK(find(layout, "x").strides == Numbers{51});
  CHECK(find(layout, "y").shape == Numbers{5, 2, 3});
  CHECK(find(layout, "y").strides == Numbers{51, 24, 8});
  CHECK(find(layout, "y").offset == data + 2);
  CHECK(find(layout, "z").offset == data + 50);
}

TEST_CASE("nested fields, titles, padding and Fortran order of a structured dtype are followed") {
  const FileLayout layout = parse(kStructured);
  REQUIRE(layout.arrays.size() == 3);
  const std::uint64_t data = kStructured.size() - 120;
  CHECK(find(layout, "a").strides == Numbers{20, 40});
  CHECK(find(layout, "b.c").shape == Numbers{2, 3, 2, 2});
  CHECK(find(layout, "b.c").strides == Numbers{20, 40, 5, 2});
  CHECK(find(layout, "b.c").offset == data + 7);
  CHECK(find(layout, "b.d").offset == data + 11);
  REQUIRE(layout.refused.size() == 1);
  CHECK(layout.refused[0].name == "e");
}

TEST_CASE("the fields of a structured dtype may be written in every way that numpy accepts") {
  for (const std::string field : {"('a', '<f4', 2)", "['a', '<f4', [2]]", "('a', ('<f4', (2,)))",
                                  "(None, 'a'), '<f4', 2", "(u'title', 'a'), '<f4', (2,)"}) {
    CAPTURE(field);
    const std::string whole = field.starts_with("(N") || field.starts_with("(u") ? "(" + field + ")" : field;
    CHECK(find(parse(npy(dict("[" + whole + "]", "(3,)"), 24)), "a").shape == Numbers{3, 2});
  }
}

TEST_CASE("field names become UTF-8, whatever the version wrote them in") {
  CHECK(parse(npy(dict("[('\xe9', '<f4')]", "(1,)"), 4, 1)).arrays[0].name == "\xc3\xa9");
  CHECK(parse(npy(dict("[('\xc3\xa9', '<f4')]", "(1,)"), 4, 3)).arrays[0].name == "\xc3\xa9");
  CHECK_THROWS_AS(parse(npy(dict("[('\xe9', '<f4')]", "(1,)"), 4, 3)), Error);
}

TEST_CASE("an empty array of a struct lies at the start of the data, not behind it") {
  const std::string file = npy(dict("[('a', '<f4'), ('b', '<f4')]", "(0,)"), 0);
  const FileLayout layout = parse(file);
  CHECK(find(layout, "b").offset == file.size());
}

TEST_CASE("dtypes that torch cannot hold are refused by name and not thrown") {
  struct Case {
    std::string descr;
    std::size_t bytes;
    std::string reason;
  };
  const std::vector<Case> cases = {
      {"'|O'", 0, "never executes"}, {"'|S5'", 5, "byte strings"}, {"'<U2'", 8, "text"},
      {"'|V7'", 7, "raw bytes"},     {"'<M8[ns]'", 8, "times"},    {"'>m8[25s]'", 8, "times"},
      {"'<f16'", 16, "float64"},     {"'<c32'", 32, "complex128"}, {"'a5'", 5, "byte strings"},
  };
  for (const Case& each : cases) {
    CAPTURE(each.descr);
    const FileLayout layout = parse(npy(dict(each.descr, "(1,)"), each.bytes));
    CHECK(layout.arrays.empty());
    REQUIRE(layout.refused.size() == 1);
    CHECK(layout.refused[0].name.empty());
    CHECK(layout.refused[0].reason.find(each.reason) != std::string::npos);
    if (each.bytes > 0) CHECK_THROWS_AS(parse(npy(dict(each.descr, "(1,)"), each.bytes - 1)), Error);
  }
}

TEST_CASE("one field of objects makes every field a pickle") {
  const FileLayout layout = parse(npy(dict("[('n', '<f4'), ('o', '|O')]", "(100,)"), 7));
  CHECK(layout.arrays.empty());
  REQUIRE(layout.refused.size() == 2);
  CHECK(layout.refused[0].name == "n");
  CHECK(layout.refused[0].reason.find("beside a field of Python objects") != std::string::npos);
}

TEST_CASE("headers that numpy refuses are refused") {
  const std::string plain = dict("'<f4'", "(2,)");
  const std::vector<std::string> headers = {
      "",
      " ",
      "{",
      "{}",
      "[]",
      "3",
      "None",
      plain + plain,
      plain + ";",
      plain + '\0',
      plain + "\xa0",
      "(" + plain + ",)",
      "{'descr', 'shape'}",
      "{'descr': '<f4', 'fortran_order': False}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'extra': 1}",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 3: 1}",
      "{'descr': '<f4' 'fortran_order': False, 'shape': (2,)}",
      "{'descr' '<f4', 'fortran_order': False, 'shape': (2,)}",
      dict("'<f4'", "(2,)", "0"),
      dict("'<f4'", "(2,)", "None"),
      dict("'<f4'", "(2,)", "'True'"),
      dict("'<f4'", "(2,)", "true"),
      dict("'<f4'", "[2]"),
      dict("'<f4'", "2"),
      dict("'<f4'", "(2)"),
      dict("'<f4'", "(True,)"),
      dict("'<f4'", "(2.0,)"),
      dict("'<f4'", "(2e0,)"),
      dict("'<f4'", "('2',)"),
      dict("'<f4'", "(None,)"),
      dict("'<f4'", "(,)"),
      dict("'<f4'", "(2,,)"),
      dict("'<f4'", "(2 2,)"),
      dict("'<f4'", "(02,)"),
      dict("'<f4'", "(0x,)"),
      dict("'<f4'", "(2l,)"),
      dict("'<f4'", "(2LL,)"),
      dict("'<f4'", "(1__0,)"),
      dict("'<f4'", "(--2,)"),
      dict("'<f4'", "(1+1,)"),
      dict("'<f4'", "(-1,)"),
      dict("'<f4'", "(2"),
      dict("''", "(2,)"),
      dict("'<'", "(2,)"),
      dict("'<f3'", "(2,)"),
      dict("'<i16'", "(2,)"),
      dict("'>float32'", "(2,)"),
      dict("'bfloat16'", "(2,)"),
      dict("'i4,f4'", "(2,)"),
      dict("'Sx'", "(2,)"),
      dict("'S99999999999999999999'", "(2,)"),
      dict("b'<f4'", "(2,)"),
      dict("None", "(2,)"),
      dict("3", "(2,)"),
      dict("('<f4', (2,))", "(2,)"),
      dict("{'a': 'b'}", "(2,)"),
      dict("'<f4\n'", "(2,)"),
      dict("'<f4", "(2,)"),
      dict("'\\x3cf4'", "(2,)"),
      dict("'''<f4'''", "(2,)"),
      dict("['a']", "(2,)"),
      dict("[('a',)]", "(2,)"),
      dict("[('a', '<f4', 2, 3)]", "(2,)"),
      dict("[(1, '<f4')]", "(2,)"),
      dict("[('a', '<f4', True)]", "(2,)"),
      dict("[('a', '<f4', (-1,))]", "(2,)"),
      dict("[('a', '<f4'), ('a', '<f4')]", "(2,)"),
      dict("[(('b', 'a'), '<f4'), ('b', '<f4')]", "(2,)"),
  };
  for (const std::string& header : headers) {
    CAPTURE(header);
    CHECK(error_of(npy(header, 4096)).kind() == ErrorKind::kFormat);
  }
}

TEST_CASE("two nested fields whose joined names are equal are refused") {
  CHECK_THROWS_AS(parse(npy(dict("[('a.b', '<f4'), ('a', [('b', '<f4')])]", "(1,)"), 8)), Error);
}

TEST_CASE("only versions 1.0, 2.0 and 3.0 of the right magic are read") {
  for (const char version : {'\0', '\4', '\xff'}) {
    CHECK(error_of(npy(dict("'<f4'", "(2,)"), 8, version)).problem() ==
          "an unknown version of the .npy format");
  }
  std::string file = kCanonical;
  file[7] = 1;
  CHECK(error_of(file).found() == "1.1");
  file = kCanonical;
  file[0] = 'x';
  CHECK_THROWS_AS(parse(file), Error);
}

TEST_CASE("a header of 10,000 bytes is read and one byte more is refused") {
  std::string header = dict("'<f4'", "(2,)");
  header.resize(10'000, ' ');
  CHECK(only_array(header).shape == Numbers{2});
  CHECK(error_of(npy(header + " ", 4096)).problem() == "the header is too long");
  CHECK(error_of(npy(header + " ", 4096, 2)).problem() == "the header is too long");
}

TEST_CASE("deep nesting is an error and no stack overflow") {
  const std::string open(5'000, '(');
  CHECK(error_of(npy(open, 0)).problem() == "the Python literal is nested too deeply");
  CHECK_THROWS_AS(parse(npy(dict(std::string(3'000, '['), "(2,)"), 0)), Error);
  CHECK(only_array(std::string(50, '(') + dict("'<f4'", "(2,)") + std::string(50, ')')).shape == Numbers{2});
}

TEST_CASE("sizes that overflow are refused") {
  for (const std::string shape :
       {"(9223372036854775807,)", "(4294967296, 4294967296)", "(2305843009213693952,)",
        "(9223372036854775808,)", "(99999999999999999999999999,)", "(0, 4611686018427387904, 4)",
        "(4611686018427387904, 4, 0)", "(0xffffffffffffffff,)", "(1152921504606846975, 2)"}) {
    CAPTURE(shape);
    CHECK(error_of(npy(dict("'<f8'", shape), 64)).kind() == ErrorKind::kFormat);
    CHECK(error_of(npy(dict("[('a', '<f8')]", shape), 64)).kind() == ErrorKind::kFormat);
    CHECK(error_of(npy(dict("[('a', '<f8', " + shape + ")]", "(1,)"), 64)).kind() == ErrorKind::kFormat);
  }
  CHECK_THROWS_AS(parse(npy(dict("[('a', '|V2147483647'), ('b', '|V2147483647')]", "(0,)"), 0)), Error);
  const Error error = error_of(npy(dict("'<f8'", "(4294967296, 4294967296)"), 8));
  CHECK(error.problem() == "the header wants an impossibly large array");
  CHECK(error.needed() == "an array of fewer than 2**63 bytes");
  CHECK(error.found() == "shape (4294967296, 4294967296) of items of 8 bytes");
}

TEST_CASE("more than 64 dimensions are refused, those of a field included") {
  const auto ones = [](int count) {
    std::string shape = "(";
    for (int i = 0; i < count; ++i) shape += "1,";
    return shape + ")";
  };
  CHECK(only_array(dict("'<f4'", ones(64))).shape.size() == 64);
  CHECK_THROWS_AS(parse(npy(dict("'<f4'", ones(65)), 4)), Error);
  CHECK_THROWS_AS(parse(npy(dict("[('a', '<f4', (1,))]", ones(64)), 4)), Error);
}

TEST_CASE("data that is cut short is told in rows and bytes") {
  const std::string header = dict("'<f4'", "(4096, 128)") + std::string(54, ' ');
  const std::string file = npy(header, 1'048'576);
  REQUIRE(file.size() == 128 + 1'048'576);
  const Error error = error_of(file);
  CHECK(error.problem() == "the data is cut short");
  CHECK(error.needed() == "4096 rows of 512 bytes (2097280 bytes with the header)");
  CHECK(error.found() == "1048704 bytes");
  CHECK(error_of(npy(dict("'<f8'", "()"), 7)).needed().starts_with("one item of 8 bytes"));
}

TEST_CASE("a file cut anywhere is refused") {
  for (const std::string& file : {kCanonical, kStructured}) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      CAPTURE(size);
      CHECK_THROWS_AS(parse(std::string_view(file).substr(0, size)), Error);
    }
  }
}

TEST_CASE("two reads fetch the header, and none touches the data") {
  std::string long_header = dict("'<f4'", "(2,)");
  long_header.resize(9'000, ' ');
  for (const std::string& file : {npy(dict("'<f4'", "(2,)"), 8), npy(dict("'<f4'", "(2,)"), 8, 3),
                                  npy(long_header, 8), npy(dict("'|O'", "(2,)"), 8)}) {
    const RecordingSource source(file);
    (void)parse_npy(source);
    CHECK(source.furthest() == file.size() - 8);
    CHECK(source.reads() == 2);
  }
}

TEST_CASE("a header alone is enough when the size of the whole is told") {
  const std::string_view file = kCanonical;
  const auto parse_prefix = [&](std::size_t size, std::uint64_t total_bytes) {
    return parse_npy_header(as_bytes(file.substr(0, size)), total_bytes);
  };
  CHECK(parse_prefix(128, file.size()).arrays.at(0).offset == 128);
  CHECK(parse_prefix(130, file.size()).arrays.at(0).offset == 128);
  CHECK_THROWS_AS(parse_prefix(127, file.size()), Error);
  CHECK_THROWS_AS(parse_prefix(128, file.size() - 1), Error);
}

TEST_CASE("an error in the header gives its offset in the file") {
  const std::string header = dict("'<f4'", "(2, x)");
  CHECK(error_of(npy(header, 8)).offset() == 10 + header.find('x'));
  CHECK(error_of(npy(header, 8, 2)).offset() == 12 + header.find('x'));
  CHECK(error_of(npy(dict("'zz'", "(2,)"), 8)).offset() == 10 + header.find("'<f4'"));
}

TEST_CASE("any bytes give a layout in bounds or an error") {
  constexpr std::string_view kLikely = "()[]{}',\"0123456789 <>=|fiucbOSUVM#L-+_xo:\\\nTrueFalse";
  std::mt19937_64 random(20240607);
  const std::array seeds = {kCanonical, kStructured, npy(dict("'>c16'", "(2L, 0x3)", "True"), 96, 2)};
  int layouts = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string file = seeds[random() % seeds.size()];
    for (std::uint64_t change = random() % 4 + 1; change > 0; --change) {
      char& byte = file[random() % std::min<std::size_t>(file.size(), 160)];
      byte = random() % 2 == 0 ? static_cast<char>(random()) : kLikely[random() % kLikely.size()];
    }
    layouts += accepts_soundly([&] { return parse(file); }, file.size()) ? 1 : 0;
  }
  CHECK(layouts > 100);
}

TEST_CASE("text from a file is made harmless before it is shown") {
  CHECK(quoted_text("a\n\xff") == "'a\\x0a\\xff'");
  CHECK(quoted_text(std::string(100, 'a')) == "'" + std::string(60, 'a') + "...'");
}
