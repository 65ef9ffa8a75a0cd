// SPDX-License-Identifier: Apache-2.0
// What TUCO_DEBUG=schedtrace=N prints, in the format of Go's GODEBUG=schedtrace=N: a line, and with
// scheddetail=1 one for each processor, worker and goroutine. Fields that say nothing here (gcwaiting,
// mallocing, syscalltick ...) keep their place and a value that Go has for "no". `locks` is not 0 while
// the worker is inside the runtime.
//
// Printed by the monitor while all others run: each field is some moment's truth.
#include "base/fatal.hpp"
#include "os/clock.hpp"
#include "os/write.hpp"
#include "sched/lifecycle.hpp"
#include "sched/monitor.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

namespace tuco::inline v1::sched {
namespace {

std::int64_t start_time = 0;

void print_processor(os::fd_writer& out, int number, const processor& p) noexcept {
  const worker* w = p.owner.load(std::memory_order_acquire);
  out.text("  P").dec(number).text(": status=").udec(static_cast<std::uint32_t>(p.status.load(std::memory_order_relaxed)));
  out.text(" schedtick=").udec(p.slices.load(std::memory_order_relaxed)).text(" syscalltick=0 m=");
  if (w != nullptr) out.dec(w->number);
  else out.text("nil");
  out.text(" runqsize=").udec(p.run_queue.size()).text(" gfreecnt=").udec(p.goroutines.size());
  out.text(" timerslen=").udec(p.timers.size()).text("\n");
}

void print_worker(os::fd_writer& out, const worker& w) noexcept {
  const scheduler& s = the_scheduler;
  out.text("  M").dec(w.number).text(": p=");
  int owned = -1;
  for (int i = 0; i < s.processor_slots.load(std::memory_order_acquire) && owned < 0; ++i) {
    const processor& p = *s.processors[i].load(std::memory_order_relaxed);
    if (p.owner.load(std::memory_order_relaxed) == &w) owned = i;
  }
  if (owned >= 0) out.dec(owned);
  else out.text("nil");
  const auto id = [&](const char* name, const goroutine* g) {
    out.text(name);
    if (g != nullptr) out.udec(g->id.load(std::memory_order_relaxed));
    else out.text("nil");
  };
  id(" curg=", w.running());
  out.text(" mallocing=0 throwing=0 preemptoff= locks=").udec(w.in_runtime.load(std::memory_order_relaxed));
  out.text(" dying=").dec(base::is_dying() ? 1 : 0);
  out.text(" spinning=").text(w.spinning ? "true" : "false").text(" blocked=").text(w.is_idle ? "true" : "false");
  id(" lockedg=", w.locked_goroutine);
  out.text("\n");
}

void print_goroutine(os::fd_writer& out, const goroutine& g) noexcept {
  const std::uint64_t number = g.id.load(std::memory_order_acquire);
  auto status = g.status.load(std::memory_order_relaxed);
  const auto reason = status == goroutine_status::waiting ? g.reason.load(std::memory_order_relaxed) : wait_reason::none;
  worker* const last = g.worker.load(std::memory_order_relaxed);
  worker* const w = status == goroutine_status::running ? last : nullptr;
  const worker* const locked = g.has_flag(task::flag_locked) ? last : nullptr;
  if (w != nullptr &&
      w->attention_word.load(std::memory_order_relaxed) == attention::taken &&
      activity_of(w).what == os::thread_activity::kind::in_syscall) {
    status = goroutine_status::syscall;
  }
  if (number == 0 || g.id.load(std::memory_order_acquire) != number) return;  // it has ended meanwhile
  out.text("  G").udec(number).text(": status=").udec(static_cast<std::uint32_t>(status));
  out.text("(").text(to_string(reason)).text(") m=");
  if (w != nullptr) out.dec(w->number);
  else out.text("nil");
  out.text(" lockedm=");
  if (locked != nullptr) out.dec(locked->number);
  else out.text("nil");
  out.text("\n");
}

int locked_and_idle() noexcept {
  int n = 0;
  for (const worker* w = the_scheduler.all_workers.load(std::memory_order_acquire); w != nullptr; w = w->all_next) {
    if (w->in_use.load(std::memory_order_acquire) && w->locked_waiting.load(std::memory_order_relaxed)) ++n;
  }
  return n;
}

void print_details(os::fd_writer& out) noexcept {
  const scheduler& s = the_scheduler;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) print_processor(out, i, *s.processors[i].load(std::memory_order_relaxed));
  for (const worker* w = s.all_workers.load(std::memory_order_acquire); w != nullptr; w = w->all_next) {
    if (w->in_use.load(std::memory_order_acquire)) print_worker(out, *w);
  }
  const std::uint32_t epoch = s.epoch.load(std::memory_order_relaxed);
  task::the_registry().for_each([&](const goroutine& g) {
    if (g.epoch == epoch) print_goroutine(out, g);
  });
}

}  // namespace

void print_schedtrace(bool detail) noexcept {
  scheduler& s = the_scheduler;
  const std::int64_t now = os::steady_now_ns();
  if (start_time == 0) start_time = now;
  os::fd_writer out(2);
  s.lock.lock();
  const int threads = s.worker_count + 1;
  const int idle_threads = s.idle_worker_count;
  s.lock.unlock();
  out.text("SCHED ").dec((now - start_time) / 1'000'000).text("ms: gomaxprocs=");
  out.dec(s.processor_count.load(std::memory_order_relaxed));
  out.text(" idleprocs=").dec(s.idle_processor_count.load(std::memory_order_relaxed));
  out.text(" threads=").dec(threads).text(" spinningthreads=");
  out.dec(s.searching.load(std::memory_order_relaxed)).text(" needspinning=");
  out.dec(s.need_searching.load(std::memory_order_relaxed) ? 1 : 0);
  out.text(" idlethreads=").dec(idle_threads).text(" runqueue=");
  out.udec(s.global_size.load(std::memory_order_relaxed));
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  if (detail) {
    out.text(" gcwaiting=false nmidlelocked=").dec(locked_and_idle());
    out.text(" stopwait=0 sysmonwait=false\n");
    print_details(out);
    return;
  }
  out.text(" [ ");
  for (int i = 0; i < slots; ++i) {
    processor& p = *s.processors[i].load(std::memory_order_relaxed);
    if (p.status.load(std::memory_order_relaxed) == processor_status::retired) continue;
    out.udec(p.run_queue.size()).text(" ");
  }
  out.text("] schedticks=[ ");
  for (int i = 0; i < slots; ++i) {
    processor& p = *s.processors[i].load(std::memory_order_relaxed);
    if (p.status.load(std::memory_order_relaxed) == processor_status::retired) continue;
    out.udec(p.slices.load(std::memory_order_relaxed)).text(" ");
  }
  out.text("]\n");
}

}  // namespace tuco::inline v1::sched
