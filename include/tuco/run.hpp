// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/run.hpp
/// The runtime's beginning and end.
///
/// `run(f)` starts the workers, runs `f` as goroutine 1, and returns when that has returned. As in
/// Go, goroutines that are still alive then are not waited for: they never run again, their
/// destructors do not run. Nothing of the runtime runs when run() has returned, so the static
/// destructors that follow have the process to themselves; those of thread-locals on the runtime's threads
/// have run. A goroutine that computes or blocks in the kernel at that moment goes on with that, and blocks
/// for ever at its next call of the runtime; run() waits for it a few milliseconds, never more than a second.
///
/// exit() on any thread ends the run the same way before static objects are destroyed. On a goroutine that
/// includes those that goroutines have constructed, on another thread not.
///
///     state               run            go, channels, locks
///     before the first    starts         go throws; the rest works between plain threads
///     running             logic_error    from goroutines and from plain threads
///     after run returned  starts anew    as before the first
///
/// **Thread safety.** One run() at a time in a process; the calling thread waits and does not become a
/// worker.
/// **Environment.** `TUCO_PROCS` or, without it, `GOMAXPROCS`: number of processors; what is not a
/// positive number is ignored with a message, more than 1024 is 1024. `TUCO_STACK_SIZE`,
/// `TUCO_TRACEBACK`, `TUCO_DEBUG`: docs/guide/settings.md.

#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

#include <tuco/config.hpp>

namespace tuco::inline v1 {

struct run_options {
  /// How many goroutines run at the same moment. 0: TUCO_PROCS, else GOMAXPROCS, else the smaller of
  /// the affinity mask and the cgroup's CPU quota, which is then followed while the program runs.
  int procs = 0;
  /// Default stack of a goroutine in bytes; 0: TUCO_STACK_SIZE, else 256 KiB.
  std::size_t stack_size = 0;
  /// Most threads the runtime may have; one more is `thread exhaustion`. Threads come with blocking
  /// calls: each goroutine that blocks in the kernel keeps one.
  int max_threads = 10'000;
  /// Touch no signal. Otherwise those of SIGQUIT, SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT that the
  /// program does not handle itself print tracebacks (src/observe/crash.hpp).
  bool keep_signals = false;
};

namespace detail {
TUCO_API int run(const run_options& options, int (*entry)(void*), void* object);
}

/// @return What `f` returns if that converts to int, else 0.
/// @throws std::logic_error when called in a running runtime or from a goroutine;
///         std::system_error when the first threads or the first stack cannot be had; nothing has run
///         then. Later shortages: docs/design/scheduler.md
template <class F>
  requires std::is_invocable_v<F&>
int run(F&& f, const run_options& options = {}) {
  return detail::run(
      options,
      [](void* object) -> int {
        auto& function = *static_cast<std::remove_reference_t<F>*>(object);
        if constexpr (std::is_convertible_v<std::invoke_result_t<F&>, int>) {
          return static_cast<int>(std::invoke(function));
        } else {
          std::invoke(function);
          return 0;
        }
      },
      const_cast<void*>(static_cast<const void*>(std::addressof(f))));
}

/// The number of processors now.
[[nodiscard]] TUCO_API int procs() noexcept;

/// Changes it, without stopping anybody: processors that become superfluous are given up by their
/// workers at the next chance. Ends the following of the cgroup's quota.
/// @return The number before. Values below 1 change nothing; above 1024 they mean 1024.
/// @throws std::logic_error outside run()
TUCO_API int set_procs(int n);

}  // namespace tuco::inline v1
