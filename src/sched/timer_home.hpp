// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Where timers that are no sleeping goroutine's are kept.
///
///     timers::heap* home = timer_home();
///     const std::int64_t when = e.when_ns;             // e may have fired and gone after add()
///     if (home->add(e)) timer_became_earliest(when);   // with no lock held

#include <cstdint>

#include "timer/heap.hpp"

namespace tuco::inline v1::sched {

/// The caller is inside the runtime, or is a fire function.
/// @return The caller's processor's heap; for callers without one that of the first processor, which
///         never retires during a run; null outside run(), where nobody would run the timer.
timers::heap* timer_home() noexcept;

/// Somebody must wake in time for it (timers::heap::next()). Takes the scheduler's lock.
void timer_became_earliest(std::int64_t when) noexcept;

}  // namespace tuco::inline v1::sched
