// SPDX-License-Identifier: Apache-2.0
// What a worker does next.
//
// The number of awake workers should match the work: too few leave processors idle beside runnable
// goroutines, too many burn power and fight for queues. It is hard because work is submitted to
// per-processor queues that nobody sees as a whole.
//
// Rejected: one shared queue (every switch contends for it); handing a goroutine directly to a new
// worker when it becomes runnable (its data is warm here, and most of them run within a microsecond
// here anyway); waking a worker for each submission (a storm of wake-ups that find nothing).
//
// Chosen, as in Go: a worker that runs out of work *searches* for a while before it sleeps, and a
// submitter wakes one only if a processor is idle and nobody searches. A searcher that finds work
// wakes another if it was the last one. So bursts are picked up one by one and quiet ends quickly.
//
// No worker sleeps while a goroutine waits in a queue:
//
//   submit                                     the last searcher gives up
//   S1  queue.tail.store(t + 1, release)       P1  searching.fetch_sub(1)
//   S2  full_fence()                           P2  full_fence()
//   S3  searching.load(), idle processors?     P3  look at every queue again, and at the timers
//
// Claim      It cannot be that S3 misses P1 and P3 misses S1.
// Proof      One of the two fences is first in the order of fences. S2 first: P3 reads S1, the
//            searcher takes the goroutine. P2 first: S3 reads P1; if that is 0 the submitter wakes a
//            worker; if it is more, another searcher has yet to do its own P1 and the first case
//            holds for that one. The same with "processor put on the idle list" in P1's place.
// Too weak   Without S2 (x86 included) the store waits in the store buffer while the load runs.
// Test       test/model/idle_model.cpp, which fails without S2, without P2 and without P3.
#include <algorithm>
#include <numeric>
#include <utility>

#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/sleep.hpp"
#include "poll/poller.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

/// Moves a share of the global queue to `p`, which is empty, and returns the first.
goroutine* take_from_global(processor& p, std::size_t max) noexcept {
  scheduler& s = the_scheduler;
  if (s.global_size.load(std::memory_order_relaxed) == 0) return nullptr;
  s.lock.lock();
  const std::size_t size = s.global.size();
  std::size_t count = size / static_cast<std::size_t>(s.processor_count.load(std::memory_order_relaxed)) + 1;
  count = std::min({count, size, max});
  auto batch = s.global.pop_front_batch(count);
  s.global_size.store(static_cast<std::uint32_t>(s.global.size()), std::memory_order_relaxed);
  s.lock.unlock();
  goroutine* first = batch.first;
  if (first == nullptr) return nullptr;
  goroutine* rest = first->next;
  first->next = nullptr;
  while (rest != nullptr) {
    goroutine* g = rest;
    rest = rest->next;
    g->next = nullptr;
    if (!p.run_queue.push_back(g)) push_global(g);
  }
  return first;
}

void begin_search(worker* w) noexcept {
  w->spinning = true;
  the_scheduler.searching.fetch_add(1, std::memory_order_acq_rel);
}

/// The searcher has found something: if it was the last one, it sends another, because there may be
/// more where this came from.
void end_search_with_work(worker* w) noexcept {
  w->spinning = false;
  const int before = the_scheduler.searching.fetch_sub(1, std::memory_order_acq_rel);
  if (before == 1) wake_worker();
}

/// Runs the due timers of `p` and queues what they woke.
void run_timers(processor& p) noexcept {
  const std::int64_t next = p.timers.next();
  if (next == no_deadline) return;
  const std::int64_t now = os::steady_now_ns();
  if (next > now) return;
  ready_list due;
  p.timers.run_due(now, due);
  if (due.head != nullptr) ready_all(due);
}

/// Of a processor that switches rapidly: picks in the 3 µs that a thief waits for its next slot to empty.
constexpr std::uint32_t rapid_picks = 3;
/// How often a searcher that has left a rapid processor its next slot begins anew before it sleeps. Its
/// owner would wake it again with its next ready(), which costs both more than they have to do.
constexpr int rapid_searches = 8;

struct search_notes {
  bool timers = false;  ///< some were due somewhere; their goroutines are in our own queue
  bool rapid = false;   ///< a next slot was left to an owner that switches rapidly
};

