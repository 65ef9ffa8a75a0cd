// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the program says when it ends against its will, and what SIGQUIT asks for. Go's words:
///
///     event                        text                                               then
///     base::fatal                  fatal error: <text>                                exit 2
///     exception leaves a           panic: <type>: <what()>                            exit 2
///       goroutine
///     write into a stack's guard   runtime: goroutine 7 "parser" stack overflow ...   exit 2
///                                  fatal error: stack overflow
///     SIGSEGV and the like in a    panic: runtime error: invalid memory address ...   the signal,
///       goroutine                  [signal SIGSEGV: segmentation violation code=...     as without us
///     SIGQUIT                      SIGQUIT: quit                                      goes on
///
/// each followed by tracebacks, the goroutine at fault first; behind SIGQUIT's, and those of signals that
/// have no panic's words (SIGILL, SIGABRT), stand the registers. TUCO_TRACEBACK says of which goroutines:
///
///     none (0)      of none
///     single        of the one at fault; of all when none is, and for fatal errors. The default
///     all (1)       of all
///     system (2)    of all and the runtime's own, and with the runtime's frames; each header with gp=, m=
///                   and mp=, each frame with fp=, sp= and pc=
///     crash         as system; then SIGABRT in place of exit status 2, for a core
///
/// SIGQUIT shows all goroutines at each level.

namespace tuco::inline v1::observe {

/// Installs hooks and handlers; signals that the program handles itself are left alone.
/// @param keep_signals  touch no signal
void install_crash_reports(bool keep_signals) noexcept;

/// Gives the signals back and ends the thread that writes reports. Does not return while the program
/// is dying: what it says must come to its end.
void uninstall_crash_reports() noexcept;

}  // namespace tuco::inline v1::observe
