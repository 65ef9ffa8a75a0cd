// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the program says when it ends against its will, and what SIGQUIT asks for.
///
///     event                                  text                                      then
///     base::fatal (deadlock, misuse)         fatal error: <text>, goroutines           exit 2
///     exception leaves a goroutine           panic: <type>: <what()>, its traceback    exit 2
///     write into a stack's guard             runtime: goroutine 7 "parser" stack overflow ..., its
///                                            traceback                                 exit 2
///     SIGQUIT                                all goroutines                            goes on
///
/// TUCO_TRACEBACK: none (no tracebacks), single (the goroutine at fault), all (the default for fatal
/// errors), system (all, with the runtime's own frames), crash (as system, then SIGABRT for a core).

namespace tuco::inline v1::observe {

/// Installs hooks and handlers; signals that the program handles itself are left alone.
/// @param keep_signals  touch no signal
void install_crash_reports(bool keep_signals) noexcept;

/// Ends the thread that answers SIGQUIT, and gives the signals back.
void uninstall_crash_reports() noexcept;

}  // namespace tuco::inline v1::observe