/// One pass over the others in random order.
goroutine* steal(worker* w, bool last_pass, search_notes& notes) noexcept {
  scheduler& s = the_scheduler;
  processor& self = *w->p;
  const auto slots = static_cast<std::uint32_t>(s.processor_slots.load(std::memory_order_acquire));
  if (slots == 1 && !last_pass) return nullptr;
  // A step that is coprime to the number visits each exactly once.
  const std::uint32_t start = self.random.below(slots);
  std::uint32_t step = 1 + self.random.below(slots);
  while (std::gcd(step, slots) != 1) ++step;
  for (std::uint32_t i = 0, at = start; i < slots; ++i, at = (at + step) % slots) {
    processor* victim = s.processors[at].load(std::memory_order_acquire);
    if (last_pass) {
      const std::int64_t next = victim->timers.next();
      if (next != no_deadline && next <= os::steady_now_ns()) {
        run_timers(*victim);
        if (!self.run_queue.empty()) {
          notes.timers = true;
          return nullptr;
        }
      }
    }
    // An idle one may have goroutines, too: there was no thread for it.
    if (victim == &self) continue;
    goroutine* first = nullptr;
    bool take_next = last_pass;
    if (last_pass && victim->run_queue.size() == 1 &&
        victim->status.load(std::memory_order_relaxed) == processor_status::running) {
      // Most likely the next slot: its owner is about to park and to run it. A channel operation
      // takes tens of nanoseconds, a stolen goroutine's cache misses microseconds. Where goroutines
      // follow each other that fast, two that play ping-pong are not torn apart: the owner gets to the
      // slot before we could. If it does not, the last look (P3) sees the slot, and the search begins
      // anew.
      const std::uint32_t before = victim->picked.load(std::memory_order_relaxed);
      const std::int64_t until = os::steady_now_ns() + 3'000;
      while (os::steady_now_ns() < until) base::pause();
      take_next = victim->picked.load(std::memory_order_relaxed) - before < rapid_picks;
      notes.rapid = notes.rapid || !take_next;
    }
    if (victim->run_queue.steal_into(self.run_queue, take_next, first) != 0) {
      self.counters.steals.store(self.counters.steals.load(std::memory_order_relaxed) + 1,
                                 std::memory_order_relaxed);
      return first;
    }
  }
  return nullptr;
}

/// Looks at the network without blocking. One at a time: the others would only queue up in the kernel.
goroutine* poll_network() noexcept {
  scheduler& s = the_scheduler;
  poll::poller& poller = poll::the_poller();
  if (!poller.initialized() || poller.waiters() == 0) return nullptr;
  if (s.looking.exchange(true, std::memory_order_acquire)) return nullptr;
  ready_list found;
  poller.poll(0, found);
  s.last_poll.store(os::steady_now_ns(), std::memory_order_relaxed);
  s.looking.store(false, std::memory_order_release);
  goroutine* g = nullptr;
  while ((g = found.pop_front()) != nullptr && !make_runnable(g)) {
  }
  if (found.head != nullptr) ready_all(found);
  return g;
}

/// Sleeps in the poller until a descriptor is ready or the earliest timer is due. `w` has no
/// processor. At most one worker does this; false if somebody else sits there or there is no reason.
bool sleep_in_poller(ready_list& found) noexcept {
  scheduler& s = the_scheduler;
  poll::poller& poller = poll::the_poller();
  const bool anyone = poller.initialized() && poller.waiters() != 0;
  if (!anyone && earliest_timer() == no_deadline) return false;
  if (s.poller_taken.exchange(true, std::memory_order_acq_rel)) return false;

  // An earlier timer must not be slept past:
  //
  //   add a timer                                 sleep
  //   A1  heap.next.store(when)                   L1  poller_deadline.store(d)
  //   A2  full_fence()                            L2  full_fence()
  //   A3  d = poller_deadline.load();             L3  d' = earliest of all heap.next.load();
  //       d > when: poller.interrupt()                d' < d: start again with d'
  //
  // As above: either A3 sees L1 and interrupts, or L3 sees A1. The interrupt is remembered by the
  // poller's eventfd, so it may come before the sleep begins. test/model/timer_sleep_model.cpp
  std::int64_t deadline = earliest_timer();
  for (;;) {
    s.poller_deadline.store(deadline, std::memory_order_relaxed);
    base::full_fence();
    const std::int64_t again = earliest_timer();
    if (again >= deadline) break;
    deadline = again;
  }
  // The same fence serves for work that was submitted meanwhile, and for a stop.
  if (any_work_visible() || s.state.load(std::memory_order_acquire) != phase::running) {
    s.poller_deadline.store(0, std::memory_order_relaxed);
    s.poller_taken.store(false, std::memory_order_release);
    return s.state.load(std::memory_order_acquire) == phase::running;
  }
  std::int64_t timeout = -1;
  if (deadline != no_deadline) {
    timeout = deadline - os::steady_now_ns();
    if (timeout < 0) timeout = 0;
  }
  poller.poll(timeout, found);
  const std::int64_t now = os::steady_now_ns();
  s.last_poll.store(now, std::memory_order_relaxed);
  s.poller_deadline.store(0, std::memory_order_relaxed);
  s.poller_taken.store(false, std::memory_order_release);
  run_due_timers_everywhere(now, found);
  return true;
}

