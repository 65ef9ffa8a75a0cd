// SPDX-License-Identifier: Apache-2.0
// The line of TUCO_DEBUG=schedtrace=N, in the format of Go's GODEBUG=schedtrace=N.
#include "os/clock.hpp"
#include "os/write.hpp"
#include "sched/lifecycle.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {
namespace {

std::int64_t start_time = 0;

void print_details(os::fd_writer& out) noexcept {
  scheduler& s = the_scheduler;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) {
    processor& p = *s.processors[i].load(std::memory_order_relaxed);
    const worker* w = p.owner.load(std::memory_order_acquire);
    out.text("  P").dec(i).text(": status=").udec(static_cast<std::uint32_t>(p.status.load(std::memory_order_relaxed)));
    out.text(" schedtick=").udec(p.slices.load(std::memory_order_relaxed)).text(" syscalltick=0 m=");
    if (w != nullptr) out.dec(w->number);
    else out.text("nil");
    out.text(" runqsize=").udec(p.run_queue.size()).text(" gfreecnt=0 timerslen=");
    out.udec(p.timers.size()).text("\n");
  }
  for (const worker* w = s.all_workers.load(std::memory_order_acquire); w != nullptr; w = w->all_next) {
    if (!w->in_use.load(std::memory_order_acquire)) continue;
    const goroutine* g = w->visible_goroutine.load(std::memory_order_relaxed);
    out.text("  M").dec(w->number).text(": p=");
    bool owns = false;
    for (int i = 0; i < slots && !owns; ++i) {
      if (s.processors[i].load(std::memory_order_relaxed)->owner.load(std::memory_order_relaxed) == w) {
        out.dec(i);
        owns = true;
      }
    }
    if (!owns) out.text("nil");
    out.text(" curg=");
    if (g != nullptr) out.udec(g->id.load(std::memory_order_relaxed));
    else out.text("nil");
    out.text(" mallocing=0 throwing=0 preemptoff= locks=0 dying=0 spinning=");
    out.text(w->spinning ? "true" : "false").text(" blocked=").text(w->is_idle ? "true" : "false");
    out.text(" lockedg=nil\n");
  }
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
    out.text(" gcwaiting=false nmidlelocked=0 stopwait=0 sysmonwait=false\n");
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
