#include <pybind11/numpy.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "bindings/bind.h"
#include "bindings/gil.h"
#include "bindings/rows.h"
#include "order/block_order.h"
#include "order/class_batches.h"
#include "order/class_index.h"
#include "order/length_batches.h"
#include "order/permutation.h"
#include "order/weighted.h"

namespace py = pybind11;

namespace penstock {
namespace {

using Float64Array = py::array_t<double, py::array::c_style | py::array::forcecast>;

/// A new array of `count` numbers, filled without the GIL.
template <typename Fill>
py::array_t<std::int64_t> filled(std::int64_t count, Fill fill) {
  py::array_t<std::int64_t> numbers(static_cast<py::ssize_t>(count));
  const std::span<std::int64_t> out(numbers.mutable_data(), static_cast<std::size_t>(count));
  const GilReleased unlocked;
  fill(out);
  return numbers;
}

/// Part of an object's array: no copy, keeps the object alive, not writable.
py::array view_of(std::span<const std::int64_t> numbers, const py::object& owner) {
  py::array view(py::dtype::of<std::int64_t>(), {static_cast<py::ssize_t>(numbers.size())}, {},
                 numbers.data(), owner);
  view.attr("setflags")(py::arg("write") = false);
  return view;
}

/// \throws Error kArgument unless first, first + step, ... (`count` positions) are all in [0, size)
void require_positions(std::int64_t size, std::int64_t first, std::int64_t count, std::int64_t step) {
  const bool inside = first >= 0 && step > 0 && count >= 0 &&
                      (count == 0 || (first < size && (size - 1 - first) / step >= count - 1));
  if (inside) return;
  throw Error(ErrorKind::kArgument, "the positions are outside the order")
      .needed("positions below " + std::to_string(size))
      .found(std::to_string(count) + " from " + std::to_string(first) + " in steps of " +
             std::to_string(step));
}

template <typename Order>
py::array_t<std::int64_t> take(const Order& order, std::int64_t size, std::int64_t first, std::int64_t count,
                               std::int64_t step) {
  require_positions(size, first, count, step);
  return filled(count, [&](std::span<std::int64_t> out) { order.fill(first, step, out); });
}

template <typename Batches>
py::array_t<std::int64_t> batch_of(const Batches& batches, std::int64_t number) {
  require_positions(INT64_MAX, number, 1, 1);
  return filled(batches.batch_size(), [&](std::span<std::int64_t> out) { batches.fill(number, out); });
}

std::int64_t num_stratified(const StratifiedBatches& self) {
  return self.num_full_batches() + (self.rest() > 0 ? 1 : 0);
}

py::array_t<std::int64_t> stratified_batch(const StratifiedBatches& self, std::int64_t number) {
  require_positions(num_stratified(self), number, 1, 1);
  const bool is_rest = number == self.num_full_batches();
  return filled(is_rest ? self.rest() : self.batch_size(),
                [&](std::span<std::int64_t> out) { self.fill(number, out); });
}

py::tuple blocks_between(const BlockOrder& self, std::int64_t begin, std::int64_t end) {
  require_positions(self.num_rows(), begin, end - begin, 1);
  const auto blocks = self.blocks(begin, end);
  py::array_t<std::int64_t> first(static_cast<py::ssize_t>(blocks.size()));
  py::array_t<std::int64_t> count(static_cast<py::ssize_t>(blocks.size()));
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    first.mutable_at(static_cast<py::ssize_t>(i)) = blocks[i].first;
    count.mutable_at(static_cast<py::ssize_t>(i)) = blocks[i].count;
  }
  const std::int64_t covered = blocks.empty() ? end : self.end_of_block(end - 1);
  return py::make_tuple(first, count, covered);
}

void bind_shuffles(py::module_& module) {
  py::class_<Permutation>(module, "Permutation")
      .def(py::init([](std::int64_t size, std::uint64_t seed, std::uint64_t epoch) {
             return Permutation(size, epoch_key(seed, epoch));
           }),
           py::arg("size"), py::arg("seed"), py::arg("epoch"))
      .def_property_readonly("size", &Permutation::size)
      .def(
          "take",
          [](const Permutation& self, std::int64_t first, std::int64_t count, std::int64_t step) {
            return take(self, self.size(), first, count, step);
          },
          py::arg("first"), py::arg("count"), py::arg("step") = 1);
  py::class_<BlockOrder>(module, "BlockOrder")
      .def(py::init([](const Int64Array& rows_per_shard, std::int64_t block_rows, std::int64_t window_rows,
                       std::uint64_t seed, std::uint64_t epoch) {
             return BlockOrder(vector_of(rows_per_shard), block_rows, window_rows, epoch_key(seed, epoch));
           }),
           py::arg("rows_per_shard"), py::arg("block_rows"), py::arg("window_rows"), py::arg("seed"),
           py::arg("epoch"))
      .def_property_readonly("num_rows", &BlockOrder::num_rows)
      .def("blocks", &blocks_between, py::arg("begin"), py::arg("end"))
      .def(
          "take",
          [](const BlockOrder& self, std::int64_t first, std::int64_t count, std::int64_t step) {
            return take(self, self.num_rows(), first, count, step);
          },
          py::arg("first"), py::arg("count"), py::arg("step") = 1);
}

std::shared_ptr<ClassIndex> make_class_index(const Int64Array& targets) {
  const GilReleased unlocked;
  return std::make_shared<ClassIndex>(vector_of(targets));
}

void bind_class_index(py::module_& module) {
  py::class_<ClassIndex, std::shared_ptr<ClassIndex>>(module, "ClassIndex")
      .def(py::init(&make_class_index), py::arg("targets"))
      .def_property_readonly(
          "labels",
          [](const py::object& self) { return view_of(self.cast<const ClassIndex&>().labels(), self); })
      .def_property_readonly(
          "first",
          [](const py::object& self) { return view_of(self.cast<const ClassIndex&>().first(), self); })
      .def_property_readonly("samples", [](const py::object& self) {
        return view_of(self.cast<const ClassIndex&>().samples(), self);
      });
}

template <typename Batches>
std::unique_ptr<Batches> make_batches(const std::shared_ptr<ClassIndex>& index, std::int64_t num_classes,
                                      std::int64_t samples_per_class, std::uint64_t seed,
                                      std::uint64_t epoch) {
  return std::make_unique<Batches>(index, num_classes, samples_per_class, epoch_key(seed, epoch));
}

void bind_class_batches(py::module_& module) {
  py::class_<BalancedBatches>(module, "BalancedBatches")
      .def(py::init(&make_batches<BalancedBatches>), py::arg("index"), py::arg("classes_per_batch"),
           py::arg("samples_per_class"), py::arg("seed"), py::arg("epoch"))
      .def("batch", &batch_of<BalancedBatches>, py::arg("number"));
  py::class_<Episodes>(module, "Episodes")
      .def(py::init(&make_batches<Episodes>), py::arg("index"), py::arg("num_ways"),
           py::arg("samples_per_class"), py::arg("seed"), py::arg("epoch"))
      .def("batch", &batch_of<Episodes>, py::arg("number"));
  py::class_<StratifiedBatches>(module, "StratifiedBatches")
      .def(py::init([](const std::shared_ptr<ClassIndex>& index, std::int64_t batch_size, std::uint64_t seed,
                       std::uint64_t epoch) {
             return std::make_unique<StratifiedBatches>(index, batch_size, epoch_key(seed, epoch));
           }),
           py::arg("index"), py::arg("batch_size"), py::arg("seed"), py::arg("epoch"))
      .def("batch", &stratified_batch, py::arg("number"));
}

std::unique_ptr<LengthBatches> make_length_batches(const std::shared_ptr<ClassIndex>& by_length,
                                                   std::int64_t batch_size, std::int64_t max_tokens,
                                                   std::int64_t pad_to_multiple,
                                                   std::int64_t batches_per_turn, double spread, bool shuffle,
                                                   bool longest_first, bool drop_last) {
  const LengthBatches::Options options{batch_size, max_tokens, pad_to_multiple, batches_per_turn,
                                       spread,     shuffle,    longest_first,   drop_last};
  const GilReleased unlocked;
  return std::make_unique<LengthBatches>(by_length, options);
}

py::array_t<std::int64_t> length_batch(const LengthBatches& self, std::int64_t number, std::uint64_t seed,
                                       std::uint64_t epoch) {
  require_positions(self.num_batches(), number, 1, 1);
  const std::uint64_t key = epoch_key(seed, epoch);
  const LengthBatches::Place place = self.find(number, key);
  return filled(place.size, [&](std::span<std::int64_t> out) { self.fill(place, key, out); });
}

void bind_length_batches(py::module_& module) {
  py::class_<LengthBatches>(module, "LengthBatches")
      .def(py::init(&make_length_batches), py::arg("by_length"), py::arg("batch_size"), py::arg("max_tokens"),
           py::arg("pad_to_multiple"), py::arg("batches_per_turn"), py::arg("spread"), py::arg("shuffle"),
           py::arg("longest_first"), py::arg("drop_last"))
      .def_property_readonly("num_batches", &LengthBatches::num_batches)
      .def("batch", &length_batch, py::arg("number"), py::arg("seed"), py::arg("epoch"));
}

py::array_t<std::int64_t> weighted_draws(const AliasTable& self, std::int64_t first, std::int64_t count,
                                         std::int64_t step, std::uint64_t seed, std::uint64_t epoch) {
  require_positions(Permutation::kMostElements, first, count, step);
  return filled(count,
                [&](std::span<std::int64_t> out) { self.draw(epoch_key(seed, epoch), first, step, out); });
}

std::unique_ptr<AliasTable> make_alias_table(const Float64Array& weights) {
  const GilReleased unlocked;
  return std::make_unique<AliasTable>(vector_of(weights));
}

py::array_t<std::int64_t> unreplaced_draws(const Float64Array& weights, std::int64_t count,
                                           std::uint64_t seed, std::uint64_t epoch) {
  std::vector<std::int64_t> drawn;
  {
    const GilReleased unlocked;
    drawn = draw_without_replacement(vector_of(weights), count, epoch_key(seed, epoch));
  }
  return py::array_t<std::int64_t>(static_cast<py::ssize_t>(drawn.size()), drawn.data());
}

void bind_weighted(py::module_& module) {
  py::class_<AliasTable>(module, "AliasTable")
      .def(py::init(&make_alias_table), py::arg("weights"))
      .def("draw", &weighted_draws, py::arg("first"), py::arg("count"), py::arg("step"), py::arg("seed"),
           py::arg("epoch"));
  module.def(
      "require_weights",
      [](const Float64Array& weights, std::int64_t num_positive) {
        require_weights(vector_of(weights), num_positive);
      },
      py::arg("weights"), py::arg("num_positive"));
  module.def("draw_without_replacement", &unreplaced_draws, py::arg("weights"), py::arg("count"),
             py::arg("seed"), py::arg("epoch"));
}

}  // namespace

void bind_order(py::module_& module) {
  bind_shuffles(module);
  bind_class_index(module);
  bind_class_batches(module);
  bind_length_batches(module);
  bind_weighted(module);
}

}  // namespace penstock
