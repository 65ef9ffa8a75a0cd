// SPDX-License-Identifier: Apache-2.0
#include "observe/stack_of.hpp"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "arch/context.hpp"
#include "base/pause.hpp"
#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/membarrier.hpp"
#include "os/proc.hpp"
#include "os/thread.hpp"
#include "sched/scheduler.hpp"
#include "task/stack_pool.hpp"

namespace tuco::inline v1::observe {
namespace {

// SIGURG, as in Go: nobody uses it, its default is to be ignored, debuggers pass it on.
constexpr int sampling_signal = SIGURG;

constexpr std::size_t deepest = 256;

// A thread that is ready to run but gets no processor will answer; less than what those who wait for a
// whole report bear without a sign of life (reporter.cpp).
constexpr std::int64_t patience_with_starved_ns = 5'000'000'000;

/// One question to one thread. The asker may lose patience; the answer then comes too late and must
/// not disturb the next question, so each has a number and the handler answers only the current one.
struct question {
  std::atomic<std::uint32_t> asked{0};     ///< number of the question; 0: none
  std::atomic<std::uint32_t> taken{0};     ///< by the handler that answers it
  std::atomic<std::uint32_t> answered{0};
  std::atomic<int> thread{0};
  task::goroutine* goroutine = nullptr;
  std::uint64_t id = 0;
  walk_result walk;
  bool other_goroutine = false;
  std::uintptr_t pcs[deepest];
  std::uintptr_t sps[deepest];
};
question the_question;
std::mutex one_asker;

register_state from_context(const arch::context& c) noexcept {
  register_state r;
  r.pc = c.pc;
  r.sp = c.sp;
  r.fp = c.fp;
  return r;
}

stack_bounds bounds_of(const task::stack& s) noexcept { return {s.low, s.high}; }

void on_sampling_signal(int, siginfo_t*, void* ucontext) noexcept {
  const int saved_errno = errno;
  question& q = the_question;
  const std::uint32_t number = q.asked.load(std::memory_order_acquire);
  const sched::worker* w = sched::this_worker();
  std::uint32_t before = q.taken.load(std::memory_order_relaxed);
  if (number != 0 && w != nullptr && w->tid == q.thread.load(std::memory_order_relaxed) &&
      before != number && q.taken.compare_exchange_strong(before, number)) {
    const interrupted_stack at = where_interrupted(ucontext);
    q.other_goroutine = at.stack.low == 0 || at.stack.low != q.goroutine->stack.low ||
                        q.goroutine->id.load(std::memory_order_relaxed) != q.id;
    q.walk = q.other_goroutine ? walk_result{} : capture(at.registers, at.stack, q.pcs, true, q.sps);
    q.answered.store(number, std::memory_order_release);
    os::futex_wake(q.answered);
  }
  errno = saved_errno;
}

bool capture_parked(task::goroutine* g, std::span<std::uintptr_t> pcs, std::span<std::uintptr_t> sps,
                    stack_capture& out) noexcept {
  const parked_pin pin(g);
  if (!pin.held()) return false;
  // Its first run counts a switch. Before that its context may be what the record's last owner left,
  // or half written.
  if (g->switches.load(std::memory_order_relaxed) == 0) {
    out.source = stack_source::not_started;
  } else {
    out.source = stack_source::parked;
    out.walk = capture(from_context(g->context), bounds_of(g->stack), pcs, true, sps);
  }
  return true;
}

/// How long to wait for a thread's answer.
struct patience {
  std::int64_t deadline;
  bool may_grow = true;

