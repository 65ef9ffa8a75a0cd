// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "arch/context.hpp"
#include "os/membarrier.hpp"
#include "os/thread.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

#if defined(TUCO_TSAN_FIBERS) && defined(__clang__)
#define TUCO_SWITCHES_STACK __attribute__((noinline, disable_sanitizer_instrumentation))
#elif defined(TUCO_TSAN_FIBERS)
#define TUCO_SWITCHES_STACK __attribute__((noinline, noipa, no_sanitize_thread))
#elif defined(__clang__)
#define TUCO_SWITCHES_STACK __attribute__((noinline))
#else
#define TUCO_SWITCHES_STACK __attribute__((noinline, noipa))
#endif

/// Where stacks are exchanged. Only in functions with the attributes above: never inlined and opaque to
/// interprocedural analysis, so that whoever calls one must assume that another thread runs afterwards. After
/// it, such a function must not use what it read of the thread before.
[[gnu::always_inline]] inline void switch_stacks(
    arch::context& from, const arch::context& to, [[maybe_unused]] base::sanitizer_fiber* leaving,
    [[maybe_unused]] const base::sanitizer_fiber* entering) noexcept {
#ifdef TUCO_TSAN_FIBERS
  constexpr unsigned no_sync = 1;
  __tsan_switch_to_fiber(entering->tsan, no_sync);
#endif
#ifdef TUCO_BASE_ASAN
  // A null fake stack tells ASan that the one we leave is over.
  __sanitizer_start_switch_fiber(leaving != nullptr ? &leaving->fake_stack : nullptr,
                                 entering->bottom, entering->size);
#endif
  arch::switch_saved(from, to);
#ifdef TUCO_BASE_ASAN
  __sanitizer_finish_switch_fiber(leaving != nullptr ? leaving->fake_stack : nullptr, nullptr,
                                  nullptr);
#endif
}

/// Takes the thread's exception state along: it belongs to what runs on this stack.
task::exception_globals take_exceptions(worker* w) noexcept {
  task::exception_globals taken = *w->exceptions;
  if (taken.caught != nullptr || taken.uncaught != 0) [[unlikely]] *w->exceptions = {};
  return taken;
}

void put_exceptions(worker* w, const task::exception_globals& taken) noexcept {
  if (taken.caught != nullptr || taken.uncaught != 0) [[unlikely]] *w->exceptions = taken;
}

/// A reader holds the stack still for a few microseconds (task/goroutine.hpp, pinning).
[[gnu::noinline, gnu::cold]] void wait_until_unpinned(goroutine* g) noexcept {
  for (;;) {
    // Not running yet: the reader that comes now must see that the stack is still there to read.
    g->status.store(goroutine_status::runnable, std::memory_order_release);
    for (int i = 0; g->pins.load(std::memory_order_acquire) != 0; ++i) {
      if (i < 100) base::pause();
      else base::spin_wait_yield();
    }
    g->status.store(goroutine_status::running, std::memory_order_relaxed);
    os::light_fence();
    if (g->pins.load(std::memory_order_acquire) == 0) return;
  }
}

/// `g` is about to run on `w`: after this no reader looks at its stack.
[[gnu::always_inline]] inline void claim_stack(worker* w, goroutine* g) noexcept {
  g->worker.store(w, std::memory_order_relaxed);
  g->status.store(goroutine_status::running, std::memory_order_release);  // who sees it sees whose
  os::light_fence();
  if (g->pins.load(std::memory_order_acquire) != 0) [[unlikely]] wait_until_unpinned(g);
  g->switches.store(g->switches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  w->current.store(g, std::memory_order_relaxed);
}

/// `g` with a stack, or null: then it waits in the global queue until somebody frees one.
goroutine* with_stack(worker* w, goroutine* g) noexcept {
  task::stack_failure why;
  if (give_stack(w->p, g, why)) [[likely]] return g;
  push_global(g);
  return nullptr;
}

[[gnu::noinline]] void leave_behind_rarely(worker* w, goroutine* g, after_switch what) noexcept {
  switch (what) {
    case after_switch::requeue_global:
    case after_switch::surrender:
      g->status.store(goroutine_status::runnable, std::memory_order_release);
      push_global(g);
      if (what == after_switch::surrender) wake_worker();
      break;
    case after_switch::reap: release_goroutine(w, g); break;
    default: break;
  }
}

/// What the next context does for the one that was left.
[[gnu::always_inline]] inline void leave_behind(worker* w, goroutine* g, after_switch what) noexcept {
  if (what == after_switch::park) {
    // Before the commit action: as soon as that releases the waiter, somebody may make it runnable.
    g->status.store(goroutine_status::waiting, std::memory_order_release);
    if (!w->commit(g, w->commit_argument)) [[unlikely]] {
      g->status.store(goroutine_status::runnable, std::memory_order_release);
      push_next(w, g);
      wake_worker();
    }
  } else if (what == after_switch::requeue) {
    g->status.store(goroutine_status::runnable, std::memory_order_release);
    push_local(w, g);
  } else {
    leave_behind_rarely(w, g, what);
  }
}

}  // namespace

