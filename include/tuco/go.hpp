// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/go.hpp
/// Starting goroutines, and what a goroutine can say about and do to itself.
///
/// A goroutine is a function that runs on a stack of its own, beside all others, on one of the
/// runtime's worker threads. It may block in anything: a channel or lock of tuco parks it and costs
/// nobody a thread; a blocking system call or a long computation costs a thread, but the right to run
/// goroutines is taken from that thread (docs/design/scheduler.md).
///
///                    from a goroutine    from a plain thread           before run() / after it
///     go             starts it           starts it                     throws std::logic_error
///     yield          lets others run     std::this_thread::yield       same as plain thread
///     goexit         ends it             throws std::logic_error       throws std::logic_error
///     lock_thread    as documented       no effect                     no effect
///
/// **Thread safety.** All functions, from any thread.
/// **Ordering.** What happened before `go` is visible to the function it starts. The end of a
/// goroutine is ordered with nothing: use a wait_group, a channel or a lock to learn of it.
/// **Exceptions.** One that leaves the function ends the program: `panic: <type>: <what()>`, the
/// traceback of that goroutine, exit status 2.
/// **Cost.** `go` of a callable of at most 48 bytes allocates nothing once warm. A goroutine that has
/// not begun owns no stack.
/// **Source.** The Go specification, "Go statements"; runtime.Gosched, Goexit, LockOSThread.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/closure.hpp>
#include <tuco/detail/source_location.hpp>

namespace tuco::inline v1 {

/// Identifies a goroutine for the life of the process; never 0, never reused.
using goroutine_id = std::uint64_t;

/// How a goroutine is started.
struct go_options {
  /// Shown in dumps behind the id. Copied; at most 31 bytes are kept. Empty: no name.
  std::string_view name{};
  /// Bytes of stack; 0 is the default (256 KiB, run_options::stack_size). Rounded up to a power of
  /// two from 16 KiB to 64 MiB. Memory is committed as it is touched, so a large one costs only
  /// address space.
  std::size_t stack_size = 0;
};

namespace detail {

/// A goroutine between birth and its first place in a queue.
/// Known by its closure, which is to be filled in between begin and commit.
using unborn = closure;
TUCO_API unborn* begin_go(const go_options& options, const source_location& where);
TUCO_API goroutine_id commit_go(unborn* u) noexcept;
TUCO_API void abandon_go(unborn* u) noexcept;
/// The same, but the processor stays the caller's in between: only when no code of the user's runs there.
TUCO_API unborn* begin_plain_go(const go_options& options, const source_location& where);
TUCO_API goroutine_id commit_plain_go(unborn* u) noexcept;
[[noreturn]] TUCO_API void go_of_nil() noexcept;
/// Inside a `catch (...)` that is to rethrow: whether what it caught is a goexit().
TUCO_API bool caught_goexit() noexcept;

template <class F>
concept comparable_with_null = requires(const F& f) { { f == nullptr } -> std::convertible_to<bool>; };

}  // namespace detail

/// Starts `f()` as a goroutine. `f` is moved or copied; its result is dropped.
/// @return Its id.
/// @throws std::system_error (ENOMEM) when there is no memory for records or stacks; whatever
///         moving or copying `f` throws. Then nothing was started.
/// An empty std::function or a null function pointer is `fatal error: go of nil func value`.
template <class F>
  requires std::is_invocable_v<std::decay_t<F>&>
[[gnu::always_inline]] inline goroutine_id go(
    const go_options& options, F&& f,
    const source_location& where = source_location::current()) {
  if constexpr (detail::comparable_with_null<std::decay_t<F>> &&
                !std::is_function_v<std::remove_reference_t<F>>) {
    if (f == nullptr) detail::go_of_nil();
  }
  // Inlined into the caller, so that the return address which begin_go() records lies in the creator.
  if constexpr (detail::closure::is_plain<std::decay_t<F>>) {
    detail::unborn* u = detail::begin_plain_go(options, where);
    u->emplace(std::forward<F>(f));
    return detail::commit_plain_go(u);
  }
  detail::unborn* u = detail::begin_go(options, where);
  if constexpr (detail::closure::fits<std::decay_t<F>> &&
                std::is_nothrow_constructible_v<std::decay_t<F>, F&&>) {
    u->emplace(std::forward<F>(f));
  } else {
    try {
      u->emplace(std::forward<F>(f));
    } catch (...) {
      detail::abandon_go(u);
      throw;
    }
  }
  return detail::commit_go(u);
}

template <class F>
  requires std::is_invocable_v<std::decay_t<F>&>
[[gnu::always_inline]] inline goroutine_id go(
    F&& f, const source_location& where = source_location::current()) {
  return go(go_options{}, std::forward<F>(f), where);
}

/// Lets other runnable goroutines run before the caller goes on.
TUCO_API void yield() noexcept;

/// Ends the calling goroutine: unwinds its stack, running destructors. In the first goroutine the
/// program goes on until the others have ended, which is then a deadlock, as in Go. Implemented as an
/// exception: a `catch (...)` that swallows it ends the program with a message.
/// @throws std::logic_error on a plain thread
[[noreturn]] TUCO_API void goexit();

/// Binds the calling goroutine to its present thread: it runs nowhere else, and nobody else runs
/// there, until as many unlock_thread() calls. For code that depends on the thread: setns,
/// signal masks, thread-bound libraries. A goroutine that ends while bound takes its thread along.
TUCO_API void lock_thread() noexcept;
TUCO_API void unlock_thread() noexcept;

namespace this_goroutine {

/// The caller's id; 0 on a plain thread.
[[nodiscard]] TUCO_API goroutine_id id() noexcept;
/// The caller's name; empty if it has none. Valid while the goroutine lives.
[[nodiscard]] TUCO_API std::string_view name() noexcept;

}  // namespace this_goroutine
}  // namespace tuco::inline v1
