#include <pybind11/stl.h>

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "assemble/table.h"
#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/python_images.h"
#include "bindings/rows.h"
#include "bindings/tensors.h"
#include "loader/pending_batch.h"

namespace py = pybind11;

namespace penstock {
namespace {

/// What must not be freed before the threads of a batch have left it.
struct Held {
  std::shared_ptr<Table> table;
  OutputTensors outs;
  std::shared_ptr<PendingBatch> batch;
};

/// Calls a batch off. (A pending call of Python's.)
int call_off(void* held) {
  const std::unique_ptr<Held> mine(static_cast<Held*>(held));
  const GilReleased unlocked;
  mine->batch->cancel();
  return 0;
}

/// A pending batch as Python holds it: with what its threads must not free, and called off when dropped.
class Pending {
 public:
  Pending(std::shared_ptr<Table> table, const py::object& indices) : table_(std::move(table)) {
    const Rows rows(indices, table_->num_rows());
    batch_ = std::make_shared<PendingBatch>(*table_, std::vector(rows.span().begin(), rows.span().end()));
  }

  Pending(std::shared_ptr<Table> table, const py::object& indices, const std::vector<py::capsule>& capsules)
      : table_(std::move(table)) {
    const Rows rows(indices, table_->num_rows());
    outs_ = OutputTensors(*table_, rows.size(), capsules);
    batch_ = std::make_shared<PendingBatch>(*table_, std::vector(rows.span().begin(), rows.span().end()),
                                            outs_.addresses());
  }

  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() {
    if (is_in_python_decoder()) {  // garbage, collected by a thread that may be one of the batch's
      auto held = std::make_unique<Held>(Held{std::move(table_), std::move(outs_), std::move(batch_)});
      Py_AddPendingCall(&call_off, held.release());  // where there are too many, it stays for ever
      return;
    }
    const GilReleased unlocked;
    batch_->cancel();
  }

  void submit() {
    const GilReleased unlocked;
    penstock::submit(batch_);
  }

  void drop_cache() { batch_->drop_cache(); }

  /// Nanoseconds of the monotonic clock: when its assembly began and ended.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> times() const {
    return {batch_->times().begun, batch_->times().done};
  }

  /// Returns once the batch is there; Ctrl-C is heard meanwhile.
  void wait() {
    while (true) {
      {
        const GilReleased unlocked;
        if (batch_->wait_for(std::chrono::milliseconds(50))) return;
      }
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
  }

  std::vector<py::capsule> take() {
    wait();
    std::vector<BatchBuffer> buffers = batch_->take_buffers();
    std::vector<py::capsule> capsules;
    capsules.reserve(buffers.size());
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      capsules.push_back(to_capsule(std::move(buffers[i]), table_->fields()[i].dtype,
                                    table_->batch_shape(i, batch_->num_rows())));
    }
    return capsules;
  }

 private:
  std::shared_ptr<Table> table_;
  OutputTensors outs_;
  std::shared_ptr<PendingBatch> batch_;
};

}  // namespace

void bind_loader(py::module_& module) {
  py::class_<Pending>(module, "Pending")
      .def(py::init<std::shared_ptr<Table>, const py::object&>(), py::arg("table"), py::arg("indices"))
      .def(py::init<std::shared_ptr<Table>, const py::object&, const std::vector<py::capsule>&>(),
           py::arg("table"), py::arg("indices"), py::arg("outs"))
      .def("drop_cache", &Pending::drop_cache)
      .def("submit", &Pending::submit)
      .def("times", &Pending::times)
      .def("wait", &Pending::wait)
      .def("take", &Pending::take);
}

}  // namespace penstock
