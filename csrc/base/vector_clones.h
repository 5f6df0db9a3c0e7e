#pragma once

/// In front of a function whose loops the compiler vectorises: it is compiled for several instruction
/// sets, and the loader picks the best that the processor has. Same source, so same results.
///
/// Left out where the loader cannot pick (no ELF) and under sanitizers, whose runtime is not up yet when it
/// does.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PENSTOCK_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PENSTOCK_SANITIZED
#endif

#if defined(__x86_64__) && defined(__ELF__) && defined(__GLIBC__) && !defined(PENSTOCK_SANITIZED)
#define PENSTOCK_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define PENSTOCK_VECTOR_CLONES
#endif
