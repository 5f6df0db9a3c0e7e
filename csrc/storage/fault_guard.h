#pragma once

namespace penstock {

/// Runs `body(context)`; if it touches mapped bytes that the file no longer has (SIGBUS), leaves it
/// at once and returns the faulting address. Returns nullptr when it ran to its end.
///
/// The body is abandoned in the middle of an instruction: it must own nothing (no destructors, no
/// locks, no allocation) and only copy. Other SIGBUS go to whatever handler was there before.
/// Costs a few nanoseconds and one sigaction() to see that the handler is still ours (torch's
/// workers and faulthandler install their own). Thread-safe; not to be nested.
[[nodiscard]] const void* run_guarded(void (*body)(void*), void* context) noexcept;

}  // namespace penstock