void finish_switch(worker* w) noexcept {
  leave_behind(w, w->pending_goroutine, std::exchange(w->pending, after_switch::nothing));
}

TUCO_SWITCHES_STACK void leave(worker* w, goroutine* g, goroutine* next, after_switch what) noexcept {
  arch::save_control(g->context);  // here and not at the switch: behind the pick, which has waited already
  const int saved_errno = *w->errno_address;
  const std::uint32_t depth = w->in_runtime.load(std::memory_order_relaxed);
  const task::exception_globals exceptions = take_exceptions(w);
  if (next != nullptr && !next->has_stack()) next = with_stack(w, next);
  w->pending = what;
  w->pending_goroutine = g;
  base::tsan_release(&the_scheduler);  // to the end of run(), should this be its last
  const arch::context* to = &w->own_context;
  const base::sanitizer_fiber* entering = &w->fiber;
  if (next != nullptr) [[likely]] {
    claim_stack(w, next);
    to = &next->context;
    entering = &next->fiber;
  } else {
    w->current.store(nullptr, std::memory_order_relaxed);
  }
  switch_stacks(g->context, *to, &g->fiber, entering);
  worker* now = this_worker();
  leave_behind(now, now->pending_goroutine, std::exchange(now->pending, after_switch::nothing));
  put_exceptions(now, exceptions);
  base::tsan_acquire(g);
  *now->errno_address = saved_errno;
  now->in_runtime.store(depth, std::memory_order_relaxed);
}

TUCO_SWITCHES_STACK void run_goroutine(worker* w, goroutine* g) noexcept {
  arch::save_control(w->own_context);
  claim_stack(w, g);
  switch_stacks(w->own_context, g->context, &w->fiber, &g->fiber);
  finish_switch(w);
}

TUCO_SWITCHES_STACK void leave_for_good(worker* w, goroutine* g, goroutine* next) noexcept {
  arch::save_control(g->context);
  if (next != nullptr && !next->has_stack()) next = with_stack(w, next);
  w->pending = after_switch::reap;
  w->pending_goroutine = g;
  base::tsan_release(reinterpret_cast<void*>(g->stack.low));  // pairs with goroutine_entry()
  if (next != nullptr) {
    claim_stack(w, next);
    switch_stacks(g->context, next->context, nullptr, &next->fiber);
  } else {
    w->current.store(nullptr, std::memory_order_relaxed);
    switch_stacks(g->context, w->own_context, nullptr, &w->fiber);
  }
  __builtin_unreachable();
}

void prepare_fiber([[maybe_unused]] goroutine* g) noexcept {
#ifdef TUCO_TSAN_FIBERS
  if (g->fiber.tsan == nullptr) {
    const base::as_fiber maker(this_worker()->fiber);  // behind whom it is ordered, else: who ran before
    g->fiber.tsan = __tsan_create_fiber(0);
  }
#endif
#ifdef TUCO_BASE_ASAN
  g->fiber = {nullptr, reinterpret_cast<const void*>(g->stack.low), g->stack.size()};
#endif
}

void start_on_this_stack(worker* w, goroutine* next) noexcept {
  prepare_fiber(next);
  claim_stack(w, next);
#ifdef TUCO_BASE_ASAN
  // What the ended goroutine left poisoned below us belongs to nobody now.
  __asan_unpoison_memory_region(next->fiber.bottom, next->fiber.size);
  __sanitizer_start_switch_fiber(nullptr, next->fiber.bottom, next->fiber.size);
#endif
  arch::restart_stack(next->stack.top(), &goroutine_entry);
}

}  // namespace tuco::inline v1::sched
