// SPDX-License-Identifier: Apache-2.0
#include "arch/context.hpp"
#include "os/membarrier.hpp"
#include "os/thread.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

#if defined(TUCO_TSAN_FIBERS) && defined(__clang__)
#define TUCO_SWITCH_ATTRIBUTES __attribute__((noinline, disable_sanitizer_instrumentation))
#elif defined(TUCO_TSAN_FIBERS)
#define TUCO_SWITCH_ATTRIBUTES __attribute__((noinline, noipa, no_sanitize_thread))
#elif defined(__clang__)
#define TUCO_SWITCH_ATTRIBUTES __attribute__((noinline))
#else
#define TUCO_SWITCH_ATTRIBUTES __attribute__((noinline, noipa))
#endif

/// The one place where stacks are exchanged. Never inlined and opaque to interprocedural analysis:
/// whoever calls it must assume that another thread runs afterwards.
TUCO_SWITCH_ATTRIBUTES
void switch_stacks(arch::context& from, const arch::context& to,
                   [[maybe_unused]] base::sanitizer_fiber* leaving,
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
  arch::switch_context(from, to);
#ifdef TUCO_BASE_ASAN
  __sanitizer_finish_switch_fiber(leaving != nullptr ? leaving->fake_stack : nullptr, nullptr,
                                  nullptr);
#endif
}

void save_exceptions(worker* w, goroutine* g) noexcept {
  task::exception_globals& of_thread = *w->exceptions;
  if (of_thread.caught != nullptr || of_thread.uncaught != 0) [[unlikely]] {
    g->exceptions = of_thread;
    of_thread = {};
  }
}

void restore_exceptions(worker* w, goroutine* g) noexcept {
  if (g->exceptions.caught != nullptr || g->exceptions.uncaught != 0) [[unlikely]] {
    *w->exceptions = g->exceptions;
    g->exceptions = {};
  }
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
void claim_stack(worker* w, goroutine* g) noexcept {
  g->status.store(goroutine_status::running, std::memory_order_relaxed);
  os::light_fence();
  if (g->pins.load(std::memory_order_acquire) != 0) [[unlikely]] wait_until_unpinned(g);
  g->worker.store(w, std::memory_order_relaxed);
  g->switches.store(g->switches.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  w->current = g;
  w->visible_goroutine.store(g, std::memory_order_relaxed);
}

/// `g` with a stack, or null: then it waits in the global queue until somebody frees one.
goroutine* with_stack(worker* w, goroutine* g) noexcept {
  task::stack_failure why;
  if (give_stack(w->p, g, why)) [[likely]] return g;
  push_global(g);
  return nullptr;
}

}  // namespace

void finish_switch(worker* w) noexcept {
  const after_switch what = w->pending;
  if (what == after_switch::nothing) return;
  w->pending = after_switch::nothing;
  goroutine* g = w->pending_goroutine;
  switch (what) {
    case after_switch::nothing: break;
    case after_switch::park: {
      g->worker.store(nullptr, std::memory_order_relaxed);
      // Before the commit action: as soon as that releases the waiter, somebody may make it runnable.
      g->status.store(goroutine_status::waiting, std::memory_order_release);
      if (!w->commit(g, w->commit_argument)) {
        g->status.store(goroutine_status::runnable, std::memory_order_release);
        push_next(w, g);
        wake_worker();
      }
      break;
    }
    case after_switch::requeue:
      g->worker.store(nullptr, std::memory_order_relaxed);
      g->status.store(goroutine_status::runnable, std::memory_order_release);
      push_local(w, g);
      break;
    case after_switch::requeue_global:
    case after_switch::surrender:
      g->worker.store(nullptr, std::memory_order_relaxed);
      g->status.store(goroutine_status::runnable, std::memory_order_release);
      push_global(g);
      if (what == after_switch::surrender) wake_worker();
      break;
    case after_switch::reap: release_goroutine(w, g); break;
  }
}

void leave(worker* w, goroutine* g, goroutine* next, after_switch what) noexcept {
  const int saved_errno = *w->errno_address;
  const std::uint32_t depth = w->in_runtime.load(std::memory_order_relaxed);
  save_exceptions(w, g);
  if (next != nullptr && !next->stack) next = with_stack(w, next);
  w->pending = what;
  w->pending_goroutine = g;
  base::tsan_release(&the_scheduler);  // to the end of run(), should this be its last
  if (next != nullptr) {
    claim_stack(w, next);
    switch_stacks(g->context, next->context, &g->fiber, &next->fiber);
  } else {
    w->current = nullptr;
    w->visible_goroutine.store(nullptr, std::memory_order_relaxed);
    switch_stacks(g->context, w->own_context, &g->fiber, &w->fiber);
  }
  worker* now = this_worker();
  finish_switch(now);
  restore_exceptions(now, g);
  base::tsan_acquire(g);
  *now->errno_address = saved_errno;
  now->in_runtime.store(depth, std::memory_order_relaxed);
}

void run_goroutine(worker* w, goroutine* g) noexcept {
  claim_stack(w, g);
  switch_stacks(w->own_context, g->context, &w->fiber, &g->fiber);
  finish_switch(w);
}

void leave_for_good(worker* w, goroutine* g, goroutine* next) noexcept {
  if (next != nullptr && !next->stack) next = with_stack(w, next);
  w->pending = after_switch::reap;
  w->pending_goroutine = g;
  base::tsan_release(reinterpret_cast<void*>(g->stack.low));  // pairs with goroutine_entry()
  if (next != nullptr) {
    claim_stack(w, next);
    switch_stacks(g->context, next->context, nullptr, &next->fiber);
  } else {
    w->current = nullptr;
    w->visible_goroutine.store(nullptr, std::memory_order_relaxed);
    switch_stacks(g->context, w->own_context, nullptr, &w->fiber);
  }
  __builtin_unreachable();
}

void prepare_fiber([[maybe_unused]] goroutine* g) noexcept {
#ifdef TUCO_TSAN_FIBERS
  if (g->fiber.tsan == nullptr) g->fiber.tsan = __tsan_create_fiber(0);
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
  __asan_unpoison_memory_region(reinterpret_cast<const void*>(next->stack.low), next->stack.size());
  __sanitizer_start_switch_fiber(nullptr, next->fiber.bottom, next->fiber.size);
#endif
  arch::restart_stack(next->stack.top, &goroutine_entry);
}

void enter_for_good() noexcept {
  const runtime_section section;
  worker* w = this_worker();
  w->in_runtime.store(w->in_runtime.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace tuco::inline v1::sched
