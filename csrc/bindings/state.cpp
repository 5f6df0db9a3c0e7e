#include "bindings/state.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "assemble/column_source.h"
#include "assemble/ragged_source.h"
#include "assemble/token_source.h"
#include "base/dtype.h"
#include "base/error.h"
#include "formats/inflate.h"
#include "storage/file.h"

namespace py = pybind11;

namespace penstock {
namespace {

using Storages = std::vector<std::shared_ptr<Storage>>;
using StorageNumbers = std::map<const Storage*, std::size_t>;

py::tuple file_state(const FileStorage& file) {
  const FileIdentity& id = file.identity();
  return py::make_tuple(py::bytes(file.path()), id.device, id.inode, id.size, id.mtime_ns,
                        static_cast<int>(file.access()));
}

std::shared_ptr<FileStorage> file_from(const py::tuple& state) {
  const FileIdentity identity{state[1].cast<std::uint64_t>(), state[2].cast<std::uint64_t>(),
                              state[3].cast<std::uint64_t>(), state[4].cast<std::int64_t>()};
  return std::make_shared<FileStorage>(state[0].cast<std::string>(), identity,
                                       static_cast<FileAccess>(state[5].cast<int>()));
}

py::object deflated_state(const Deflated& it) {
  return py::make_tuple(it.offset, it.compressed_bytes, it.inflated_bytes, it.crc32);
}

Deflated deflated_from(const py::tuple& state) {
  return {state[0].cast<std::uint64_t>(), state[1].cast<std::uint64_t>(), state[2].cast<std::uint64_t>(),
          state[3].cast<std::uint32_t>()};
}

py::tuple storage_state(const Storage& storage) {
  if (const auto* file = dynamic_cast<const FileStorage*>(&storage)) {
    return py::make_tuple(file_state(*file), py::none());
  }
  if (const auto* inflated = dynamic_cast<const InflatedStorage*>(&storage)) {
    return py::make_tuple(file_state(inflated->file()), deflated_state(inflated->deflated()));
  }
  throw py::type_error("a column in memory cannot be pickled by its index");
}

std::shared_ptr<Storage> storage_from(const py::tuple& state) {
  const std::shared_ptr<FileStorage> file = file_from(state[0]);
  if (state[1].is_none()) return file;
  return std::make_shared<InflatedStorage>(file, deflated_from(state[1]));
}

template <typename T>
py::bytes packed(const std::vector<T>& items) {
  return {reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T)};
}

template <typename T>
std::vector<T> unpacked(const py::handle& bytes) {
  const auto text = bytes.cast<std::string>();
  std::vector<T> items(text.size() / sizeof(T));
  if (!items.empty()) std::memcpy(items.data(), text.data(), items.size() * sizeof(T));
  return items;
}

py::tuple column_state(const Column& column, const StorageNumbers& numbers) {
  py::list layouts;
  for (const RowLayout& layout : column.layouts()) {
    layouts.append(py::make_tuple(layout.row_stride, layout.strides, layout.byte_swapped));
  }
  std::vector<std::uint64_t> offsets;
  std::vector<std::uint32_t> storages;
  std::vector<std::uint32_t> shard_layouts;
  std::vector<std::int64_t> rows;
  for (std::int64_t i = 0; i < column.index().num_shards(); ++i) {
    const Shard& shard = column.shards()[static_cast<std::size_t>(i)];
    offsets.push_back(shard.offset);
    storages.push_back(static_cast<std::uint32_t>(numbers.at(&column.storage_of(i))));
    shard_layouts.push_back(shard.layout);
    rows.push_back(column.index().rows_of(i));
  }
  return py::make_tuple(column.name(), std::string(dtype_name(column.dtype())), column.row_shape(), layouts,
                        packed(offsets), packed(storages), packed(shard_layouts), packed(rows));
}

std::vector<Shard> shards_from(const py::tuple& state) {
  const auto offsets = unpacked<std::uint64_t>(state[4]);
  const auto storages = unpacked<std::uint32_t>(state[5]);
  const auto layouts = unpacked<std::uint32_t>(state[6]);
  if (storages.size() != offsets.size() || layouts.size() != offsets.size()) {
    throw Error(ErrorKind::kSchema, "the pickled index does not fit together");
  }
  std::vector<Shard> shards(offsets.size());
  for (std::size_t i = 0; i < shards.size(); ++i) shards[i] = {offsets[i], storages[i], layouts[i]};
  return shards;
}

/// Those that the shards lie in, in that order; renumbers the shards. A pickle numbers the files of all its
/// columns together.
Storages take_storages(const Storages& all, std::vector<Shard>& shards) {
  Storages taken;
  std::map<std::uint32_t, std::uint32_t> numbers;
  for (Shard& shard : shards) {
    if (shard.storage >= all.size()) {
      throw Error(ErrorKind::kSchema, "the pickled index does not fit together");
    }
    const auto [known, is_new] = numbers.try_emplace(shard.storage, static_cast<std::uint32_t>(taken.size()));
    if (is_new) taken.push_back(all[shard.storage]);
    shard.storage = known->second;
  }
  return taken;
}

std::shared_ptr<Column> column_from(const py::tuple& state, const Storages& storages) {
  Column::Parts parts;
  parts.name = state[0].cast<std::string>();
  const auto dtype = dtype_from_name(state[1].cast<std::string>());
  if (!dtype) throw Error(ErrorKind::kSchema, "the pickled index has an unknown dtype");
  parts.dtype = *dtype;
  parts.row_shape = state[2].cast<std::vector<std::int64_t>>();
  for (const py::handle layout : state[3]) {
    auto [row_stride, strides, swapped] =
        layout.cast<std::tuple<std::int64_t, std::vector<std::int64_t>, bool>>();
    parts.layouts.push_back({row_stride, std::move(strides), swapped});
  }
  parts.shards = shards_from(state);
  parts.storages = take_storages(storages, parts.shards);
  parts.rows = unpacked<std::int64_t>(state[7]);
  return std::make_shared<Column>(std::move(parts));
}

/// The column that a source's rows lie in, and what else it is made of: nothing, the offsets of rows of
/// different lengths, or the vocabulary and shifts of tokens.
std::pair<const Column*, py::object> parts_of(const Source& source) {
  if (const auto* rows = dynamic_cast<const ColumnSource*>(&source)) return {&rows->column(), py::none()};
  if (const auto* rows = dynamic_cast<const RaggedSource*>(&source)) {
    const auto offsets = std::as_bytes(rows->offsets().all());
    return {&rows->values(), py::bytes(reinterpret_cast<const char*>(offsets.data()), offsets.size())};
  }
  if (const auto* tokens = dynamic_cast<const TokenSource*>(&source)) {
    const TokenSource::Parts& parts = tokens->parts();
    return {parts.windows.get(), py::make_tuple(parts.vocab_size, parts.shifts)};
  }
  throw py::type_error("files of one sample each are pickled by their dataset");
}

std::shared_ptr<Source> source_from(const py::tuple& state, const Storages& storages) {
  std::shared_ptr<Column> column = column_from(state[0], storages);
  const py::object rest = state[1];
  if (rest.is_none()) return std::make_shared<ColumnSource>(std::move(column));
  if (py::isinstance<py::bytes>(rest)) {
    Offsets offsets(unpacked<std::int64_t>(rest), column->num_rows());
    return std::make_shared<RaggedSource>(std::move(column), std::move(offsets));
  }
  const auto [vocab_size, shifts] =
      rest.cast<std::pair<std::optional<std::int64_t>, std::vector<std::int64_t>>>();
  return std::make_shared<TokenSource>(TokenSource::Parts{std::move(column), vocab_size, shifts});
}

}  // namespace

py::tuple table_to_state(const Table& table) {
  StorageNumbers numbers;
  py::list storages;
  py::list sources;
  for (const auto& source : table.sources()) {
    const auto [column, rest] = parts_of(*source);
    for (const auto& storage : column->storages()) {
      if (!numbers.try_emplace(storage.get(), numbers.size()).second) continue;
      storages.append(storage_state(*storage));
    }
    sources.append(py::make_tuple(column_state(*column, numbers), rest));
  }
  return py::make_tuple(storages, sources);
}

std::shared_ptr<Table> table_from_state(const py::tuple& state) {
  Storages storages;
  for (const py::handle each : state[0]) storages.push_back(storage_from(each.cast<py::tuple>()));
  std::vector<std::shared_ptr<Source>> sources;
  for (const py::handle each : state[1]) sources.push_back(source_from(each.cast<py::tuple>(), storages));
  return std::make_shared<Table>(std::move(sources));
}

}  // namespace penstock
