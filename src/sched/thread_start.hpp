// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Birth and end of worker threads (thread_start.cpp), for idle.cpp and lifecycle.cpp.

#include <signal.h>

#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {

/// Starts a thread that begins with `p`. False if the run is over or the system refuses.
bool new_worker(processor* p, bool searching) noexcept;

/// Starts the worker that begins with the main goroutine and opens the run.
/// @throws std::system_error
void start_first_worker(processor* p, goroutine* main);

/// The mask of the thread that called run(): workers take the same signals.
const sigset_t& worker_signal_mask() noexcept;

/// Lock held. The worker is to leave its loop, and its thread to end.
void end_worker(worker* w) noexcept;

/// Lock held. @return False if `w` was not on the idle list (somebody is about to wake it).
bool remove_idle(worker* w) noexcept;

/// A processor was just made idle: if there is work in any queue, wakes a worker for it.
void wake_if_work_is_waiting() noexcept;

}  // namespace tuco::inline v1::sched
