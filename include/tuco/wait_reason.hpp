// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/wait_reason.hpp
/// What a goroutine does, and why it waits: the words of Go's dumps, so that people and parsers
/// know them.
/// **Source.** Go 1.26, runtime2.go (gStatusStrings, waitReasonStrings).

#include <cstdint>
#include <string_view>

#include <tuco/config.hpp>

namespace tuco::inline v1 {

/// The state of a goroutine. Values are Go's and part of tuco_debug_v1.
///
///     idle      slot not in use                           runnable  on a run queue, owns no worker
///     running   has a worker, and a processor unless      waiting   parked; see the wait reason
///               the monitor took it
///     syscall   running, but its worker sits in the       dead      has ended
///               kernel and the processor was taken
enum class goroutine_status : std::uint8_t {
  idle = 0, runnable = 1, running = 2, syscall = 3, waiting = 4, dead = 6,
};

/// Why a goroutine waits. The first block is Go's, in Go's spelling; the second is ours.
enum class wait_reason : std::uint8_t {
  none,
  io_wait,
  semacquire,
  sleep,
  chan_receive_nil,
  chan_send_nil,
  select_no_cases,
  select,
  chan_receive,
  chan_send,
  cond_wait,
  mutex_lock,
  shared_mutex_rlock,
  shared_mutex_lock,
  wait_group_wait,
  stopping_the_world,
  preempted,
  // ours
  once_wait,
  join,
  timer_stop,
  resolve,
  semaphore_acquire,
  latch_wait,
  barrier_wait,
  count_,  ///< how many there are; not a reason
};

/// "chan receive", "IO wait", ...; "unknown wait reason" for a value out of range.
TUCO_API std::string_view to_string(wait_reason reason) noexcept;

/// "idle", "runnable", "running", "syscall", "waiting", "dead"; "???" for a value out of range.
TUCO_API std::string_view to_string(goroutine_status status) noexcept;

}  // namespace tuco::inline v1
