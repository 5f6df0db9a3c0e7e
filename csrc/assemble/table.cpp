#include "assemble/table.h"

#include <algorithm>
#include <string>
#include <utility>

#include "assemble/gather.h"
#include "base/error.h"

namespace penstock {

Table::Table(std::vector<std::shared_ptr<Column>> columns) : columns_(std::move(columns)) {
  if (columns_.empty()) throw Error(ErrorKind::kSchema, "a dataset needs at least one field");
  const Column& first = *columns_.front();
  for (const auto& column : columns_) {
    if (column->num_rows() == first.num_rows()) continue;
    throw Error(ErrorKind::kSchema, "the fields disagree in their number of rows")
        .in_field(column->name())
        .needed(std::to_string(first.num_rows()) + " rows as in field '" + first.name() + "'")
        .found(std::to_string(column->num_rows()) + " rows");
  }
}

void Table::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) const {
  for (std::size_t i = 0; i < columns_.size(); ++i) penstock::gather(*columns_[i], rows, outs[i]);
}

void Table::will_need(std::int64_t first, std::int64_t count) const {
  for (const auto& column : columns_) column->will_need(first, count);
}

void Table::will_need(std::span<const std::int64_t> rows) const {
  for (const auto& column : columns_) column->will_need(rows);
}

void Table::will_not_need(std::span<const std::int64_t> rows) const noexcept {
  for (const auto& column : columns_) column->will_not_need(rows);
}

bool Table::exceeds_memory() const noexcept {
  return std::any_of(columns_.begin(), columns_.end(),
                     [](const auto& column) { return column->exceeds_memory(); });
}

std::shared_ptr<Table> concatenate(const Table& a, const Table& b) {
  if (a.columns().size() != b.columns().size()) {
    throw Error(ErrorKind::kSchema, "the datasets have different numbers of fields")
        .needed(std::to_string(a.columns().size()))
        .found(std::to_string(b.columns().size()));
  }
  std::vector<std::shared_ptr<Column>> columns;
  for (std::size_t i = 0; i < a.columns().size(); ++i) {
    columns.push_back(concatenate(*a.columns()[i], *b.columns()[i]));
  }
  return std::make_shared<Table>(std::move(columns));
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
