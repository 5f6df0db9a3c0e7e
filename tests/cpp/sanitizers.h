#pragma once

namespace penstock {

/// Whether this is a build under AddressSanitizer. A child that is forked while another thread allocates may
/// find its allocator locked for ever, and spins; glibc's own is free in every child.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#else
constexpr bool kAddressSanitizer = false;
#endif

}  // namespace penstock