/// Does not return without a goroutine and a processor to run it on.
goroutine* find_runnable(worker* w) noexcept {
  scheduler& s = the_scheduler;
  int searches = 0;  // in a row, because of rapid processors
  for (;;) {
    // First of all: it is in no queue, and a worker that sleeps or ends would take it along.
    if (w->hand_to != nullptr) return std::exchange(w->hand_to, nullptr);
    if (s.state.load(std::memory_order_acquire) != phase::running ||
        (w->p != nullptr &&
         w->p->status.load(std::memory_order_relaxed) == processor_status::retired)) {
      if (w->spinning) {
        w->spinning = false;
        s.searching.fetch_sub(1, std::memory_order_acq_rel);
      }
      stop_worker(w);  // gives the processor back, returns with another, or ends the thread
      if (!w->alive.load(std::memory_order_relaxed)) return nullptr;
      continue;
    }
    if (w->p == nullptr) {
      // It was taken while the goroutine was outside; that one is in the global queue by now.
      s.lock.lock();
      processor* idle = take_idle();
      s.lock.unlock();
      if (idle != nullptr) {
        acquire(w, idle);
      } else {
        stop_worker(w);
        if (!w->alive.load(std::memory_order_relaxed)) return nullptr;
      }
      continue;
    }
    if (goroutine* g = pick(w, due_timers::run)) return g;
    if (w->hand_to != nullptr) continue;
    if (goroutine* g = poll_network()) return g;

    // Search, but never more workers than half of the busy processors: they would only meet.
    if (w->spinning ||
        2 * s.searching.load(std::memory_order_relaxed) <
            s.processor_count.load(std::memory_order_relaxed) -
                s.idle_processor_count.load(std::memory_order_relaxed)) {
      if (!w->spinning) begin_search(w);
      search_notes notes;
      for (int pass = 0; pass < 4 && !notes.timers; ++pass) {
        if (goroutine* g = steal(w, pass == 3, notes)) return g;
      }
      if (notes.timers || (notes.rapid && ++searches < rapid_searches)) continue;
      searches = 0;
    }

    processor* p = w->p;
    s.lock.lock();
    if (!s.global.empty()) {
      s.lock.unlock();
      if (goroutine* g = take_from_global(*p, 128)) return g;
      continue;
    }
    if (!w->spinning && s.need_searching.load(std::memory_order_relaxed)) {
      begin_search(w);
      s.need_searching.store(false, std::memory_order_relaxed);
      s.lock.unlock();
      continue;
    }
    release(w);
    put_idle(p);
    s.lock.unlock();

    const bool searched = w->spinning;
    if (searched) {
      w->spinning = false;
      s.searching.fetch_sub(1, std::memory_order_acq_rel);  // P1
    }
    base::full_fence();  // P2
    if (any_work_visible()) {  // P3
      s.lock.lock();
      processor* idle = take_idle();
      if (idle == nullptr) s.need_searching.store(true, std::memory_order_relaxed);
      s.lock.unlock();
      if (idle != nullptr) {
        acquire(w, idle);
        if (searched) begin_search(w);
        continue;
      }
    }

    ready_list found;
    if (sleep_in_poller(found)) {
      ready_list woken;
      while (goroutine* g = found.pop_front()) {
        if (make_runnable(g)) woken.push_back(g);
      }
      s.lock.lock();
      processor* idle = s.state.load(std::memory_order_relaxed) == phase::running ? take_idle() : nullptr;
      s.lock.unlock();
      if (idle != nullptr) {
        acquire(w, idle);
        if (goroutine* g = woken.pop_front()) {
          if (woken.head != nullptr) {
            while (goroutine* other = woken.pop_front()) push_local(w, other);
            wake_worker();
          }
          return g;
        }
        if (searched) begin_search(w);
        continue;
      }
      if (woken.head != nullptr) push_global(woken);
    } else if (const std::int64_t sleeper = s.poller_deadline.load(std::memory_order_acquire);
               sleeper != 0 && earliest_timer() < sleeper) {
      poll::the_poller().interrupt();
    }
    w->owes_timer = false;
    stop_worker(w);
    if (!w->alive.load(std::memory_order_relaxed)) return nullptr;
  }
}

