// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How the runtime talks to the kernel.
///
/// **Results.** Every function of os/ returns a value >= 0, or a negative errno value (`-ENOMEM`).
/// Nobody outside os/ reads `errno`, and a failing call leaves the caller's `errno` as it was: the
/// runtime runs beneath code that may be between its own failed call and its look at errno.
/// Functions that yield an address return `os::mapping`, which carries the error beside it.
///
/// **Faults.** Every system call passes `system_call()` or, where its result is not an integer,
/// `injected_fault()`. In builds with TUCO_FAULT_INJECTION a hook may make a call fail without
/// making it (os/fault.hpp holds the tests' hook); other builds contain no trace of it.
///
/// **Why libc's wrappers where they exist** and not bare `syscall` instructions: sanitizers hang
/// their knowledge (a write to a pipe happens before the read; fresh mappings have no history) on
/// libc's entry points.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <sys/types.h>

#include <atomic>

namespace tuco::inline v1::os {

/// The kinds of calls that can be made to fail. To add one: here and in fault.cpp's names.
enum class call : std::uint8_t {
  mmap, munmap, mprotect, madvise, mincore, prctl,
  futex, membarrier, thread_create, sigaltstack, tgkill, affinity,
  clock_gettime, nanosleep,
  open, close, read, write, stat, fcntl, getdents,
  epoll_create, epoll_ctl, epoll_wait, eventfd,
  socket, bind, listen, accept, connect, shutdown, sockopt, sockname, resolve,
  send, recv, sendfile,
  count_,
};

/// @return 0: make the call; > 0: the errno value with which it fails.
using fault_function = int (*)(call kind) noexcept;

#ifdef TUCO_FAULT_INJECTION
inline constexpr bool fault_injection = true;
inline std::atomic<fault_function> fault_hook{nullptr};

inline int injected_fault(call kind) noexcept {
  // Relaxed: the hook is a function of the program's own text, nothing is published through it.
  const fault_function hook = fault_hook.load(std::memory_order_relaxed);
  return hook == nullptr ? 0 : hook(kind);
}
#else
inline constexpr bool fault_injection = false;
inline int injected_fault(call) noexcept { return 0; }
#endif

/// errno of the thread that runs now. `__errno_location` is declared const, so a compiler that
/// inlines us into a function that parks would keep the address of the thread it came from
/// (hazards H1); a pointer that went through volatile assembly has no such attribute.
[[gnu::always_inline]] inline int& thread_errno() noexcept {
  int* (*location)() = &__errno_location;
  asm volatile("" : "+r"(location));
  return *location();
}

/// Makes a call that follows libc's convention: -1 and errno on failure.
/// @return The call's value, or the negative errno value.
template <class F>
[[gnu::always_inline]] inline auto system_call([[maybe_unused]] call kind, F&& f) noexcept
    -> decltype(f()) {
  using R = decltype(f());
  if (const int fault = injected_fault(kind); fault != 0) [[unlikely]] return static_cast<R>(-fault);
  int& error = thread_errno();
  const int before = error;
  R result = f();
  if (result == static_cast<R>(-1)) [[unlikely]] {
    result = static_cast<R>(-error);
    error = before;
  }
  return result;
}

/// Repeats `f` while it answers -EINTR. Never around close(): on Linux the descriptor is gone even
/// then, and the second close would hit whoever got the number.
template <class F>
inline auto retry_eintr(F&& f) noexcept -> decltype(f()) {
  for (;;) {
    const auto result = f();
    if (result != -EINTR) return result;
  }
}

/// An address or a negative errno value.
struct mapping {
  void* address = nullptr;
  int error = 0;
  explicit operator bool() const noexcept { return address != nullptr; }
};

}  // namespace tuco::inline v1::os
