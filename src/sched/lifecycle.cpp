// SPDX-License-Identifier: Apache-2.0
#include "sched/lifecycle.hpp"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "arch/thread_slot.hpp"
#include "base/sanitizer.hpp"
#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/membarrier.hpp"
#include "os/sleep.hpp"
#include "os/thread.hpp"
#include "poll/poller.hpp"
#include "sched/monitor.hpp"
#include "sched/thread_start.hpp"

namespace tuco::inline v1::sched {

constinit scheduler the_scheduler;

namespace {

constexpr std::int64_t stop_limit_ns = 1'000'000'000;
constexpr std::int64_t grace_ns = 2'000'000;

struct main_goroutine {
  int (*entry)(void*) = nullptr;
  void* object = nullptr;
  int result = 0;
  std::atomic<std::uint32_t> done{0};
};
main_goroutine the_main;
sigset_t signal_mask;

/// Lock held. Brings the number of processors to `n`; new ones are idle, superfluous ones retire: at
/// once if idle, else when their worker looks next.
void resize(int n) noexcept {
  scheduler& s = the_scheduler;
  const int slots = s.processor_slots.load(std::memory_order_relaxed);
  int made = slots;
  for (int i = 0; i < n; ++i) {
    processor* p = i < slots ? s.processors[i].load(std::memory_order_relaxed) : nullptr;
    if (p == nullptr) {
      p = new (std::nothrow) processor(i);
      if (p == nullptr) break;
      p->status.store(processor_status::retired, std::memory_order_relaxed);
      s.processors[i].store(p, std::memory_order_release);
      made = i + 1;
      s.processor_slots.store(made, std::memory_order_release);
    }
    if (p->status.load(std::memory_order_relaxed) != processor_status::retired) continue;
    p->status.store(processor_status::running, std::memory_order_relaxed);
    // One that is still held has not been given up yet: its retirement never happened.
    if (!p->held) put_idle(p);
  }
  n = std::min(n, made);
  for (int i = n; i < made; ++i) {
    processor* p = s.processors[i].load(std::memory_order_relaxed);
    if (p->status.load(std::memory_order_relaxed) == processor_status::idle) {
      for (processor** link = &s.idle_processors; *link != nullptr; link = &(*link)->next_idle) {
        if (*link != p) continue;
        *link = p->next_idle;
        p->next_idle = nullptr;
        s.idle_processor_count.fetch_sub(1, std::memory_order_seq_cst);
        break;
      }
    }
    p->status.store(processor_status::retired, std::memory_order_relaxed);
  }
  s.processor_count.store(n, std::memory_order_release);
}

void wake_all_idle() noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  while (worker* w = s.idle_workers) {
    s.idle_workers = w->next_idle;
    w->is_idle = false;
    --s.idle_worker_count;
    w->next_processor = nullptr;  // end
    wake_thread(w);
  }
  s.lock.unlock();
}

// The end of a run, of which there are two: the main goroutine returns, or the program calls exit().
//
// Claim      When end_workers() has returned true, no thread will touch the scheduler as a worker again.
// Proof      worker_count, under the lock, counts the threads that may. It grows in new_worker() alone, under
//            the lock and only while the state is `running` (or `starting`, for the first). The state was
//            changed before our first look: so after a look that finds 0, it stays 0. A worker leaves the
//            count in one of two ways, and exactly once:
//              * it comes to its own stack, sees the state, and leaves by itself: thread_has_left();
//              * abandon() moves its word from `taken` to `abandoned`. Who is outside without a processor
//                has to move that same word from `taken` to `none` before it touches anything
//                (answer_monitor()). One of the two exchanges wins: the thread blocks for ever in front of
//                the scheduler, or it is inside, and then it is of the first kind.
//            Everybody counted gets there, unless user code keeps it inside: one asleep on the idle list is
//            woken by each round; one whose processor was handed over (start_worker) is awake or about to
//            be; one in the poller is interrupted, and the interrupt is remembered; one with a locked
//            goroutine is woken; one outside with a processor comes in by itself or is made `taken`, and is
//            abandoned then.
// Pairs      The lock, with thread_has_left(): what a worker did happens before close_run().
// Too weak   To count what the walk over the workers sees: one may begin behind its back.
//            To abandon by a plain flag: who has just read `taken` would block as one that nobody counts off.
// Test       test/model/take_away_model.cpp (abandon_by_store, return_by_store).

/// Keeps a worker out that is outside and has lost its processor.
void abandon(worker* w) noexcept {
  attention word = attention::taken;
  if (!w->attention_word.compare_exchange_strong(word, attention::abandoned)) return;
  scheduler& s = the_scheduler;
  w->in_use.store(false, std::memory_order_relaxed);
  s.lock.lock();
  --s.worker_count;
  s.lock.unlock();
  // Its thread stays, and wakes nobody: later runs notice their deadlocks in spite of it.
  s.other_threads.fetch_add(1, std::memory_order_relaxed);
}

/// The state is `stopping`, and by us: one thread at a time is here.
/// @param self  a worker that is not waited for, or null
/// @return False if some are still inside at the deadline: the machine is overloaded, or code of the
///         user's that runs inside (the move of a value into a channel) does not end.
bool end_workers(const worker* self, std::int64_t deadline_ns) noexcept {
  scheduler& s = the_scheduler;
  const int left_over = self != nullptr ? 1 : 0;
  // Who computes between two calls of the runtime comes in soon, and its thread can end.
  const std::int64_t patience = os::steady_now_ns() + grace_ns;
  std::int64_t pause_ns = 20'000;
  for (;;) {
    const bool patient = os::steady_now_ns() < patience;
    wake_all_idle();
    poll::the_poller().interrupt();
    for (worker* w = s.all_workers.load(std::memory_order_acquire); w != nullptr; w = w->all_next) {
      if (w == self || !w->in_use.load(std::memory_order_acquire)) continue;
      if (w->locked_waiting.load(std::memory_order_acquire)) {
        wake_thread(w);
      } else if (patient) {
        attention none = attention::none;
        w->attention_word.compare_exchange_strong(none, attention::yield);
      } else if (w->attention_word.load(std::memory_order_acquire) == attention::taken ||
                 take_from_outside(w)) {
        abandon(w);
      }
    }
    s.lock.lock();
    const bool all_gone = s.worker_count == left_over;
    s.lock.unlock();
    if (all_gone) return true;
    if (os::steady_now_ns() > deadline_ns) return false;
    os::sleep_for(pause_ns);
    pause_ns = std::min<std::int64_t>(2 * pause_ns, 1'000'000);
  }
}

/// Goroutines that main left behind are no leaks, nor is what they hold: Go's do not end either.
void keep_what_is_left_reachable() noexcept {
#ifdef TUCO_BASE_ASAN
  const std::uint32_t epoch = the_scheduler.epoch.load(std::memory_order_relaxed);
  task::the_registry().for_each([&](const goroutine& g) {
    if (g.epoch == epoch && g.stack) base::lsan_root(reinterpret_cast<const void*>(g.stack.low), g.stack.size());
  });
#endif
}

/// Waits for the threads of the workers that have left: the destructors of their thread-locals are user
/// code that must not meet the destructors of static objects. Each has joined the one before it
/// (thread_start.cpp), so the last one stands for all.
void join_workers(std::int64_t deadline_ns) noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  const bool any = std::exchange(s.last_is_set, false);
  const pthread_t last = s.last_to_leave;
  s.lock.unlock();
  if (!any || os::join_thread(last, deadline_ns) == 0) return;
  s.lock.lock();
  s.last_to_leave = last;
  s.last_is_set = true;
  s.lock.unlock();
}

