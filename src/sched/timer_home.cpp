// SPDX-License-Identifier: Apache-2.0
#include "sched/timer_home.hpp"

#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {

timers::heap* timer_home() noexcept {
  // The processor cannot leave its worker while we are inside the runtime; so if it has been told to
  // retire, it moves its timers to another one after us.
  if (const worker* w = this_worker(); w != nullptr && w->p != nullptr) return &w->p->timers;
  scheduler& s = the_scheduler;
  // "Stopping" counts as running: a thread that comes too late must not be blamed for it.
  const phase state = s.state.load(std::memory_order_acquire);
  if (state != phase::running && state != phase::stopping) return nullptr;
  processor* first = s.processors[0].load(std::memory_order_acquire);
  return first != nullptr ? &first->timers : nullptr;
}

}  // namespace tuco::inline v1::sched
