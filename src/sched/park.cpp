// SPDX-License-Identifier: Apache-2.0
#include "sched/park.hpp"

#include <tuco/go.hpp>

#include "arch/thread_slot.hpp"
#include "base/tick_clock.hpp"
#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/membarrier.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

/// Nobody can run in our place here, and yet we must not go on.
bool must_leave(worker* w) noexcept {
  // Only the worker's own stack passes on what it has picked for another, gives a processor back, ends.
  if (w->hand_to != nullptr) return true;
  if (w->p->status.load(std::memory_order_relaxed) == processor_status::retired) return true;
  if (the_scheduler.state.load(std::memory_order_relaxed) != phase::running) return true;
  // Who has locked its thread lends the processor to others until it is its turn again.
  return w->locked_goroutine != nullptr &&
         (any_work_visible() || earliest_timer() <= os::steady_now_ns());
}

/// Lets one other goroutine run first, if there is one.
[[gnu::always_inline]] inline void give_way(worker* w, after_switch how) noexcept {
  goroutine* next = pick(w, due_timers::run);
  if (next == nullptr) {
    if (!must_leave(w)) return;
    how = after_switch::requeue_global;
  }
  leave(w, w->running(), next, how);
}

}  // namespace

[[gnu::cold]] void answer_monitor(worker* w, std::uint32_t depth) noexcept {
  for (;;) {
    attention word = w->attention_word.load(std::memory_order_acquire);
    if (word == attention::forked) die_after_fork();
    if (depth != 0) return;  // the outermost section has answered, or will be asked again
    switch (word) {
      case attention::none: return;
      case attention::yield:
        if (w->attention_word.compare_exchange_strong(word, attention::none)) {
          // The slice is used up for the one, too, that would inherit it: goroutines that keep waking each
          // other would keep out all others for as long as one of them is always next.
          if (goroutine* heir = w->p->run_queue.pop_next()) push_local(w, heir);
          give_way(w, after_switch::requeue_global);
          w = this_worker();
        }
        break;
      case attention::asked:
        // We are inside, so the answer is no. If the monitor has decided meanwhile, the exchange fails.
        if (w->attention_word.compare_exchange_strong(word, attention::none)) return;
        break;
      case attention::forked: break;
      case attention::taken: {
        // From here on the end of the run waits for us; it may have been faster (lifecycle.cpp).
        if (!w->attention_word.compare_exchange_strong(word, attention::none)) break;
        w->p = nullptr;
        scheduler& s = the_scheduler;
        s.lock.lock();
        processor* p = s.state.load(std::memory_order_relaxed) == phase::running ? take_idle() : nullptr;
        s.lock.unlock();
        if (p != nullptr) {
          acquire(w, p);
          return;
        }
        leave(w, w->running(), nullptr, after_switch::surrender);
        return;
      }
      case attention::abandoned: block_forever();
    }
  }
}

namespace {

/// Sleeps until ready(), or until the deadline has claimed the wait.
void block_plain_thread(goroutine* g, std::int64_t deadline_ns) noexcept {
  while (g->thread_word.load(std::memory_order_acquire) == 0) {
    if (os::futex_wait(g->thread_word, 0, deadline_ns) == os::futex_result::timed_out) {
      if (try_claim(g, claimed_by_deadline)) return;
      deadline_ns = no_deadline;  // somebody else has claimed it, and will ready it in a moment
    }
  }
}

/// What a plain thread does instead of leaving its stack.
void park_plain_thread(goroutine* g, std::int64_t deadline_ns, commit_action commit,
                       void* argument) noexcept {
  g->thread_word.store(0, std::memory_order_relaxed);
  g->status.store(goroutine_status::waiting, std::memory_order_release);
  if (commit(g, argument)) block_plain_thread(g, deadline_ns);
  base::tsan_acquire(g);
  g->status.store(goroutine_status::running, std::memory_order_relaxed);
}

[[gnu::always_inline]] inline void note_wait(goroutine* g, wait_reason reason, const void* object) noexcept {
  g->reason.store(reason, std::memory_order_relaxed);
  g->wait_object.store(object, std::memory_order_relaxed);
  g->wait_since.store(base::ticks(), std::memory_order_relaxed);
}

}  // namespace

#ifdef TUCO_TSAN_FIBERS
runtime_section::runtime_section() noexcept : self_(enter_runtime()->running()) {}
runtime_section::~runtime_section() { exit_runtime(); }

bool entry_has_a_question() noexcept {
  const worker* w = this_worker();
  return w == nullptr || w->attention_word.load(std::memory_order_relaxed) != attention::none;
}
#endif