/// Only the caller is left. What a plain thread makes runnable from now on is dropped (push_global()).
void close_run() noexcept {
  scheduler& s = the_scheduler;
  base::tsan_acquire(&the_scheduler);
  close_probes();
  keep_what_is_left_reachable();
  s.lock.lock();
  s.epoch.fetch_add(1, std::memory_order_acq_rel);
  // Goroutines that are left never run again; whoever looks at the queues of the next run must not
  // find them.
  while (s.global.pop_front() != nullptr) {
  }
  s.global_size.store(0, std::memory_order_relaxed);
  s.idle_processors = nullptr;
  s.idle_processor_count.store(0, std::memory_order_relaxed);
  const int slots = s.processor_slots.load(std::memory_order_relaxed);
  for (int i = 0; i < slots; ++i) {
    processor* p = s.processors[i].load(std::memory_order_relaxed);
    while (p->run_queue.pop().item != nullptr) {
    }
    p->timers.drop_sleepers();
    p->status.store(processor_status::retired, std::memory_order_relaxed);
    p->owner.store(nullptr, std::memory_order_relaxed);
    p->next_idle = nullptr;
    p->held = false;
  }
  s.processor_count.store(0, std::memory_order_relaxed);
  s.idle_worker_count = 0;  // those of locked goroutines are still in it
  poll::the_poller().abandon_waiters();
  s.lock.unlock();
}

