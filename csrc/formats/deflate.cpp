#include "formats/deflate.h"

#include <algorithm>
#include <new>

#include "base/error.h"

#ifdef PENSTOCK_HAVE_ZLIB
#define ZLIB_CONST
#include <zlib.h>
#endif

namespace penstock {

#ifdef PENSTOCK_HAVE_ZLIB

struct Inflater::Stream {
  Stream() {
    if (::inflateInit2(&z, -MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { ::inflateEnd(&z); }

  z_stream z{};
};

Inflater::Inflater() : stream_(std::make_unique<Stream>()) {}

Inflater::State Inflater::feed(Bytes input, std::span<std::byte> out) {
  constexpr std::size_t kMostPerCall = std::size_t{1} << 30U;
  z_stream& z = stream_->z;
  z.next_in = reinterpret_cast<const Bytef*>(input.data());
  z.avail_in = static_cast<uInt>(input.size());
  int result = Z_OK;
  while (result == Z_OK) {
    const std::size_t room = std::min(out.size() - written_, kMostPerCall);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + written_);
    z.avail_out = static_cast<uInt>(room);
    result = ::inflate(&z, Z_NO_FLUSH);
    written_ += room - z.avail_out;
    if (z.avail_in == 0 && z.avail_out > 0) break;
    if (written_ == out.size() && z.avail_out == 0) break;
  }
  if (result == Z_STREAM_END) return State::kEnded;
  return result == Z_OK || result == Z_BUF_ERROR ? State::kWantsMore : State::kBroken;
}

std::optional<std::uint32_t> crc32_of(Bytes bytes) noexcept {
  return static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

#else

struct Inflater::Stream {};

Inflater::Inflater() {
  throw format_error("the entry is compressed and this build of penstock has no zlib")
      .hint("Save with numpy.savez instead of savez_compressed, or build with zlib's headers installed.");
}

Inflater::State Inflater::feed(Bytes /*input*/, std::span<std::byte> /*out*/) { return State::kBroken; }

std::optional<std::uint32_t> crc32_of(Bytes /*bytes*/) noexcept { return std::nullopt; }

#endif

Inflater::~Inflater() = default;

}  // namespace penstock
