// SPDX-License-Identifier: Apache-2.0
// Birth and end of goroutines.
#include <tuco/go.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "base/fatal.hpp"
#include "base/tick_clock.hpp"
#include "sched/goexit.hpp"
#include "sched/lifecycle.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

constexpr std::uint64_t ids_per_batch = 16;  // as Go

/// A goroutine that was about to begin found no stack. It waits in the global queue; go() tells its
/// callers from then on, until a stack can be had again.
std::atomic<bool> stacks_ran_out{false};

#ifdef TUCO_TSAN_FIBERS
constexpr bool stacks_can_be_inherited = false;  // each goroutine is a fiber of its own there
#else
constexpr bool stacks_can_be_inherited = true;
#endif

std::uint64_t next_id(worker* w) noexcept {
  scheduler& s = the_scheduler;
  if (w->p == nullptr) return s.next_goroutine_id.fetch_add(1, std::memory_order_relaxed) + 1;
  processor& p = *w->p;
  if (p.next_goroutine_id == p.last_goroutine_id) {
    p.next_goroutine_id = s.next_goroutine_id.fetch_add(ids_per_batch, std::memory_order_relaxed);
    p.last_goroutine_id = p.next_goroutine_id + ids_per_batch;
  }
  return ++p.next_goroutine_id;
}

}  // namespace

/// The record goes back; `g` may be another goroutine the moment this returns.
void release_record(worker* w, goroutine* g) noexcept {
#ifdef TUCO_TSAN_FIBERS
  if (g->fiber.tsan != nullptr) __tsan_destroy_fiber(std::exchange(g->fiber.tsan, nullptr));
#endif
  g->worker.store(nullptr, std::memory_order_relaxed);
  g->status.store(goroutine_status::dead, std::memory_order_relaxed);
  // Last: a reader that finds the same id before and after has read one goroutine's fields.
  g->id.store(0, std::memory_order_release);
  if (w->p != nullptr) {
    w->p->goroutines.release(g);
  } else {
    task::the_registry().release(g);
  }
}

namespace {

void count(std::atomic<std::uint64_t>& counter) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

[[noreturn]] void end_goroutine() noexcept {
  enter_for_good();
  worker* w = this_worker();
  goroutine* g = w->current;
  base::tsan_release(&g->start);  // pairs with new_goroutine()
  if ((g->flags & task::flag_main) != 0) main_has_ended();
  count(w->p->counters.ended);
  if (g->lock_depth != 0) leave_for_good(w, g, nullptr);  // and the thread goes with it: worker_loop
  goroutine* next = pick(w, due_timers::run);
  if (stacks_can_be_inherited && next != nullptr && !next->stack &&
      next->size_class == g->size_class) {
    next->stack = std::exchange(g->stack, {});
    release_record(w, g);
    start_on_this_stack(w, next);
  }
  leave_for_good(w, g, next);
}

}  // namespace

/// The first function on every stack; what it calls last leaves the stack for good.
void goroutine_entry() {
#ifdef TUCO_BASE_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  goroutine* g = this_worker()->current;
  base::tsan_acquire(g);
  base::tsan_acquire(reinterpret_cast<void*>(g->stack.low));  // from whoever had this stack before
  finish_switch(this_worker());
  this_worker()->in_runtime.store(0, std::memory_order_release);
  // Only goexit is caught. Any other exception finds no handler up to the end of the stack, so that
  // std::terminate is called where it was thrown and the traceback shows that place.
  try {
    g->start.invoke(g->start.storage);
  } catch (goexit_unwinding& unwinding) {
    unwinding.arrived();
    if ((g->flags & task::flag_main) != 0) main_left_by_goexit(g);
  }
  g->start.destroy(g->start.storage);
  end_goroutine();
}

bool give_stack(processor& p, goroutine* g) noexcept {
  task::stack_failure why;
  g->stack = p.stacks.allocate(g->size_class, why);
  if (!g->stack) [[unlikely]] {
    stacks_ran_out.store(true, std::memory_order_relaxed);
    return false;
  }
  arch::make_context(g->context, g->stack.top, &goroutine_entry);
  prepare_fiber(g);
  return true;
}

void release_goroutine(worker* w, goroutine* g) noexcept {
  task::stack stack = std::exchange(g->stack, {});
  const bool locked = g->lock_depth != 0;
  if (locked) {
    g->lock_depth = 0;
    g->locked_worker.store(nullptr, std::memory_order_relaxed);
    w->locked_goroutine = nullptr;
    w->ending = true;
  }
  if (stack) w->p->stacks.release(stack);
  release_record(w, g);
}

