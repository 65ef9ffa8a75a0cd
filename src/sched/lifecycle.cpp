// SPDX-License-Identifier: Apache-2.0
#include "sched/lifecycle.hpp"

#include <signal.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <system_error>

#include "arch/thread_slot.hpp"
#include "base/sanitizer.hpp"
#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/membarrier.hpp"
#include "os/sleep.hpp"
#include "poll/poller.hpp"
#include "sched/monitor.hpp"
#include "sched/thread_start.hpp"

namespace tuco::inline v1::sched {

constinit scheduler the_scheduler;

namespace {

constexpr std::int64_t stop_limit_ns = 1'000'000'000;

struct main_goroutine {
  int (*entry)(void*) = nullptr;
  void* object = nullptr;
  int result = 0;
  std::atomic<std::uint32_t> done{0};
};
main_goroutine the_main;
std::atomic<std::size_t> stack_size{256 * 1024};
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

/// Ends all workers that are inside the runtime and cuts off those that are not.
void stop_workers() noexcept {
  scheduler& s = the_scheduler;
  const std::int64_t limit = os::steady_now_ns() + stop_limit_ns;
  std::int64_t pause_ns = 20'000;
  for (;;) {
    wake_all_idle();
    poll::the_poller().interrupt();
    int busy = 0;
    for (worker* w = s.all_workers.load(std::memory_order_acquire); w != nullptr; w = w->all_next) {
      if (!w->in_use.load(std::memory_order_acquire) || w->abandoned) continue;
      if (w->locked_waiting.load(std::memory_order_acquire)) {
        wake_thread(w);
        ++busy;
        continue;
      }
      if (w->attention_word.load(std::memory_order_acquire) == attention::taken ||
          take_from_outside(w)) {
        if (w->in_runtime.load(std::memory_order_acquire) == 0) {
          w->abandoned = true;  // at its next entry it sees "taken" and blocks for ever
          continue;
        }
      }
      ++busy;
    }
    if (busy == 0 || os::steady_now_ns() > limit) return;
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

}  // namespace

worker* this_worker() noexcept { return static_cast<worker*>(arch::thread_slot()); }

std::size_t default_stack_size() noexcept { return stack_size.load(std::memory_order_relaxed); }

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
  the_scheduler.state.store(phase::stopping, std::memory_order_seq_cst);
  base::tsan_release(&the_main);
  the_main.done.store(1, std::memory_order_release);
  os::futex_wake(the_main.done);
}

void main_left_by_goexit(goroutine* g) noexcept {
  g->flags = static_cast<std::uint8_t>(g->flags & ~task::flag_main);
  the_scheduler.main_left_by_goexit.store(true, std::memory_order_relaxed);
}

int change_processors(int n) noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  const int before = s.processor_count.load(std::memory_order_relaxed);
  if (n >= 1) resize(std::min(n, max_processors));
  s.lock.unlock();
  wake_if_work_is_waiting();
  return before;
}

int run_main(const start_options& options, int (*entry)(void*), void* object) {
  scheduler& s = the_scheduler;
  if (worker* w = this_worker(); w != nullptr && !w->plain_thread) {
    throw std::logic_error("tuco::run called from a goroutine");
  }
  phase expected = phase::stopped;
  if (!s.state.compare_exchange_strong(expected, phase::running)) {
    throw std::logic_error("tuco::run: the runtime is running already");
  }
  os::start_membarrier();
  os::start_tick_clock();
  watch_forks();
  this_worker_or_attach();
  pthread_sigmask(SIG_SETMASK, nullptr, &signal_mask);
  stack_size.store(options.stack_size, std::memory_order_relaxed);
  s.epoch.fetch_add(1, std::memory_order_relaxed);
  s.max_workers = options.max_workers;
  s.main_left_by_goexit.store(false, std::memory_order_relaxed);
  s.follow_quota.store(options.follow_quota, std::memory_order_relaxed);
  s.searching.store(0, std::memory_order_relaxed);
  s.need_searching.store(false, std::memory_order_relaxed);
  s.lock.lock();
  resize(std::clamp(options.processors, 1, max_processors));
  s.lock.unlock();

  the_main.entry = entry;
  the_main.object = object;
  the_main.result = 0;
  the_main.done.store(0, std::memory_order_relaxed);
  try {
    start_monitor(options);
    start_main([] { the_main.result = the_main.entry(the_main.object); });
  } catch (...) {
    s.state.store(phase::stopping, std::memory_order_seq_cst);
    stop_monitor();
    s.state.store(phase::stopped, std::memory_order_seq_cst);
    throw;
  }
  while (the_main.done.load(std::memory_order_acquire) == 0) os::futex_wait(the_main.done, 0);
  base::tsan_acquire(&the_main);

  stop_monitor();
  stop_workers();
  base::tsan_acquire(&the_scheduler);
  keep_what_is_left_reachable();
  s.lock.lock();
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
  s.idle_workers = nullptr;
  s.idle_worker_count = 0;
  s.worker_count = 0;
  s.poller_taken.store(false, std::memory_order_relaxed);
  s.poller_deadline.store(0, std::memory_order_relaxed);
  poll::the_poller().abandon_waiters();
  s.state.store(phase::stopped, std::memory_order_seq_cst);
  s.lock.unlock();
  return the_main.result;
}

}  // namespace tuco::inline v1::sched