  /// The deadline has passed. @return Whether there is a later one.
  bool grow_for(int tid) noexcept {
    if (!std::exchange(may_grow, false)) return false;
    os::thread_probe probe;
    if (probe.open(tid) < 0 || probe.activity().what != os::thread_activity::kind::running) return false;
    deadline = os::steady_now_ns() + patience_with_starved_ns;
    return true;
  }
};

bool capture_running(task::goroutine* g, std::uint64_t id, std::span<std::uintptr_t> pcs,
                     std::span<std::uintptr_t> sps, patience& limit, stack_capture& out) noexcept {
  const sched::worker* w = g->worker.load(std::memory_order_relaxed);
  if (w == nullptr) return false;
  static std::uint32_t numbers = 0;
  const std::scoped_lock guard(one_asker);
  question& q = the_question;
  const std::uint32_t number = ++numbers == 0 ? ++numbers : numbers;
  q.goroutine = g;
  q.id = id;
  q.thread.store(w->tid, std::memory_order_relaxed);
  q.asked.store(number, std::memory_order_release);
  bool answered = false;
  if (os::signal_thread(w->tid, sampling_signal) >= 0) {
    for (;;) {
      const std::uint32_t seen = q.answered.load(std::memory_order_acquire);
      if (seen == number) {
        answered = true;
        break;
      }
      if (os::futex_wait(q.answered, seen, limit.deadline) == os::futex_result::timed_out &&
          !limit.grow_for(w->tid)) {
        break;
      }
    }
  }
  q.asked.store(0, std::memory_order_release);
  if (!answered) {
    // The handler may have begun in this moment and be writing; it is in no hurry to be waited for
    // but it is short.
    while (q.taken.load(std::memory_order_acquire) == number &&
           q.answered.load(std::memory_order_acquire) != number) {
      base::pause();
    }
    return false;
  }
  if (q.other_goroutine) return false;  // it was switched away before the signal came
  const std::size_t frames = std::min(q.walk.frames, pcs.size());
  std::copy_n(q.pcs, frames, pcs.begin());
  if (!sps.empty()) std::copy_n(q.sps, frames, sps.begin());
  out.source = stack_source::signal;
  out.walk = {frames, frames < q.walk.frames ? walk_end::truncated : q.walk.end};
  return true;
}

}  // namespace

parked_pin::parked_pin(task::goroutine* g) noexcept : g_(g) {
  // Nobody runs it while `pins` is raised and it does not run already (task/goroutine.hpp).
  g_->pins.fetch_add(1, std::memory_order_acq_rel);
  os::heavy_fence();
  const goroutine_status status = g_->status.load(std::memory_order_acquire);
  held_ = status == goroutine_status::waiting || status == goroutine_status::runnable;
}

parked_pin::~parked_pin() { g_->pins.fetch_sub(1, std::memory_order_release); }

interrupted_stack where_interrupted(const void* ucontext) noexcept {
  interrupted_stack at;
  at.registers = from_ucontext(ucontext);
  // Between two contexts the registers are a mixture; the one that is being resumed is whole.
#if defined(__x86_64__)
  const std::uintptr_t target_register = at.registers.other[4];
#else
  const std::uintptr_t target_register = at.registers.other[1];
#endif
  if (const auto* target = arch::inside_switch(at.registers.pc, target_register)) {
    at.registers = from_context(*target);
  }
  // By address, and not by what the worker says it runs: the worker changes its mind a few
  // instructions before or after the stack pointer does.
  const task::stack s = task::the_stack_pool().find(at.registers.sp);
  if (s && s.contains(at.registers.sp)) at.stack = bounds_of(s);
  return at;
}

stack_capture capture_goroutine(task::goroutine* g, std::span<std::uintptr_t> pcs,
                                std::span<std::uintptr_t> sps, std::int64_t patience_ns) noexcept {
  stack_capture out;
  const std::uint64_t id = g->id.load(std::memory_order_acquire);
  const sched::worker* self = sched::this_worker();
  if (self != nullptr && self->running() == g) {
    out.source = stack_source::own;
    out.walk = capture(current_registers(), bounds_of(g->stack), pcs, true, sps);
    return out;
  }
  patience limit{os::steady_now_ns() + patience_ns};
  // It may park or run on between the look and the act, so look again until one of them hits.
  while (id != 0 && g->id.load(std::memory_order_acquire) == id) {
    if (capture_parked(g, pcs, sps, out)) break;
    if (g->status.load(std::memory_order_acquire) == goroutine_status::dead) break;
    if (capture_running(g, id, pcs, sps, limit, out)) break;
    if (os::steady_now_ns() > limit.deadline) break;
    base::pause();
  }
  if (g->id.load(std::memory_order_acquire) != id) return {};
  return out;
}

bool install_sampling_signal() noexcept {
  struct sigaction old {};
  if (sigaction(sampling_signal, nullptr, &old) != 0) return false;
  if ((old.sa_flags & SA_SIGINFO) != 0 && old.sa_sigaction == &on_sampling_signal) return true;
  if ((old.sa_flags & SA_SIGINFO) != 0 ||
      (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)) {
    return false;
  }
  struct sigaction action {};
  action.sa_sigaction = &on_sampling_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&action.sa_mask);
  return sigaction(sampling_signal, &action, nullptr) == 0;
}

}  // namespace tuco::inline v1::observe
