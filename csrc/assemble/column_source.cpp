#include "assemble/column_source.h"

#include <utility>

#include "assemble/gather.h"
#include "base/checksum.h"
#include "base/error.h"

namespace penstock {

ColumnSource::ColumnSource(std::shared_ptr<Column> column)
    : column_(std::move(column)),
      field_{column_->name(), column_->dtype(), column_->row_shape(), column_->row_bytes()} {}

void ColumnSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  penstock::gather(*column_, rows, outs.front());
}

/// By shards, not by storages: several shards may share one, and a pickle has each but once.
std::uint64_t ColumnSource::fingerprint() const {
  std::vector<std::int64_t> facts = rows_per_shard();
  for (std::int64_t shard = 0; shard < num_shards(); ++shard) {
    const Storage& storage = column_->storage_of(shard);
    if (!storage.path().empty()) facts.push_back(static_cast<std::int64_t>(storage.size()));
  }
  return fingerprint_of(fields()) ^ checksum(std::as_bytes(std::span(facts)));
}

std::shared_ptr<Source> ColumnSource::select(std::size_t /*field*/) { return shared_from_this(); }

std::shared_ptr<Source> ColumnSource::followed_by(const Source& other) const {
  const auto* rows = dynamic_cast<const ColumnSource*>(&other);
  if (rows == nullptr) throw different_kinds(field_);
  return std::make_shared<ColumnSource>(concatenate(*column_, rows->column()));
}

}  // namespace penstock