/// `g` may only run on the worker that it locked: lend that worker our processor.
void give_to_locked(worker* w, goroutine* g) noexcept {
  scheduler& s = the_scheduler;
  worker* owner = g->worker.load(std::memory_order_relaxed);
  processor* p = release(w);
  s.lock.lock();
  owner->next_processor = p;
  owner->next_spinning = false;
  // It counts as awake from here on, not from when it has its core: we go to sleep next, and the
  // last one to do so looks whether all are asleep. It may not have begun to wait yet.
  --s.idle_worker_count;
  s.lock.unlock();
  wake_thread(owner);
}

/// This worker's goroutine has locked it and is parked: sleep until somebody lends us a processor to
/// run it. False when the runtime stops instead.
bool wait_for_locked(worker* w) noexcept {
  if (w->p != nullptr) hand_over(release(w));
  scheduler& s = the_scheduler;
  s.lock.lock();
  ++s.idle_worker_count;
  w->locked_waiting.store(true, std::memory_order_release);
  check_deadlock();
  s.lock.unlock();
  while (w->wake_word.exchange(0, std::memory_order_acquire) == 0) os::futex_wait(w->wake_word, 0);
  s.lock.lock();
  processor* lent = std::exchange(w->next_processor, nullptr);
  w->locked_waiting.store(false, std::memory_order_release);
  s.lock.unlock();
  if (lent == nullptr) return false;
  acquire(w, lent);
  return true;
}

}  // namespace

std::int64_t earliest_timer() noexcept {
  scheduler& s = the_scheduler;
  std::int64_t earliest = no_deadline;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) {
    earliest = std::min(earliest, s.processors[i].load(std::memory_order_relaxed)->timers.next());
  }
  return earliest;
}

void run_due_timers_everywhere(std::int64_t now, ready_list& out) noexcept {
  scheduler& s = the_scheduler;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) {
    processor* p = s.processors[i].load(std::memory_order_relaxed);
    if (p->timers.next() <= now) p->timers.run_due(now, out);
  }
}

void timer_became_earliest(std::int64_t when) noexcept {
  scheduler& s = the_scheduler;
  base::full_fence();  // A2
  const std::int64_t sleeper = s.poller_deadline.load(std::memory_order_relaxed);
  if (sleeper != 0) {
    if (when < sleeper) poll::the_poller().interrupt();
  } else if (s.idle_processor_count.load(std::memory_order_relaxed) != 0) {
    // Nobody sleeps in the poller: the timer would wait for this processor, which may be busy.
    wake_worker();
  }
}

bool any_work_visible() noexcept {
  scheduler& s = the_scheduler;
  if (s.global_size.load(std::memory_order_acquire) != 0) return true;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) {
    if (!s.processors[i].load(std::memory_order_relaxed)->run_queue.empty()) return true;
  }
  return false;
}