/// @return False: some workers have not left; then everything stays as it is, for run_claim to try again.
bool end_run() noexcept {
  const std::int64_t deadline = os::steady_now_ns() + stop_limit_ns;
  if (!end_workers(nullptr, deadline)) return false;
  join_workers(deadline);
  close_run();
  return true;
}

/// Ends the run from a thread that has called exit(), before static objects are destroyed. The caller of
/// run() sleeps on: if it returned, two threads would end the program.
/// @return False: somebody else is ending it
bool end_for_exit(const worker* self) noexcept {
  phase running = phase::running;
  if (!the_scheduler.state.compare_exchange_strong(running, phase::stopping)) return false;
  stop_monitor();
  const std::int64_t deadline = os::steady_now_ns() + stop_limit_ns;
  end_workers(self, deadline);
  join_workers(deadline);
  keep_what_is_left_reachable();
  return true;
}

/// For exit() on a thread that is no worker. Objects that were constructed during the run go before.
void at_exit() noexcept {
  if (!the_scheduler.forked.load(std::memory_order_relaxed)) end_for_exit(nullptr);
}

}  // namespace


const sigset_t& worker_signal_mask() noexcept { return signal_mask; }

void block_forever() noexcept {
  static std::atomic<std::uint32_t> never{0};
  for (;;) os::futex_wait(never, 0);
}

int runtime_threads() noexcept {
  scheduler& s = the_scheduler;
  constexpr int caller_of_run = 1;
  constexpr int monitor = 1;
#ifdef TUCO_TSAN_FIBERS
  constexpr int of_the_sanitizer = 1;  // started with the program's first thread
#else
  constexpr int of_the_sanitizer = 0;
#endif
  return s.worker_count + caller_of_run + monitor + of_the_sanitizer + s.other_threads.load(std::memory_order_relaxed);
}

void main_has_ended() noexcept {
  phase running = phase::running;
  // Else somebody has called exit().
  if (!the_scheduler.state.compare_exchange_strong(running, phase::stopping)) return;
  base::tsan_release(&the_main);
  the_main.done.store(1, std::memory_order_release);
  os::futex_wake(the_main.done);
}

void exit_on_worker() noexcept {
  if (!the_scheduler.forked.load(std::memory_order_relaxed)) {
    const worker* w = this_worker();
    // Its run ends or has ended: as for all of its goroutines that are left, this was the last thing it did.
    if (w->attention_word.load(std::memory_order_acquire) == attention::abandoned || !end_for_exit(w)) {
      block_forever();
    }
  }
  // What destructors of static objects do with the runtime, a plain thread does.
  arch::set_thread_slot(nullptr);
}

