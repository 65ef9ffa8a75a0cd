// SPDX-License-Identifier: Apache-2.0
// Birth and end of goroutines.
#include <tuco/go.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "base/fatal.hpp"
#include "base/tick_clock.hpp"
#include "sched/goexit.hpp"
#include "sched/lifecycle.hpp"
#include "sched/quarantine.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

constexpr std::uint64_t ids_per_batch = 16;  // as Go

/// A goroutine that was about to begin found no stack. It waits in the global queue; go() tells its
/// callers from then on, until a stack can be had again.
std::atomic<bool> stacks_ran_out{false};

#ifdef TUCO_TSAN_FIBERS
constexpr bool stacks_can_be_inherited = false;  // each goroutine is a fiber of its own there
constinit quarantine ended_lately;
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

/// From here on nobody finds `g`.
void bury(goroutine* g) noexcept {
#ifdef TUCO_TSAN_FIBERS
  if (g->fiber.tsan != nullptr) __tsan_destroy_fiber(std::exchange(g->fiber.tsan, nullptr));
#endif
  g->status.store(goroutine_status::dead, std::memory_order_relaxed);
  // Last: a reader that finds the same id before and after has read one goroutine's fields.
  g->id.store(0, std::memory_order_release);
}

void give_back_record(worker* w, goroutine* g) noexcept {
  if (w->p != nullptr) {
    w->p->goroutines.release(g);
  } else {
    task::the_registry().release(g);
  }
}

}  // namespace

/// The record goes back; `g` may be another goroutine the moment this returns.
void release_record(worker* w, goroutine* g) noexcept {
  bury(g);
  give_back_record(w, g);
}

