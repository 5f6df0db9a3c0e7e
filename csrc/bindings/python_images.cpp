#include "bindings/python_images.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/fork.h"
#include "bindings/bind.h"
#include "bindings/gil.h"

namespace py = pybind11;

namespace penstock {
namespace {

// --- who may go into Python ------------------------------------------------------------------------------

/// A thread that asks for the GIL when the interpreter has ended is killed or sleeps for ever. So there is a
/// gate in front of it, which is closed before, and whoever closes it waits for those inside. Never
/// destroyed.
struct Gate {
  ForkSafeMutex& mutex = *new ForkSafeMutex;  ///< guards all below; nobody holds it and waits for the GIL
  std::condition_variable_any* left = new std::condition_variable_any;
  std::int64_t inside = 0;
  bool is_closed = false;
};

Gate& gate = *new Gate;

void forget_parents_threads() {
  gate.left = new std::condition_variable_any;
  gate.inside = 0;
}

[[maybe_unused]] const bool kForgottenInChild = (on_fork_in_child(&forget_parents_threads), true);

void close_gate() {
  const GilReleased unlocked;  // those inside need it to come out
  std::unique_lock lock(gate.mutex);
  gate.is_closed = true;
  gate.left->wait(lock, [] { return gate.inside == 0; });
}

thread_local bool in_decoder = false;

class Inside {
 public:
  Inside() {
    const std::scoped_lock lock(gate.mutex);
    if (gate.is_closed) {
      throw Error(ErrorKind::kShard, "Python is about to end: Pillow cannot decode any more images");
    }
    ++gate.inside;
    in_decoder = true;
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  ~Inside() {
    in_decoder = false;
    const std::scoped_lock lock(gate.mutex);
    if (--gate.inside == 0) gate.left->notify_all();
  }
};

// --- what Python raises ----------------------------------------------------------------------------------

/// Something that is no Exception, such as KeyboardInterrupt: not the image's fault. Raised anew where the
/// call into the core ends. Holds no object that would need the GIL when it goes.
class PythonRaised : public std::exception {
 public:
  PythonRaised(PyObject* type, std::string text) : type_(type), text_(std::move(text)) {}

  void raise() const { PyErr_SetString(type_, text_.c_str()); }

 private:
  PyObject* type_;  ///< never freed
  std::string text_;
};

void translate(std::exception_ptr pointer) {
  if (!pointer) return;
  try {
    std::rethrow_exception(pointer);
  } catch (const PythonRaised& error) {
    error.raise();
  }
}

/// Calls `ask` with the GIL, and makes the core's errors of what it raises.
template <typename Ask>
void in_python(const Ask& ask) {
  const Inside inside;
  const GilHeld locked;
  try {
    ask();
  } catch (const py::error_already_set& raised) {
    if (raised.matches(PyExc_MemoryError)) throw std::bad_alloc();
    std::string text = py::str(raised.value());
    if (!raised.matches(PyExc_Exception)) throw PythonRaised(py::object(raised.type()).release().ptr(), text);
    if (text.empty()) text = py::str(raised.type().attr("__name__"));
    throw format_error("Pillow cannot decode it: " + text);
  }
}

// --- an image --------------------------------------------------------------------------------------------

PyObject* opener = nullptr;  // never freed; guarded by the GIL

const char* name_of(ColorMode mode) noexcept {
  switch (mode) {
    case ColorMode::kL: return "L";
    case ColorMode::kRGB: return "RGB";
    default: return "unchanged";
  }
}

/// Samples from one pixel to the next, as Python hands them over: three channels lie in four.
std::int64_t given_lanes(const PixelType& type) noexcept { return type.channels == 3 ? 4 : type.channels; }

class PythonDecoder final : public Decoder {
 public:
  /// Takes what the opener gave. \pre the GIL is held
  PythonDecoder(const py::tuple& opened, const DecodeOptions& options) {
    info_.format = ImageFormat::kOther;
    info_.width = opened[0].cast<std::int32_t>();
    info_.height = opened[1].cast<std::int32_t>();
    if (info_.width < 1 || info_.height < 1) throw format_error("this image has no pixels");
    require_pixels(info_.width, info_.height, options.max_pixels);
    info_.type = {opened[2].cast<std::int32_t>(), options.sample_bytes};
    info_.has_alpha = opened[3].cast<bool>();
    info_.orientation = opened[4].cast<std::int32_t>();
    decode_ = opened[5].cast<py::object>().release().ptr();
  }
  PythonDecoder(const PythonDecoder&) = delete;
  PythonDecoder& operator=(const PythonDecoder&) = delete;
  ~PythonDecoder() override {
    if (decode_ == nullptr) return;
    try {
      const Inside inside;
      const GilHeld locked;
      Py_DECREF(decode_);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the interpreter ends, and it with it
    }
  }

  [[nodiscard]] const ImageInfo& info() const noexcept override { return info_; }

  [[nodiscard]] DecodeReport decode(const Rect& part, std::int32_t, std::int32_t strip_rows,
                                    PixelBuffer& buffer, const StripSink& sink) override {
    const PixelView all = buffer.reset(part.width, part.height, info_.type);
    in_python([&] {
      const py::object pixels =
          py::handle(decode_)(part.x, part.y, part.x + part.width, part.y + part.height);
      Py_CLEAR(decode_);
      copy(pixels.cast<py::bytes>(), all);
    });
    for (std::int32_t y = 0; y < part.height; y += strip_rows) {
      sink(all.part({0, y, part.width, std::min(strip_rows, part.height - y)}));
    }
    return {};
  }

 private:
  static void copy(const py::bytes& given, const PixelView& out) {
    const auto bytes = std::string_view(given);
    const std::int64_t row_bytes = out.width * given_lanes(out.type) * out.type.sample_bytes;
    if (static_cast<std::int64_t>(bytes.size()) != row_bytes * out.height) {
      throw format_error("Pillow cannot decode it: there are more or fewer pixels than its header says");
    }
    const GilReleased unlocked;
    const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data());
    if (out.type.channels == 2) return copy_from(from, out);
    for (std::int32_t y = 0; y < out.height; ++y, from += row_bytes) {
      std::memcpy(out.row(y), from, static_cast<std::size_t>(row_bytes));
    }
  }

  ImageInfo info_;
  PyObject* decode_ = nullptr;  ///< until it has been called
};

/// A function (data, mode, bits, orientation) -> nothing where it does not know the format, or (width,
/// height, channels, whether the last is alpha, orientation, decode). Then decode(left, top, right, bottom)
/// -> bytes of that part: samples of the bits asked for, three channels in four.
void set_image_opener(const py::object& function) {
  Py_XDECREF(std::exchange(opener, py::object(function).release().ptr()));
}

}  // namespace

bool is_in_python_decoder() noexcept { return in_decoder; }

std::unique_ptr<Decoder> open_by_python(Bytes bytes, const DecodeOptions& options) {
  std::unique_ptr<Decoder> decoder;
  in_python([&] {
    if (opener == nullptr) return;
    const py::bytes data(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const py::object opened =
        py::handle(opener)(data, name_of(options.mode), options.sample_bytes * 8, options.read_orientation);
    if (!opened.is_none()) decoder = std::make_unique<PythonDecoder>(opened.cast<py::tuple>(), options);
  });
  return decoder;
}

void bind_python_images(py::module_& module) {
  py::register_exception_translator(&translate);
  module.def("set_image_opener", &set_image_opener, py::arg("opener"));
  module.def("close_image_opener", &close_gate);
}

}  // namespace penstock
