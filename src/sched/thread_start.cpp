// SPDX-License-Identifier: Apache-2.0
#include "sched/thread_start.hpp"

#include <cxxabi.h>

#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "arch/thread_slot.hpp"
#include "os/proc.hpp"
#include "os/syscall.hpp"
#include "os/thread.hpp"
#include "os/write.hpp"
#include "base/fatal.hpp"
#include "sched/lifecycle.hpp"

extern "C" void* __dso_handle;

namespace tuco::inline v1::sched {
namespace {

/// The thread's exception globals. Like errno's, the function is declared const, so its answer must
/// come from a call the compiler knows nothing about.
task::exception_globals* thread_exceptions() noexcept {
  __cxxabiv1::__cxa_eh_globals* (*get)() noexcept = &__cxxabiv1::__cxa_get_globals;
  asm volatile("" : "+r"(get));
  return reinterpret_cast<task::exception_globals*>(get());
}

/// Set while the thread may end: cleared by a thread that leaves through worker_main.
pthread_key_t tripwire_key;
pthread_once_t tripwire_once = PTHREAD_ONCE_INIT;

/// A goroutine called pthread_exit, or its thread was cancelled: glibc unwinds the goroutine's stack
/// as if it were the thread's and the worker is gone. Nothing sensible can go on.
void on_thread_end(void* value) noexcept {
#ifdef TUCO_BASE_ASAN
  // The frames below this one were left without unwinding.
  if (const auto* w = static_cast<const worker*>(value)) __asan_unpoison_memory_region(w->fiber.bottom, w->fiber.size);
#endif
  if (value != nullptr) base::fatal("goroutine ended its thread (pthread_exit or pthread_cancel)");
}

/// Registered first, so it is called after the destructors of all thread-locals that goroutines made on this
/// thread: when the thread ends, and at the beginning of an exit() on it, before any static object is
/// destroyed ([basic.start.term]).
void after_thread_locals(void*) noexcept {
  const worker* w = this_worker();
  if (w == nullptr) return;  // it has left
  // pthread_exit has unwound to the thread's own stack, where the tripwire waits.
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (here >= w->own_stack.low && here < w->own_stack.high) return;
  exit_on_worker();
}

/// The last that a worker does as one: from here on its record may belong to another thread.
///
/// Threads are joined in a chain: each that leaves joins the one that left before it, run() the last one.
/// So no more than one is ever waiting to be joined, and when the last one has ended, all have.
void thread_has_left(worker* w) noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  w->current.store(nullptr, std::memory_order_relaxed);
  const bool any = std::exchange(s.last_is_set, true);
  const pthread_t previous = std::exchange(s.last_to_leave, pthread_self());
  w->next_idle = s.free_workers;
  s.free_workers = w;
  --s.worker_count;
  check_deadlock();
  w->in_use.store(false, std::memory_order_release);
  s.lock.unlock();
  if (any) os::join_thread(previous);
}

void* worker_main(void* argument) {
  auto* w = static_cast<worker*>(argument);
  arch::set_thread_slot(w);
  pthread_once(&tripwire_once, [] { pthread_key_create(&tripwire_key, &on_thread_end); });
  pthread_setspecific(tripwire_key, w);
  abi::__cxa_thread_atexit(&after_thread_locals, nullptr, &__dso_handle);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  attach_thread(w);
  w->tid = os::thread_id();
  os::set_timer_slack(1);
  os::set_thread_name("tuco-worker");
  os::install_signal_stack(w->signal_stack);
  os::set_signal_mask(worker_signal_mask());
  w->spinning = w->next_spinning;
  acquire(w, std::exchange(w->next_processor, nullptr));
  if (w->hand_to != nullptr) open_run();  // the main goroutine
  worker_loop(w);
  if (w->p != nullptr) hand_over(release(w));  // a locked goroutine ended and takes its thread along
  os::block_all_signals();  // as at the beginning: no handler without a signal stack
  os::remove_signal_stack(w->signal_stack);
  pthread_setspecific(tripwire_key, nullptr);
  arch::set_thread_slot(nullptr);
  thread_has_left(w);
  return nullptr;
}

}  // namespace

void attach_thread(worker* w) noexcept {
  w->errno_address = &os::thread_errno();
  w->exceptions = thread_exceptions();
#ifdef TUCO_TSAN_FIBERS
  w->fiber.tsan = __tsan_get_current_fiber();
#endif
  // The bounds let a reader tell the worker's own stack from a goroutine's.
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* low = nullptr;
    std::size_t size = 0;
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    w->own_stack.low = reinterpret_cast<std::uintptr_t>(low);
    w->own_stack.high = w->own_stack.low + size;
#ifdef TUCO_BASE_ASAN
    w->fiber.bottom = low;
    w->fiber.size = size;
#endif
  }
}

