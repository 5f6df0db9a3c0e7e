#include "assemble/table.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "assemble/column_source.h"
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

void Table::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) const {
  for (const auto& source : sources_) {
    source->gather(rows, outs.first(source->fields().size()));
    outs = outs.subspan(source->fields().size());
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

std::shared_ptr<Table> Table::select(std::size_t field) const {
  auto source = sources_.begin();
  for (; field >= (*source)->fields().size(); ++source) field -= (*source)->fields().size();
  return std::make_shared<Table>(std::vector{(*source)->select(field)});
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
