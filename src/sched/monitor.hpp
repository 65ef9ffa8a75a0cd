// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "os/proc.hpp"
#include "sched/lifecycle.hpp"

namespace tuco::inline v1::sched {

/// @throws std::system_error
void start_monitor(const start_options& options);
void stop_monitor() noexcept;

/// Takes the processor of `w` if that is outside the runtime now, and hands it over.
bool take_from_outside(worker* w) noexcept;

/// Closes what it keeps open of threads that have ended; of all when there is no monitor.
void close_probes() noexcept;

/// What the worker's thread does. Monitor thread only, or when there is none.
os::thread_activity activity_of(worker* w) noexcept;

}  // namespace tuco::inline v1::sched