namespace {

/// Lock held. Counts one more. @return A record that had a thread before, or null.
worker* reuse_record() noexcept {
  scheduler& s = the_scheduler;
  ++s.worker_count;
  worker* w = s.free_workers;
  if (w != nullptr) s.free_workers = std::exchange(w->next_idle, nullptr);
  return w;
}

worker* new_record() noexcept {
  scheduler& s = the_scheduler;
  auto* w = new (std::nothrow) worker;
  if (w == nullptr) return nullptr;
  static std::atomic<int> numbers{0};
  w->number = numbers.fetch_add(1, std::memory_order_relaxed);
  w->all_next = s.all_workers.load(std::memory_order_relaxed);
  while (!s.all_workers.compare_exchange_weak(w->all_next, w, std::memory_order_release)) {
  }
  return w;
}

/// Starts a thread, counted already, that begins with `p` and perhaps with a goroutine in its hands.
/// @return 0 or a negative errno value; then it is not counted any more.
int start_thread(worker* w, processor* p, bool searching, goroutine* hand_to) noexcept {
  scheduler& s = the_scheduler;
  if (w == nullptr) w = new_record();
  int error = -ENOMEM;
  if (w != nullptr) {
    w->next_processor = p;
    w->next_spinning = searching;
    w->in_runtime.store(1, std::memory_order_relaxed);
    w->attention_word.store(attention::none, std::memory_order_relaxed);
    w->wake_word.store(0, std::memory_order_relaxed);
    w->pending = after_switch::nothing;
    w->current.store(nullptr, std::memory_order_relaxed);
    w->locked_goroutine = nullptr;
    w->hand_to = hand_to;
    w->ending = false;
    w->owes_timer = false;
    w->alive.store(true, std::memory_order_relaxed);
    w->in_use.store(true, std::memory_order_release);
    s.threads_created.fetch_add(1, std::memory_order_relaxed);
    error = os::create_thread(&worker_main, w, 0, w->thread);
    if (error >= 0) {
      if (s.thread_refused.load(std::memory_order_relaxed) != 0) {
        s.thread_refused.store(0, std::memory_order_relaxed);
      }
      return 0;
    }
    w->alive.store(false, std::memory_order_relaxed);
    w->in_use.store(false, std::memory_order_release);
  }
  s.lock.lock();
  --s.worker_count;
  if (w != nullptr) {
    w->next_processor = nullptr;
    w->hand_to = nullptr;
    w->next_idle = s.free_workers;
    s.free_workers = w;
  }
  s.thread_refused.store(-error, std::memory_order_relaxed);
  s.lock.unlock();
  return error;
}

}  // namespace

bool new_worker(processor* p, bool searching) noexcept {
  scheduler& s = the_scheduler;
  s.lock.lock();
  if (s.state.load(std::memory_order_relaxed) != phase::running) {
    s.lock.unlock();
    return false;
  }
  if (s.worker_count >= s.max_workers) {
    s.lock.unlock();
    os::fd_writer(2).text("runtime: program exceeds ").dec(s.max_workers).text("-thread limit\n");
    base::fatal("thread exhaustion");
  }
  worker* w = reuse_record();
  s.lock.unlock();
  return start_thread(w, p, searching, nullptr) == 0;
}

void start_first_worker(processor* p, goroutine* main) {
  scheduler& s = the_scheduler;
  s.lock.lock();
  worker* w = reuse_record();
  s.lock.unlock();
  if (const int error = start_thread(w, p, false, main); error < 0) {
    throw std::system_error(-error, std::system_category(), "tuco::run: no thread for a worker");
  }
}

void end_worker(worker* w) noexcept { w->alive.store(false, std::memory_order_relaxed); }

bool remove_idle(worker* w) noexcept {
  scheduler& s = the_scheduler;
  for (worker** link = &s.idle_workers; *link != nullptr; link = &(*link)->next_idle) {
    if (*link != w) continue;
    *link = w->next_idle;
    w->is_idle = false;
    --s.idle_worker_count;
    return true;
  }
  return false;
}

void wake_if_work_is_waiting() noexcept {
  base::full_fence();
  if (any_work_visible()) wake_worker();
}

}  // namespace tuco::inline v1::sched
