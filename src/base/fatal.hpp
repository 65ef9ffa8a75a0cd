// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The end of the program by the runtime's decision: Go's `fatal error: ...`, the tracebacks that
/// TUCO_TRACEBACK asks for, exit status 2 (or SIGABRT with `crash`).

namespace tuco::inline v1::base {

/// Prints `fatal error: <text>` to stderr, then what the hook adds, and ends the process with
/// status 2. Runs no destructors and no atexit handlers. Usable with any lock held.
[[noreturn]] void fatal(const char* text) noexcept;

/// The right to print the last words, for whoever ends the program by another way than fatal(): only
/// the first thread has it. All others wait for ever, for their words must not cut its report short.
void begin_dying() noexcept;
/// Whether some thread has begun.
bool is_dying() noexcept;

/// Installed by the layer that can print tracebacks; called once, by the first thread that dies.
/// Returns when it has printed. Base alone would only print the line.
using fatal_hook = void (*)(const char* text) noexcept;
void set_fatal_hook(fatal_hook hook) noexcept;

}  // namespace tuco::inline v1::base