goroutine* pick(worker* w, due_timers timers) noexcept {
  processor* p = w->p;
  if (p == nullptr) return nullptr;
  // Who has locked its thread runs nothing else on it; of what is handed on, one at a time.
  if (w->locked_goroutine != nullptr || w->hand_to != nullptr) [[unlikely]] return nullptr;
  if (p->status.load(std::memory_order_relaxed) == processor_status::retired ||
      the_scheduler.state.load(std::memory_order_relaxed) != phase::running) [[unlikely]] {
    return nullptr;  // the worker's own stack deals with it
  }
  if (const std::int64_t next = p->timers.next(); next != no_deadline) {
    if (timers == due_timers::run) {
      const base::as_fiber worker_itself(w->fiber);
      run_timers(*p);
    } else if (next <= os::steady_now_ns()) {
      return nullptr;
    }
  }

  goroutine* g = nullptr;
  bool inherits = false;
  if (--p->picks_until_global == 0) [[unlikely]] {
    p->picks_until_global = global_every;
    g = take_from_global(*p, 1);
  }
  if (g == nullptr) {
    const auto popped = p->run_queue.pop();
    g = popped.item;
    inherits = popped.inherits;
  }
  if (g == nullptr) g = take_from_global(*p, 128);
  if (g == nullptr) return nullptr;

  if (g->has_flag(task::flag_locked)) [[unlikely]] {
    w->hand_to = g;
    return nullptr;
  }
  if (!inherits) {
    p->slices.store(p->slices.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  p->picked.store(p->picked.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return g;
}

void spill(worker* w, goroutine* g) noexcept {
  processor& p = *w->p;
  while (!p.run_queue.push_back(g)) {
    // The oldest go to everybody, so that one processor's flood is not its own problem. Not half of a long
    // ring: this array lies on the stack of whoever starts or wakes one too many.
    constexpr std::size_t most = 128;
    goroutine* spilled[most];
    const std::size_t count = p.run_queue.take_half(spilled, most);
    if (count == 0) continue;
    ready_list list;
    for (std::size_t i = 0; i < count; ++i) list.push_back(spilled[i]);
    push_global(list);
  }
}

namespace {

/// Lock held.
void drop_those_of_other_runs(ready_list& list) noexcept {
  scheduler& s = the_scheduler;
  const bool running = s.state.load(std::memory_order_acquire) == phase::running;
  const std::uint32_t epoch = s.epoch.load(std::memory_order_relaxed);
  ready_list all = std::exchange(list, {});
  while (goroutine* g = all.pop_front()) {
    if (running && g->epoch == epoch) list.push_back(g);
  }
}

}  // namespace

void push_global(goroutine* g) noexcept {
  ready_list list;
  list.push_back(g);
  push_global(list);
}

void push_global(ready_list& list) noexcept {
  scheduler& s = the_scheduler;
  const worker* self = this_worker();
  s.lock.lock();
  // The end of a run waits for its workers, not for others: what they bring may belong to a run that is
  // over by now. Under the lock, because close_run() changes the epoch under it.
  if (self == nullptr || self->plain_thread) drop_those_of_other_runs(list);
  s.global.push_back_batch(list.head, list.tail, list.count);
  s.global_size.store(static_cast<std::uint32_t>(s.global.size()), std::memory_order_release);
  s.lock.unlock();
  list = {};
  wake_worker();
}

void worker_loop(worker* w) noexcept {
  std::uint32_t without_stack = 0;  // in a row
  for (;;) {
    if (w->ending) return;
    if (goroutine* g = w->locked_goroutine) {
      if (!wait_for_locked(w)) return;
      run_goroutine(w, g);
      continue;
    }
    goroutine* g = find_runnable(w);
    if (g == nullptr) return;
    // It would have to wait until we are idle. (Who sleeps without a word has looked at the poller's seat.)
    if (std::exchange(w->owes_timer, false)) timer_became_earliest(earliest_timer());
    if (w->spinning) end_search_with_work(w);
    if (g->has_flag(task::flag_locked) && g->worker.load(std::memory_order_relaxed) != w) {
      give_to_locked(w, g);
      stop_worker(w);
      if (!w->alive.load(std::memory_order_relaxed)) return;
      continue;
    }
    task::stack_failure why;
    if (!g->has_stack() && !give_stack(w->p, g, why)) {
      // The goroutine is not lost; others may end and free their stacks. So no pause before each of those
      // that wait in the global queue had its turn.
      push_global(g);
      if (++without_stack > the_scheduler.global_size.load(std::memory_order_relaxed)) {
        without_stack = 0;
        os::sleep_for(1'000'000);
      }
      continue;
    }
    without_stack = 0;
    run_goroutine(w, g);
  }
}

}  // namespace tuco::inline v1::sched