namespace {

goroutine* new_goroutine(const go_options& options, const source_location& where,
                         void* return_address) {
  const runtime_section section;
  worker* w = this_worker();
  goroutine* parent = section.self();
  const std::size_t stack_size = options.stack_size != 0 ? options.stack_size : default_stack_size();
  goroutine* g = w->p != nullptr ? w->p->goroutines.allocate() : task::the_registry().allocate();
  if (g == nullptr) {
    throw std::system_error(ENOMEM, std::system_category(), "go: no memory for a goroutine's record");
  }
  base::tsan_acquire(&g->start);
  g->flags = 0;
  g->size_class = static_cast<std::uint8_t>(
      std::min(task::stack_class_for(stack_size), task::stack_class_count - 1));
  g->next = nullptr;
  g->lock_depth = 0;
  g->locked_worker.store(nullptr, std::memory_order_relaxed);
  g->exceptions = {};
  g->parent = parent->id.load(std::memory_order_relaxed);
  g->created = {where.file_name(), where.function_name(), where.line(),
                reinterpret_cast<std::uintptr_t>(return_address)};
  g->name[options.name.copy(g->name, sizeof g->name - 1)] = '\0';
  g->stack = {};
  g->epoch = the_scheduler.epoch.load(std::memory_order_relaxed);
  g->cpu_ticks.store(0, std::memory_order_relaxed);
  g->switches.store(0, std::memory_order_relaxed);
  g->stack_high_water = 0;
  g->reason.store(wait_reason::none, std::memory_order_relaxed);
  if (stacks_ran_out.load(std::memory_order_relaxed) && w->p != nullptr) [[unlikely]] {
    // They ran out once: find out now, where the caller can be told, instead of at the first run.
    stacks_ran_out.store(false, std::memory_order_relaxed);
    if (!give_stack(*w->p, g)) {
    release_record(w, g);
    throw std::system_error(ENOMEM, std::system_category(), "go: no memory for a goroutine's stack");
    }
  }
  return g;
}

}  // namespace

void start_main(void (*body)()) {
  goroutine* g = new_goroutine({.name = "main"}, source_location::current(),
                               __builtin_return_address(0));
  g->flags |= task::flag_main;
  g->parent = 0;
  g->start.emplace(body);
  submit(g);
}

std::uint64_t submit(goroutine* g) noexcept {
  const runtime_section section;
  worker* w = this_worker();
  const std::uint64_t id = next_id(w);
  g->id.store(id, std::memory_order_release);
  base::tsan_release(g);
  g->status.store(goroutine_status::runnable, std::memory_order_release);
  if (w->p != nullptr) {
    count(w->p->counters.created);
    push_next(w, g);
    wake_worker();
  } else {
    the_scheduler.outside_created.fetch_add(1, std::memory_order_relaxed);
    push_global(g);
  }
  return id;  // `g` may have ended already
}

}  // namespace tuco::inline v1::sched

namespace tuco::inline v1 {

using sched::goroutine;
using sched::worker;

namespace detail {

namespace {
goroutine* record_of(unborn* u) noexcept { return reinterpret_cast<goroutine*>(u); }
}  // namespace

unborn* begin_go(const go_options& options, const source_location& where) {
  if (sched::the_scheduler.state.load(std::memory_order_acquire) == sched::phase::stopped) {
    throw std::logic_error("tuco::go: no runtime; goroutines live inside tuco::run()");
  }
  return reinterpret_cast<unborn*>(
      sched::new_goroutine(options, where, __builtin_return_address(0)));
}

closure& closure_of(unborn* u) noexcept { return record_of(u)->start; }

goroutine_id commit_go(unborn* u) noexcept {
  return sched::submit(record_of(u));
}

void abandon_go(unborn* u) noexcept {
  const sched::runtime_section section;
  sched::release_record(sched::this_worker(), record_of(u));
}

void go_of_nil() noexcept { base::fatal("go of nil func value"); }

}  // namespace detail

void yield() noexcept {
  const sched::runtime_section section;
  sched::yield_in_section();
}

void goexit() {
  const worker* w = sched::this_worker();
  if (w == nullptr || w->plain_thread) {
    throw std::logic_error("tuco::goexit: this thread is not a goroutine");
  }
  throw sched::goexit_unwinding();
}

void lock_thread() noexcept {
  const sched::runtime_section section;
  worker* w = sched::this_worker();
  if (w->plain_thread) return;
  goroutine* g = w->current;
  if (g->lock_depth++ == 0) {
    g->locked_worker.store(w, std::memory_order_relaxed);
    w->locked_goroutine = g;
  }
}

void unlock_thread() noexcept {
  const sched::runtime_section section;
  worker* w = sched::this_worker();
  if (w->plain_thread || w->current->lock_depth == 0) return;
  if (--w->current->lock_depth == 0) {
    w->current->locked_worker.store(nullptr, std::memory_order_relaxed);
    w->locked_goroutine = nullptr;
  }
}

namespace this_goroutine {

goroutine_id id() noexcept {
  const worker* w = sched::this_worker();
  return w == nullptr || w->plain_thread ? 0 : w->current->id.load(std::memory_order_relaxed);
}

std::string_view name() noexcept {
  const worker* w = sched::this_worker();
  if (w == nullptr || w->plain_thread) return {};
  return w->current->name;
}

}  // namespace this_goroutine
}  // namespace tuco::inline v1
