// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Operating-system threads, and what is known of them from outside.

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace tuco::inline v1::os {

/// Starts a thread. It begins with all signals blocked, so that no handler runs on it before it has a
/// signal stack and a worker (hazards H28); the thread itself calls set_signal_mask().
/// @param stack_size  bytes; 0: the system's default
/// @return 0; -EAGAIN: the process or the system has as many as it may; -ENOMEM
int create_thread(void* (*entry)(void*), void* argument, std::size_t stack_size,
                  pthread_t& out) noexcept;
/// Waits for its end. @return 0 or a negative errno value.
int join_thread(pthread_t thread) noexcept;
/// @param deadline_ns  CLOCK_MONOTONIC
/// @return -ETIMEDOUT: it has not ended by then, and is still to be joined.
int join_thread(pthread_t thread, std::int64_t deadline_ns) noexcept;

/// The caller's mask before the call; all signals are blocked after it.
sigset_t block_all_signals() noexcept;
void set_signal_mask(const sigset_t& mask) noexcept;

/// The kernel's id of the calling thread. A system call: keep it.
pid_t thread_id() noexcept;

/// Sends `signal` to one thread of this process. -ESRCH: it has ended.
int signal_thread(pid_t thread, int signal) noexcept;

/// Shown by ps, top and gdb; cut to 15 characters.
void set_thread_name(const char* name) noexcept;

/// An alternate signal stack with an inaccessible page below it.
struct signal_stack {
  void* base = nullptr;  ///< of the mapping, guard included
  std::size_t size = 0;
};

/// What the kernel may need on a stack to call a signal handler: this processor's registers
/// (AT_MINSIGSTKSZ: 12 KiB with AMX).
std::size_t signal_frame_size() noexcept;

/// What a handler of ours needs: at least 64 KiB and four times the frame that this processor's
/// registers take.
std::size_t signal_stack_size() noexcept;

/// Gives the calling thread a signal stack unless it has one (of the application or a sanitizer):
/// then `out` stays empty, and that one is used.
int install_signal_stack(signal_stack& out) noexcept;
/// On the same thread, before it ends. An empty one is left alone.
void remove_signal_stack(signal_stack& stack) noexcept;

/// CPU time that a thread of this process has used, in ns; negative errno value when it has ended.
std::int64_t thread_cpu_ns(pid_t thread) noexcept;

/// How late the kernel may make timed sleeps of the calling thread, in ns; 0 is the default (50 µs).
int set_timer_slack(std::uint64_t ns) noexcept;

/// Processors on which the calling thread may run; at least 1.
int affinity_count() noexcept;
/// Processors that are online; at least 1.
int cpu_count() noexcept;

}  // namespace tuco::inline v1::os
