// SPDX-License-Identifier: Apache-2.0
// Nobody will ever run again.
//
// Go's detector goes silent as soon as a poller, cgo or signals are in play, because it counts
// threads. Ours asks what could still wake a goroutine: a worker that is not asleep, a pending timer, a
// goroutine that waits on a descriptor, or a thread that is not ours and may use any channel. When all
// four are absent, the program is dead, and says so at once.
#include "base/fatal.hpp"
#include "os/proc.hpp"
#include "poll/poller.hpp"
#include "sched/lifecycle.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {

void check_deadlock() noexcept {
  scheduler& s = the_scheduler;
  if (s.state.load(std::memory_order_relaxed) != phase::running) return;
  if (s.idle_worker_count < s.worker_count) return;
  if (earliest_timer() != no_deadline || poll::the_poller().waiters() != 0) return;
  if (any_work_visible()) return;
  // The caller of run() is one of the plain threads, and asleep.
  if (s.plain_threads.load(std::memory_order_relaxed) > 1) return;
  // The costly question last: is there any thread that we did not make?
  const int threads = os::thread_count();
  if (threads < 0 || threads > runtime_threads()) return;
  base::fatal(s.main_left_by_goexit.load(std::memory_order_relaxed)
                  ? "no goroutines (main called runtime.Goexit) - deadlock!"
                  : "all goroutines are asleep - deadlock!");
}

}  // namespace tuco::inline v1::sched