void park(commit_action commit, void* argument, wait_reason reason, const void* object) noexcept {
  worker* w = this_worker();
  goroutine* g = w->running();
  note_wait(g, reason, object);
  if (w->plain_thread) [[unlikely]] return park_plain_thread(g, no_deadline, commit, argument);
  w->commit = commit;
  w->commit_argument = argument;
  leave(w, g, pick(w, due_timers::defer), after_switch::park);
}

std::uint32_t park_until(std::int64_t deadline_ns, commit_action commit, void* argument,
                         wait_reason reason, const void* object) noexcept {
  worker* w = this_worker();
  goroutine* g = w->running();
  if (deadline_ns == no_deadline) {
    park(commit, argument, reason, object);
    return g->claim.load(std::memory_order_acquire);
  }
  if (w->plain_thread) [[unlikely]] {
    note_wait(g, reason, object);
    park_plain_thread(g, deadline_ns, commit, argument);
    return g->claim.load(std::memory_order_acquire);
  }

  // The commit action arms the deadline before it runs the caller's. The other order is impossible:
  // the caller's action publishes the waiter, and from then on a waker may run `self` to the end of
  // this function, `timed` included. In this order only the deadline can be early: it readies a
  // goroutine that is saved, which then waits for the lock that `inner` is about to release.
  struct timed_commit {
    commit_action inner;
    void* inner_argument;
    timers::entry deadline;

    static bool run(goroutine* self, void* p) noexcept {
      auto* t = static_cast<timed_commit*>(p);
      const commit_action inner = t->inner;
      void* const inner_argument = t->inner_argument;
      const std::int64_t when = t->deadline.when_ns;
      const bool earliest = this_worker()->p->timers.add(t->deadline);
      if (!inner(self, inner_argument)) {
        // What it waits for is there. Whoever brought it holds the claim (a notifier) or knows nothing of
        // `self` (the poller): then the claim must become ours, or the deadline readies us later. That one
        // alone readies whom it has claimed. docs/design/memory_ordering.md
        if (!try_claim(self, claimed_by_commit) &&
            self->claim.load(std::memory_order_acquire) == claimed_by_deadline) {
          return true;
        }
        timers::heap::remove(t->deadline);
        return false;
      }
      if (earliest) {
        worker* w = this_worker();
        // On its own stack it looks for work next, and sits in the poller itself if there is none.
        if (w->current != nullptr) timer_became_earliest(when);
        else w->owes_timer = true;
      }
      return true;
    }
  } timed{commit, argument, {}};
  timed.deadline.when_ns = deadline_ns;
  timed.deadline.g = g;
  park(&timed_commit::run, &timed, reason, object);
  timers::heap::remove(timed.deadline);
  return g->claim.load(std::memory_order_acquire);
}

bool make_runnable(goroutine* g) noexcept {
  if (g->epoch != the_scheduler.epoch.load(std::memory_order_relaxed)) [[unlikely]] return false;
  base::tsan_release(g);
  g->status.store(goroutine_status::runnable, std::memory_order_release);
  return true;
}

void ready(goroutine* g) noexcept {
  if ((g->flags & task::flag_plain_thread) != 0) [[unlikely]] {
    base::tsan_release(g);
    g->thread_word.store(1, std::memory_order_release);
    os::futex_wake(g->thread_word);
    return;
  }
  if (!make_runnable(g)) [[unlikely]] return;
  worker* w = this_worker();
  if (w != nullptr && w->p != nullptr) [[likely]] {
    push_next(w, g);
  } else {
    push_global(g);
  }
  wake_worker();
}

void ready_all(ready_list& list) noexcept {
  worker* w = this_worker();
  ready_list others;
  while (goroutine* g = list.pop_front()) {
    if ((g->flags & task::flag_plain_thread) != 0) {
      ready(g);
      continue;
    }
    if (!make_runnable(g)) continue;
    if (w != nullptr && w->p != nullptr) {
      push_local(w, g);
      wake_worker();
    } else {
      others.push_back(g);
    }
  }
  if (others.head != nullptr) push_global(others);
}

namespace {

[[gnu::always_inline]] inline void yield_on(worker* w) noexcept {
  if (w->p == nullptr) [[unlikely]] return base::spin_wait_yield();  // a plain thread
  give_way(w, after_switch::requeue);
}

}  // namespace

void yield_in_section() noexcept { yield_on(this_worker()); }

}  // namespace tuco::inline v1::sched

namespace tuco::inline v1 {

void yield() noexcept {
  sched::yield_on(sched::enter_runtime());
  sched::exit_runtime();
}

}  // namespace tuco::inline v1
