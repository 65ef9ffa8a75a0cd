// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A thread that writes reports for those who cannot: a signal handler may not allocate, and its
/// stack, like a goroutine's, may be too small for reading debug information.
///
/// It needs nothing of the scheduler, so it answers when that is wedged. It does need the allocator
/// and the dynamic linker; a thread that dies with one of their locks held waits for a report that
/// cannot come, which is why waiting ends when nothing has been written for a while.

namespace tuco::inline v1::observe {

/// Starts it. `on_request` is what request_report() asks for. False: no thread can be had.
bool start_reporter(void (*on_request)()) noexcept;
/// Ends it, if it was started.
void stop_reporter() noexcept;

/// Has on_request() called soon; requests that come meanwhile become one. Async-signal-safe.
void request_report() noexcept;

/// Has `write(argument)` called there and waits for it. Async-signal-safe. One caller at a time.
/// @return False: there is no reporter, or the caller is it. Then nothing was called.
bool report_and_wait(void (*write)(void*) noexcept, void* argument) noexcept;

/// Said by reports as they go on.
void note_progress() noexcept;

}  // namespace tuco::inline v1::observe