void main_left_by_goexit(goroutine* g) noexcept {
  g->clear_flag(task::flag_main);
  the_scheduler.main_left_by_goexit.store(true, std::memory_order_relaxed);
}

int change_processors(int n) noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  const int before = s.processor_count.load(std::memory_order_relaxed);
  // A plain thread may come when the run is over.
  if (n >= 1 && s.state.load(std::memory_order_relaxed) == phase::running) resize(std::min(n, max_processors));
  s.lock.unlock();
  wake_if_work_is_waiting();
  return before;
}

run_claim::run_claim() {
  scheduler& s = the_scheduler;
  if (const worker* w = this_worker(); w != nullptr && !w->plain_thread) {
    throw std::logic_error("tuco::run called from a goroutine");
  }
  phase seen = phase::stopped;
  if (s.state.compare_exchange_strong(seen, phase::starting)) return;
  if (seen != phase::overdue || !s.state.compare_exchange_strong(seen, phase::stopping)) {
    throw std::logic_error("tuco::run: the runtime is running already");
  }
  if (!end_run()) {
    s.state.store(phase::overdue, std::memory_order_seq_cst);
    throw std::logic_error("tuco::run: the last run has not ended: code that it called inside the runtime is stuck");
  }
  s.state.store(phase::starting, std::memory_order_seq_cst);
}

run_claim::~run_claim() {
  the_scheduler.state.store(all_gone_ ? phase::stopped : phase::overdue, std::memory_order_seq_cst);
}

// The run opens when all that it needs is there, or not at all: the monitor waits for it, and the first
// worker, which holds a processor and the main goroutine, opens it (open_run()). So nobody sees a runtime in
// which nothing is runnable yet, and takes that for a deadlock.
int run_main(run_claim& claim, const start_options& options, int (*entry)(void*), void* object) {
  scheduler& s = the_scheduler;
  s.epoch.fetch_add(1, std::memory_order_acq_rel);
  os::start_membarrier();
  os::start_tick_clock();
  watch_forks();
  static const int registered = std::atexit(&at_exit);
  static_cast<void>(registered);
  this_worker_or_attach();
  pthread_sigmask(SIG_SETMASK, nullptr, &signal_mask);
  s.default_size_class.store(
      static_cast<std::uint8_t>(
          std::min(task::stack_class_for(options.stack_size), task::stack_class_count - 1)),
      std::memory_order_relaxed);
  s.max_workers = options.max_workers;
  s.main_left_by_goexit.store(false, std::memory_order_relaxed);
  s.follow_quota.store(options.follow_quota, std::memory_order_relaxed);
  s.thread_refused.store(0, std::memory_order_relaxed);
  s.need_searching.store(false, std::memory_order_relaxed);

  the_main.entry = entry;
  the_main.object = object;
  the_main.result = 0;
  the_main.done.store(0, std::memory_order_relaxed);
  goroutine* main = make_main([] { the_main.result = the_main.entry(the_main.object); });
  s.lock.lock();
  resize(std::clamp(options.processors, 1, max_processors));
  processor* first = take_idle();
  s.lock.unlock();
  try {
    if (first == nullptr) throw std::bad_alloc();
    start_monitor(options);
    start_first_worker(first, main);
  } catch (...) {
    s.state.store(phase::stopping, std::memory_order_seq_cst);
    stop_monitor();
    close_run();
    discard_main(main);
    throw;
  }
  while (the_main.done.load(std::memory_order_acquire) == 0) os::futex_wait(the_main.done, 0);
  base::tsan_acquire(&the_main);

  stop_monitor();
  claim.all_gone_ = end_run();
  return the_main.result;
}

void open_run() noexcept {
  the_scheduler.state.store(phase::running, std::memory_order_seq_cst);
  wake_monitor();
}

}  // namespace tuco::inline v1::sched