namespace {

void count(std::atomic<std::uint64_t>& counter) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

[[noreturn]] void end_goroutine() noexcept {
  worker* w = enter_runtime();  // for good
  goroutine* g = w->running();
  base::tsan_release(&g->start);  // pairs with new_goroutine()
  if ((g->flags & task::flag_main) != 0) main_has_ended();
  count(w->p->counters.ended);
  if (g->has_flag(task::flag_locked)) leave_for_good(w, g, nullptr);  // and the thread goes with it: worker_loop
  goroutine* next = pick(w, due_timers::run);
  if (stacks_can_be_inherited && next != nullptr && !next->has_stack() &&
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
  goroutine* g = this_worker()->running();
  base::tsan_acquire(g);
  base::tsan_acquire(reinterpret_cast<void*>(g->stack.low));  // from whoever had this stack before
  finish_switch(this_worker());
  this_worker()->in_runtime.store(0, std::memory_order_release);
  // Only goexit is caught. Any other exception finds no handler up to the end of the stack, so that
  // std::terminate is called where it was thrown and the traceback shows that place.
  try {
    g->start.call();
  } catch (goexit_unwinding& unwinding) {
    unwinding.arrived();
    if ((g->flags & task::flag_main) != 0) main_left_by_goexit(g);
  }
  g->start.destroy();
  end_goroutine();
}

bool give_stack(processor* p, goroutine* g, task::stack_failure& why) noexcept {
  g->stack = p != nullptr ? p->stacks.allocate(g->size_class, why)
                          : task::the_stack_pool().allocate(g->size_class, why);
  if (!g->stack) [[unlikely]] {
    stacks_ran_out.store(true, std::memory_order_relaxed);
    the_scheduler.stacks_refused.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  arch::make_context(g->context, g->stack.top(), &goroutine_entry);
  prepare_fiber(g);
  return true;
}

void release_goroutine(worker* w, goroutine* g) noexcept {
  if (g->has_flag(task::flag_locked)) {
    g->lock_depth = 0;
    w->locked_goroutine = nullptr;
    w->ending = true;
  }
#ifdef TUCO_TSAN_FIBERS
  bury(g);
  g = ended_lately.exchange(g);
  if (g == nullptr) return;
  if (g->stack) w->p->stacks.release(std::exchange(g->stack, {}));
  give_back_record(w, g);
#else
  if (g->stack) w->p->stacks.release(std::exchange(g->stack, {}));
  release_record(w, g);
#endif
}

namespace {

std::uint8_t size_class_of(const go_options& options) noexcept {
  if (options.stack_size == 0) [[likely]] {
    return the_scheduler.default_size_class.load(std::memory_order_relaxed);
  }
  return static_cast<std::uint8_t>(
      std::min(task::stack_class_for(options.stack_size), task::stack_class_count - 1));
}

/// What was missing, and why; without a text it was the record.
[[noreturn, gnu::cold]] void throw_refused(const task::stack_failure& why) {
  if (why.text == nullptr) {
    throw std::system_error(ENOMEM, std::system_category(), "go: no memory for a goroutine's record");
  }
  throw std::system_error(why.error, std::system_category(), std::string("go: no stack: ") + why.text);
}

/// In a section; `w` is the caller's. Null when something could not be had, of which `why` tells.
goroutine* new_goroutine(worker* w, const go_options& options, const source_location& where,
                         void* return_address, std::uint32_t epoch, task::stack_failure& why) noexcept {
  goroutine* g = w->p != nullptr ? w->p->goroutines.allocate() : task::the_registry().allocate();
  if (g == nullptr) [[unlikely]] return nullptr;
  base::tsan_acquire(&g->start);
  g->context.sp = 0;
  g->reason.store(wait_reason::none, std::memory_order_relaxed);
  g->flags = 0;
  g->size_class = size_class_of(options);
  g->switches.store(0, std::memory_order_relaxed);
  g->epoch = epoch;
  g->next = nullptr;
  g->lock_depth = 0;
  g->parent = w->running()->id.load(std::memory_order_relaxed);
  g->stack = {};
  g->created = {where.file_name(), where.function_name(),
                reinterpret_cast<std::uintptr_t>(return_address), where.line()};
  g->name[options.name.copy(g->name, sizeof g->name - 1)] = '\0';
  if (stacks_ran_out.load(std::memory_order_relaxed)) [[unlikely]] {
    // They ran out once: find out now, where the caller can be told, instead of at the first run.
    stacks_ran_out.store(false, std::memory_order_relaxed);
    if (!give_stack(w->p, g, why)) {
      release_record(w, g);
      return nullptr;
    }
  }
  return g;
}

std::uint64_t submit(worker* w, goroutine* g) noexcept {
  const std::uint64_t id = next_id(w);
  g->id.store(id, std::memory_order_release);
  base::tsan_release(g);
  g->status.store(goroutine_status::runnable, std::memory_order_release);
  if (w->p != nullptr) [[likely]] {
    count(w->p->counters.created);
    push_new(w, g);
    wake_worker();
  } else {
    the_scheduler.outside_created.fetch_add(1, std::memory_order_relaxed);
    push_global(g);
  }
  return id;  // `g` may have ended already
}

}  // namespace

goroutine* make_main(void (*body)()) {
  const runtime_section section;
  worker* w = this_worker();
  task::stack_failure why;
  goroutine* g = new_goroutine(w, {.name = "main"}, source_location::current(), __builtin_return_address(0),
                               the_scheduler.epoch.load(std::memory_order_relaxed), why);
  if (g == nullptr) throw_refused(why);
  // Here the caller of run() can still be told.
  if (!g->stack && !give_stack(w->p, g, why)) {
    release_record(w, g);
    throw_refused(why);
  }
  g->set_flag(task::flag_main);
  g->parent = 0;
  g->start.emplace(body);
  g->id.store(next_id(w), std::memory_order_release);
  base::tsan_release(g);
  g->status.store(goroutine_status::runnable, std::memory_order_release);
  the_scheduler.outside_created.fetch_add(1, std::memory_order_relaxed);
  return g;
}

void discard_main(goroutine* g) noexcept {
  const runtime_section section;
  task::the_stack_pool().release(std::exchange(g->stack, {}));
  release_record(this_worker(), g);
}

}  // namespace tuco::inline v1::sched

namespace tuco::inline v1 {

using sched::goroutine;
using sched::worker;

namespace detail {

namespace {

goroutine* record_of(unborn* start) noexcept {
  return reinterpret_cast<goroutine*>(reinterpret_cast<std::byte*>(start) - offsetof(goroutine, start));
}

/// The run that was open at a moment of this call: a plain thread may sleep here over the end of one and
/// the start of the next. The epoch changes outside of `running` only.
/// @throws std::logic_error when there is none
std::uint32_t open_epoch() {
  const sched::scheduler& s = sched::the_scheduler;
  std::uint32_t epoch = s.epoch.load(std::memory_order_acquire);
  for (;;) {
    const sched::phase state = s.state.load(std::memory_order_acquire);
    const std::uint32_t again = s.epoch.load(std::memory_order_acquire);
    if (again == epoch) [[likely]] {
      // While the run ends, its goroutines may go on for a moment; what they start does not run.
      if (state == sched::phase::running || state == sched::phase::stopping) [[likely]] return epoch;
      throw std::logic_error("tuco::go: no runtime; goroutines live inside tuco::run()");
    }
    epoch = again;
  }
}

}  // namespace

unborn* begin_go(const go_options& options, const source_location& where) {
  const std::uint32_t epoch = open_epoch();
  const sched::runtime_section section;
  task::stack_failure why;
  goroutine* g = sched::new_goroutine(sched::this_worker(), options, where, __builtin_return_address(0), epoch, why);
  if (g == nullptr) [[unlikely]] sched::throw_refused(why);
  return &g->start;
}

goroutine_id commit_go(unborn* u) noexcept {
  const sched::runtime_section section;
  return sched::submit(sched::this_worker(), record_of(u));
}

void abandon_go(unborn* u) noexcept {
  const sched::runtime_section section;
  sched::release_record(sched::this_worker(), record_of(u));
}

unborn* begin_plain_go(const go_options& options, const source_location& where) {
  const std::uint32_t epoch = open_epoch();
  worker* w = sched::enter_runtime();
  task::stack_failure why;
  goroutine* g = sched::new_goroutine(w, options, where, __builtin_return_address(0), epoch, why);
  if (g == nullptr) [[unlikely]] {
    sched::exit_runtime();
    sched::throw_refused(why);
  }
  return &g->start;
}

goroutine_id commit_plain_go(unborn* u) noexcept {
  const goroutine_id id = sched::submit(sched::this_worker(), record_of(u));
  sched::exit_runtime();
  return id;
}

void go_of_nil() noexcept { base::fatal("go of nil func value"); }

bool caught_goexit() noexcept {
  try {
    throw;
  } catch (const sched::goexit_unwinding&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace detail

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
  goroutine* g = w->running();
  if (g->lock_depth++ == 0) {
    g->set_flag(task::flag_locked);
    w->locked_goroutine = g;
  }
}

void unlock_thread() noexcept {
  const sched::runtime_section section;
  worker* w = sched::this_worker();
  goroutine* g = w->running();
  if (w->plain_thread || g->lock_depth == 0) return;
  if (--g->lock_depth == 0) {
    g->clear_flag(task::flag_locked);
    w->locked_goroutine = nullptr;
  }
}

namespace this_goroutine {

goroutine_id id() noexcept {
  const worker* w = sched::this_worker();
  return w == nullptr || w->plain_thread ? 0 : w->running()->id.load(std::memory_order_relaxed);
}

std::string_view name() noexcept {
  const worker* w = sched::this_worker();
  if (w == nullptr || w->plain_thread) return {};
  return w->running()->name;
}

}  // namespace this_goroutine
}  // namespace tuco::inline v1
