#include "assemble/table.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "assemble/batch_buffer.h"
#include "assemble/column_source.h"
#include "assemble/thread_pool.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/random.h"

namespace penstock {
namespace {

std::vector<std::shared_ptr<Source>> sources_of(const std::vector<std::shared_ptr<Column>>& columns) {
  std::vector<std::shared_ptr<Source>> sources;
  sources.reserve(columns.size());
  for (const auto& column : columns) sources.push_back(std::make_shared<ColumnSource>(column));
  return sources;
}

}  // namespace

Table::Table(std::vector<std::shared_ptr<Source>> sources) : sources_(std::move(sources)) {
  if (sources_.empty()) throw Error(ErrorKind::kSchema, "a dataset needs at least one field");
  std::optional<std::uint64_t> work = 0;
  for (const auto& source : sources_) {
    fields_.insert(fields_.end(), source->fields().begin(), source->fields().end());
    work = checked_add(*work, static_cast<std::uint64_t>(source->row_work()));
    if (!work) throw Error(ErrorKind::kSchema, "a sample is impossibly large").in_field(fields_.back().name);
    if (source->num_rows() == num_rows()) continue;
    throw Error(ErrorKind::kSchema, "the fields disagree in their number of rows")
        .in_field(source->fields().front().name)
        .needed(std::to_string(num_rows()) + " rows as in field '" + fields_.front().name + "'")
        .found(std::to_string(source->num_rows()) + " rows");
  }
}

Table::Table(const std::vector<std::shared_ptr<Column>>& columns) : Table(sources_of(columns)) {}

std::int64_t Table::row_work() const noexcept {
  return std::accumulate(sources_.begin(), sources_.end(), std::int64_t{0},
                         [](std::int64_t sum, const auto& source) { return sum + source->row_work(); });
}

std::shared_ptr<Table> Table::in_batch(std::span<const std::int64_t> rows, const RaggedLayout& layout,
                                       std::span<const Padding> paddings) {
  if (!is_ragged()) return shared_from_this();
  std::vector<std::shared_ptr<Source>> sources;
  std::vector<std::shared_ptr<Source>> lengths;
  for (const auto& source : sources_) {
    const std::span<const Field> fields = source->fields();
    sources.push_back(source->in_batch(rows, layout, paddings.first(fields.size())));
    paddings = paddings.subspan(fields.size());
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (fields[i].is_ragged) lengths.push_back(sources.back()->lengths(i, layout.max_length));
    }
  }
  sources.insert(sources.end(), lengths.begin(), lengths.end());
  return std::make_shared<Table>(std::move(sources));
}

bool Table::is_ragged() const noexcept {
  return std::any_of(fields_.begin(), fields_.end(), [](const Field& field) { return field.is_ragged; });
}

std::vector<std::int64_t> Table::batch_shape(std::size_t field, std::int64_t rows) const {
  const auto [source, number] = source_of(field);
  return source->batch_shape(number, rows);
}

std::size_t Table::batch_bytes(std::size_t field, std::int64_t rows) const {
  auto bytes = static_cast<std::size_t>(item_bytes(fields_[field].dtype));
  for (const std::int64_t length : batch_shape(field, rows)) bytes = bytes_of_rows(bytes, length);
  return bytes;
}

void Table::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) const {
  constexpr std::int64_t kWorthAThread = std::int64_t{1} << 20U;
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t slices =
      std::min(count, std::clamp<std::int64_t>(count * row_work() / kWorthAThread, 1, num_threads()));
  run_parallel(slices, [&](std::int64_t slice) {
    gather(rows, count * slice / slices, count * (slice + 1) / slices, outs);
  });
}

void Table::gather(std::span<const std::int64_t> rows, std::int64_t begin, std::int64_t end,
                   std::span<std::byte* const> outs) const {
  rows = rows.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  std::vector<std::byte*> places;
  for (const auto& source : sources_) {
    places.assign(outs.begin(), outs.begin() + static_cast<std::ptrdiff_t>(source->fields().size()));
    for (std::size_t i = 0; i < places.size(); ++i) places[i] += source->place(i, begin);
    source->gather(rows, places);
    outs = outs.subspan(places.size());
  }
}

void Table::will_need(std::int64_t first, std::int64_t count) const {
  for (const auto& source : sources_) source->will_need(first, count);
}

void Table::will_need(std::span<const std::int64_t> rows) const {
  for (const auto& source : sources_) source->will_need(rows);
}

void Table::will_not_need(std::span<const std::int64_t> rows) const noexcept {
  for (const auto& source : sources_) source->will_not_need(rows);
}

bool Table::asks_ahead() const noexcept {
  return std::any_of(sources_.begin(), sources_.end(),
                     [](const auto& source) { return source->asks_ahead(); });
}

std::uint64_t Table::fingerprint() const {
  std::uint64_t sum = 0;
  for (const auto& source : sources_) sum = mix64(sum ^ source->fingerprint());
  return sum;
}

std::pair<Source*, std::size_t> Table::source_of(std::size_t field) const noexcept {
  auto source = sources_.begin();
  for (; field >= (*source)->fields().size(); ++source) field -= (*source)->fields().size();
  return {source->get(), field};
}

bool Table::is_random() const noexcept {
  return std::any_of(sources_.begin(), sources_.end(),
                     [](const auto& source) { return source->is_random(); });
}

std::shared_ptr<Table> Table::in_epoch(std::uint64_t key) const {
  std::vector<std::shared_ptr<Source>> sources;
  sources.reserve(sources_.size());
  for (const auto& source : sources_) sources.push_back(source->in_epoch(key));
  return std::make_shared<Table>(std::move(sources));
}

std::shared_ptr<Table> Table::select(std::size_t field) const {
  const auto [source, number] = source_of(field);
  return std::make_shared<Table>(std::vector{source->select(number)});
}

std::shared_ptr<Table> concatenate(const Table& a, const Table& b) {
  if (a.sources().size() != b.sources().size() || a.fields().size() != b.fields().size()) {
    throw Error(ErrorKind::kSchema, "the datasets have different numbers of fields")
        .needed(std::to_string(a.fields().size()))
        .found(std::to_string(b.fields().size()));
  }
  std::vector<std::shared_ptr<Source>> sources;
  for (std::size_t i = 0; i < a.sources().size(); ++i) {
    sources.push_back(a.sources()[i]->followed_by(*b.sources()[i]));
  }
  return std::make_shared<Table>(std::move(sources));
}

void normalize_rows(std::span<std::int64_t> rows, std::int64_t num_rows) {
  for (std::int64_t& row : rows) {
    if (row < -num_rows || row >= num_rows) {
      throw Error(ErrorKind::kIndex, "outside the dataset of " + std::to_string(num_rows) + " rows")
          .at_row(row);
    }
    row += row < 0 ? num_rows : 0;
  }
}

}  // namespace penstock
