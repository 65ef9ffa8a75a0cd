// SPDX-License-Identifier: Apache-2.0
#include "sync/caller.hpp"

#include "arch/thread_slot.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sync {

std::uint64_t caller_id() noexcept {
  const auto* w = static_cast<const sched::worker*>(arch::thread_slot());
  if (w == nullptr || w->plain_thread || w->running() == nullptr) return 0;
  return w->running()->id.load(std::memory_order_relaxed);
}

bool spinning_pays() noexcept {
  const auto* w = static_cast<const sched::worker*>(arch::thread_slot());
  const int processors = sched::the_scheduler.processor_count.load(std::memory_order_relaxed);
  // A plain thread may wait for a goroutine or for another plain thread; both may be running.
  if (w == nullptr || w->plain_thread) return processors > 0;
  if (processors < 2) return false;
  // With work of its own waiting, this processor does that instead.
  return w->p != nullptr && w->p->run_queue.empty();
}

}  // namespace tuco::inline v1::sync
