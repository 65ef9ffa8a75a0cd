// SPDX-License-Identifier: Apache-2.0
// Idle processors, idle workers, and threads that come and go.
#include <utility>

#include "os/clock.hpp"
#include "os/futex.hpp"
#include "poll/poller.hpp"
#include "sched/scheduler.hpp"
#include "sched/thread_start.hpp"

namespace tuco::inline v1::sched {
namespace {

/// Go keeps idle threads for ever. We let them go after this: a burst of blocking calls leaves no
/// crowd behind. Long, so that threads which are needed again each second are kept.
constexpr std::int64_t reap_after_ns = 10'000'000'000;

constexpr std::uint32_t word_asleep = 0;
constexpr std::uint32_t word_woken = 1;

/// Sends what a retired processor still has to the others. The caller holds it.
void dissolve(processor* p) noexcept {
  ready_list list;
  while (goroutine* g = p->run_queue.pop().item) list.push_back(g);
  if (list.head != nullptr) push_global(list);
  processor* heir = the_scheduler.processors[0].load(std::memory_order_relaxed);
  if (p != heir && p->timers.next() != no_deadline && p->timers.merge_into(heir->timers)) {
    timer_became_earliest(heir->timers.next());
  }
}

/// The end of holding `p`, whatever has become of it.
void give_back(processor* p) noexcept {
  scheduler& s = the_scheduler;
  if (p->status.load(std::memory_order_relaxed) == processor_status::retired) dissolve(p);
  s.lock.lock();
  put_idle(p);
  s.lock.unlock();
  // As after a search: what was submitted before the processor was visibly idle woke nobody.
  wake_if_work_is_waiting();
}

}  // namespace

void acquire(worker* w, processor* p) noexcept {
  w->p = p;
  p->owner.store(w, std::memory_order_release);
}

processor* release(worker* w) noexcept {
  processor* p = w->p;
  w->p = nullptr;
  p->owner.store(nullptr, std::memory_order_relaxed);
  return p;
}

void put_idle(processor* p) noexcept {
  scheduler& s = the_scheduler;
  p->held = false;
  if (p->status.load(std::memory_order_relaxed) == processor_status::retired) return;
  p->status.store(processor_status::idle, std::memory_order_relaxed);
  p->next_idle = s.idle_processors;
  s.idle_processors = p;
  s.idle_processor_count.fetch_add(1, std::memory_order_seq_cst);
}

processor* take_idle() noexcept {
  scheduler& s = the_scheduler;
  processor* p = s.idle_processors;
  if (p == nullptr) return nullptr;
  s.idle_processors = p->next_idle;
  p->next_idle = nullptr;
  p->held = true;
  p->status.store(processor_status::running, std::memory_order_relaxed);
  // Store, then look, and so does the monitor (sleep_while_all_idle): all four are seq_cst.
  s.idle_processor_count.fetch_sub(1, std::memory_order_seq_cst);
  if (s.monitor_asleep.load(std::memory_order_seq_cst)) wake_monitor();
  return p;
}

void wake_worker() noexcept {
  scheduler& s = the_scheduler;
  // A single processor that is ours cannot be idle, and nobody can be about to make it so.
  if (s.processor_count.load(std::memory_order_relaxed) == 1) {
    const worker* self = this_worker();
    if (self != nullptr && self->p != nullptr) return;
  }
  base::full_fence();  // S2
  if (s.idle_processor_count.load(std::memory_order_relaxed) == 0) return;
  int nobody = 0;
  if (s.searching.load(std::memory_order_relaxed) != 0 ||
      !s.searching.compare_exchange_strong(nobody, 1, std::memory_order_acq_rel)) {
    return;
  }
  s.lock.lock();
  processor* p = s.state.load(std::memory_order_relaxed) == phase::running ? take_idle() : nullptr;
  if (p == nullptr) {
    // Whoever gives a processor back next must search in our place.
    s.need_searching.store(true, std::memory_order_relaxed);
    s.searching.fetch_sub(1, std::memory_order_acq_rel);
    s.lock.unlock();
    return;
  }
  s.lock.unlock();
  start_worker(p, true);
}

void wake_thread(worker* w) noexcept {
  w->wake_word.store(word_woken, std::memory_order_release);
  os::futex_wake(w->wake_word);
}

void start_worker(processor* p, bool searching) noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  worker* w = s.idle_workers;
  if (w != nullptr) {
    s.idle_workers = w->next_idle;
    w->is_idle = false;
    --s.idle_worker_count;
    s.lock.unlock();
    w->next_processor = p;
    w->next_spinning = searching;
    wake_thread(w);
    return;
  }
  s.lock.unlock();
  if (new_worker(p, searching)) return;
  // No thread can be had, or the run is over. The processor goes back; its queue can be stolen from, the
  // workers that exist take up the rest when they get to it, and the monitor tries again.
  s.lock.lock();
  put_idle(p);
  s.lock.unlock();
  if (searching) s.searching.fetch_sub(1, std::memory_order_acq_rel);
}

void stop_worker(worker* w) noexcept {
  scheduler& s = the_scheduler;
  if (w->p != nullptr) give_back(release(w));
  s.lock.lock();
  if (s.state.load(std::memory_order_relaxed) != phase::running) {
    end_worker(w);
    s.lock.unlock();
    return;
  }
  w->next_idle = s.idle_workers;
  s.idle_workers = w;
  w->is_idle = true;
  ++s.idle_worker_count;
  check_deadlock();
  s.lock.unlock();

  for (;;) {
    if (w->wake_word.load(std::memory_order_acquire) == word_woken) break;
    const auto result =
        os::futex_wait(w->wake_word, word_asleep, os::steady_now_ns() + reap_after_ns);
    if (result != os::futex_result::timed_out) continue;
    s.lock.lock();
    if (w->is_idle && remove_idle(w)) {
      end_worker(w);
      s.threads_reaped.fetch_add(1, std::memory_order_relaxed);
      s.lock.unlock();
      return;
    }
    s.lock.unlock();
  }
  w->wake_word.store(word_asleep, std::memory_order_relaxed);
  if (w->next_processor == nullptr) {  // woken to end
    s.lock.lock();
    end_worker(w);
    s.lock.unlock();
    return;
  }
  w->spinning = w->next_spinning;
  acquire(w, std::exchange(w->next_processor, nullptr));
}

void hand_over(processor* p) noexcept {
  scheduler& s = the_scheduler;
  if (p->status.load(std::memory_order_relaxed) == processor_status::retired ||
      s.state.load(std::memory_order_relaxed) != phase::running) {
    return give_back(p);
  }
  if (!p->run_queue.empty() || s.global_size.load(std::memory_order_relaxed) != 0) {
    return start_worker(p, false);
  }
  s.lock.lock();
  if (!s.global.empty()) {
    s.lock.unlock();
    return start_worker(p, false);
  }
  // The last one running: somebody must sit in the poller and keep the timers.
  const bool last = s.idle_processor_count.load(std::memory_order_relaxed) ==
                    s.processor_count.load(std::memory_order_relaxed) - 1;
  if (last && !s.poller_taken.load(std::memory_order_relaxed) &&
      (earliest_timer() != no_deadline ||
       (poll::the_poller().initialized() && poll::the_poller().waiters() != 0))) {
    s.lock.unlock();
    return start_worker(p, false);
  }
  const std::int64_t next = p->timers.next();
  put_idle(p);
  s.lock.unlock();
  wake_if_work_is_waiting();
  // Nobody looks after them now, unless somebody sleeps in the poller until then at the latest.
  if (next != no_deadline) timer_became_earliest(next);
}

}  // namespace tuco::inline v1::sched
