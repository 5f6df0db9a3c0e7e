#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "assemble/token_source.h"
#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/raw.h"
#include "index/token_files.h"

namespace py = pybind11;

namespace penstock {
namespace {

TokenFormat token_format_named(const std::string& name) {
  if (name == "auto") return TokenFormat::kAuto;
  if (name == "raw") return TokenFormat::kRaw;
  if (name == "llm.c") return TokenFormat::kLlmC;
  if (name == "megatron") return TokenFormat::kMegatron;
  throw Error(ErrorKind::kSchema, "there is no such format of tokens")
      .needed("auto, raw, llm.c or megatron")
      .found("'" + name + "'");
}

std::unique_ptr<TokenFiles> open_tokens(const std::vector<std::string>& paths, const std::string& format,
                                        const std::optional<std::string>& dtype, const std::string& access) {
  const TokenFormat how = token_format_named(format);
  const std::optional<DType> type = dtype ? std::optional(dtype_named(*dtype)) : std::nullopt;
  const FileAccess file_access = access_named(access);
  const GilReleased unlocked;
  return std::make_unique<TokenFiles>(paths, how, type, file_access);
}

}  // namespace

void bind_tokens(py::module_& module) {
  py::class_<TokenFiles>(module, "TokenFiles")
      .def(py::init(&open_tokens), py::arg("paths"), py::arg("format"), py::arg("dtype"),
           py::arg("access") = "auto")
      .def_property_readonly("dtype",
                             [](const TokenFiles& self) { return std::string(dtype_name(self.dtype())); })
      .def_property_readonly("num_tokens", &TokenFiles::num_tokens)
      .def("num_left_out", &TokenFiles::num_left_out, py::arg("block_size"), py::arg("stride"))
      .def("windows", &TokenFiles::windows, py::arg("block_size"), py::arg("stride"));
  py::class_<TokenSource, Source, std::shared_ptr<TokenSource>>(module, "TokenSource")
      .def(py::init([](const std::shared_ptr<Column>& windows, std::optional<std::int64_t> vocab_size) {
             return std::make_shared<TokenSource>(TokenSource::Parts{windows, vocab_size, {0, 1}});
           }),
           py::arg("windows"), py::arg("vocab_size"));
}

}  // namespace penstock
