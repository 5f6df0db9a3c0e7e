#include "assemble/token_source.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "assemble/copy_rows.h"
#include "assemble/gather.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/random.h"
#include "formats/tokens.h"
#include "index/cumulative.h"
#include "storage/fault_guard.h"

namespace penstock {
namespace {

constexpr std::size_t kMostFields = 2;
constexpr std::array<const char*, kMostFields> kNames = {"x", "y"};

using Outs = std::array<std::byte*, kMostFields>;

/// What is done to a window, wherever it lies. Travels by value.
struct Windows {
  TokenKernels kernels;
  std::uint64_t limit;      ///< 0: any token will do
  std::int64_t block_size;  ///< tokens of a field's row
  std::int64_t row_bytes;   ///< of such a row, widened
  std::size_t num_fields;
  std::array<std::int64_t, kMostFields> shift_bytes;

  /// \returns whether every token is in the vocabulary; if not, nothing was written
  [[nodiscard]] bool widen(const std::byte* window, const Outs& outs) const noexcept {
    if (limit > 0 && kernels.largest(window, block_size + 1) >= limit) return false;
    for (std::size_t i = 0; i < num_fields; ++i) kernels.widen(window + shift_bytes[i], block_size, outs[i]);
    return true;
  }

  void advance(Outs& outs) const noexcept {
    for (std::size_t i = 0; i < num_fields; ++i) outs[i] += row_bytes;
  }
};

Windows windows_of(const TokenSource& source, const TokenKernels& kernels, std::uint64_t limit) {
  const Column& column = *source.parts().windows;
  const Field& field = source.fields().front();
  Windows windows{kernels, limit, field.row_shape.front(), field.row_bytes, source.fields().size(), {}};
  for (std::size_t i = 0; i < windows.num_fields; ++i) {
    windows.shift_bytes[i] = source.parts().shifts[i] * item_bytes(column.dtype());
  }
  return windows;
}

/// Windows in mapped files, for the fault guard.
struct MappedWindows {
  Windows windows;
  Locator locator;
  const ShardView* views;
  std::int64_t window_bytes;
  std::span<const std::int64_t> rows;
  Outs outs;
  std::size_t done;  ///< rows before the first that holds a token outside the vocabulary
};

void widen_rows(MappedWindows& borrowed) noexcept {
  constexpr std::size_t kAhead = 8;
  MappedWindows work = borrowed;  // a copy no store can alias: stays in registers
  const auto address_of = [&work](std::size_t i) {
    const Location at = work.locator.locate(work.rows[i]);
    const ShardView& view = work.views[at.shard];
    return view.first_row + at.row * view.row_stride;
  };
  for (std::size_t i = 0; i < std::min(kAhead, work.rows.size()); ++i) {
    prefetch_row(address_of(i), work.window_bytes);
  }
  for (work.done = 0; work.done < work.rows.size(); ++work.done) {
    const std::size_t coming = work.done + kAhead;
    if (coming < work.rows.size()) prefetch_row(address_of(coming), work.window_bytes);
    if (!work.windows.widen(address_of(work.done), work.outs)) break;
    work.windows.advance(work.outs);
  }
  borrowed.done = work.done;
}

std::int64_t require_windows(const TokenSource::Parts& parts) {
  const Column& column = *parts.windows;
  const bool are_windows = column.row_shape().size() == 1 && column.row_shape().front() >= 2;
  const bool shifts_fit = !parts.shifts.empty() && parts.shifts.size() <= kMostFields &&
                          std::all_of(parts.shifts.begin(), parts.shifts.end(),
                                      [](std::int64_t shift) { return shift == 0 || shift == 1; });
  if (!are_windows || !shifts_fit || !is_token_dtype(column.dtype())) {
    throw Error(ErrorKind::kSchema, "these are no windows of tokens").in_field(column.name());
  }
  if (parts.vocab_size && *parts.vocab_size < 1) {
    throw Error(ErrorKind::kSchema, "a vocabulary has at least one token")
        .found(std::to_string(*parts.vocab_size));
  }
  const std::int64_t block_size = column.row_shape().front() - 1;
  if (!checked_multiply(static_cast<std::uint64_t>(block_size), kMostFields * sizeof(std::int64_t))) {
    throw Error(ErrorKind::kSchema, "a window is impossibly large").in_field(column.name());
  }
  return block_size;
}

}  // namespace

struct TokenSource::Slice {
  std::span<const std::int64_t> rows;
  Outs outs;
};

TokenSource::TokenSource(Parts parts)
    : parts_(std::move(parts)),
      windows_(std::make_shared<ColumnSource>(parts_.windows)),
      kernels_(token_kernels(parts_.windows->dtype())),
      limit_(parts_.vocab_size ? kernels_.limit(*parts_.vocab_size) : 0) {
  const std::int64_t block_size = require_windows(parts_);
  const auto row_bytes = block_size * static_cast<std::int64_t>(sizeof(std::int64_t));
  for (const std::int64_t shift : parts_.shifts) {
    fields_.push_back({kNames[static_cast<std::size_t>(shift)], DType::kInt64, {block_size}, row_bytes});
    row_work_ += row_bytes;
  }
}

void TokenSource::gather(std::span<const std::int64_t> rows, std::span<std::byte* const> outs) {
  if (rows.empty()) return;
  (void)parts_.windows->views();
  parts_.windows->advise_for(rows);
  Slice slice{rows, {}};
  std::ranges::copy(outs, slice.outs.begin());
  const std::size_t done = parts_.windows->is_plain() ? widen_mapped(slice) : widen_read(slice);
  if (done < rows.size()) raise_outside(rows[done]);
  parts_.windows->check_now_and_then();
}

std::size_t TokenSource::widen_mapped(const Slice& slice) {
  Column& column = *parts_.windows;
  MappedWindows work{windows_of(*this, kernels_, limit_),
                     column.index().locator(),
                     column.views().data(),
                     column.row_bytes(),
                     slice.rows,
                     slice.outs,
                     0};
  const void* fault =
      run_guarded([](void* context) { widen_rows(*static_cast<MappedWindows*>(context)); }, &work);
  if (fault != nullptr) column.raise_fault(fault, slice.rows);
  return work.done;
}

std::size_t TokenSource::widen_read(const Slice& slice) {
  const Windows windows = windows_of(*this, kernels_, limit_);
  std::vector<std::byte> window(static_cast<std::size_t>(parts_.windows->row_bytes()));
  Outs outs = slice.outs;
  for (std::size_t i = 0; i < slice.rows.size(); ++i) {
    penstock::gather_slice(*parts_.windows, slice.rows.subspan(i, 1), window.data());
    if (!windows.widen(window.data(), outs)) return i;
    windows.advance(outs);
  }
  return slice.rows.size();
}

/// Reads the window once more, to say which token it is.
void TokenSource::raise_outside(std::int64_t row) {
  Column& column = *parts_.windows;
  const auto count = static_cast<std::size_t>(column.row_shape().front());
  std::vector<std::byte> window(static_cast<std::size_t>(column.row_bytes()));
  penstock::gather_slice(column, {&row, 1}, window.data());
  std::vector<std::int64_t> tokens(count);
  kernels_.widen(window.data(), static_cast<std::int64_t>(count),
                 reinterpret_cast<std::byte*>(tokens.data()));
  const std::int64_t vocab_size = parts_.vocab_size.value_or(0);
  const auto outside = std::find_if(tokens.begin(), tokens.end(), [vocab_size](std::int64_t token) {
    return token < 0 || token >= vocab_size;
  });
  const Location at = column.index().locate(row);
  Error error(ErrorKind::kFormat, "a token is outside the vocabulary");
  error.in_file(column.storage_of(at.shard).path())
      .at_row(row)
      .needed("0 to " + std::to_string(vocab_size - 1))
      .hint("Check vocab_size and dtype: tokens of another width look like this, and so do other files.");
  if (outside != tokens.end()) {  // unless the file has changed meanwhile
    const std::int64_t byte = at.row * column.layout_of(at.shard).row_stride +
                              (outside - tokens.begin()) * item_bytes(column.dtype());
    error.found(std::to_string(*outside))
        .at_offset(column.shards()[static_cast<std::size_t>(at.shard)].offset +
                   static_cast<std::uint64_t>(byte));
  }
  throw error;
}

std::uint64_t TokenSource::fingerprint() const {
  std::uint64_t sum = windows_->fingerprint() ^ fingerprint_of(fields());
  for (const RowLayout& layout : parts_.windows->layouts()) {
    sum = mix64(sum ^ static_cast<std::uint64_t>(layout.row_stride));
  }
  return sum;
}

std::shared_ptr<Source> TokenSource::select(std::size_t field) {
  return std::make_shared<TokenSource>(Parts{parts_.windows, parts_.vocab_size, {parts_.shifts[field]}});
}

std::shared_ptr<Source> TokenSource::followed_by(const Source& other) const {
  const auto* tokens = dynamic_cast<const TokenSource*>(&other);
  if (tokens == nullptr || tokens->parts_.shifts != parts_.shifts) throw different_kinds(fields_.front());
  if (tokens->parts_.vocab_size != parts_.vocab_size) {
    const auto text = [](const std::optional<std::int64_t>& size) {
      return size ? "vocab_size " + std::to_string(*size) : std::string("no vocab_size");
    };
    throw Error(ErrorKind::kSchema, "the datasets disagree in their vocabulary")
        .needed(text(parts_.vocab_size))
        .found(text(tokens->parts_.vocab_size));
  }
  return std::make_shared<TokenSource>(
      Parts{concatenate(*parts_.windows, *tokens->parts_.windows), parts_.vocab_size, parts_.shifts});
}

}  // namespace penstock
