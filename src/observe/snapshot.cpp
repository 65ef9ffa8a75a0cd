// SPDX-License-Identifier: Apache-2.0
#include <tuco/goroutines.hpp>

#include <utility>

#include "base/tick_clock.hpp"
#include "observe/traceback.hpp"
#include "os/proc.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

namespace tuco::inline v1 {
namespace {

using task::goroutine;

/// Running, but its processor was taken because it sits in the kernel or computes for long.
bool lost_processor(const goroutine& g, int& thread) noexcept {
  const sched::worker* w = g.worker.load(std::memory_order_relaxed);
  if (w == nullptr) return false;
  thread = w->tid;
  return w->attention_word.load(std::memory_order_relaxed) == sched::attention::taken;
}

/// @return False if the record changed hands while it was read.
bool describe(const goroutine& g, const base::tick_scale& scale, goroutine_info& out) {
  const std::uint64_t id = g.id.load(std::memory_order_acquire);
  if (id == 0 || g.epoch != sched::the_scheduler.epoch.load(std::memory_order_relaxed)) return false;
  out.id = id;
  out.parent = g.parent;
  out.status = g.status.load(std::memory_order_acquire);
  out.created_in = g.created.function;
  out.created_file = g.created.file;
  out.created_line = g.created.line;
  out.switches = g.switches.load(std::memory_order_relaxed);
  out.locked_to_thread = g.locked_worker.load(std::memory_order_relaxed) != nullptr;
  out.name = g.name;
  if (out.status == goroutine_status::waiting) {
    out.reason = g.reason.load(std::memory_order_relaxed);
    out.wait_object = g.wait_object.load(std::memory_order_relaxed);
    out.waiting = std::chrono::nanoseconds(scale.age_ns(g.wait_since.load(std::memory_order_relaxed)));
  } else if (const sched::worker* self = sched::this_worker();
             out.status == goroutine_status::running && lost_processor(g, out.thread) &&
             (self == nullptr || self->current != &g)) {
    os::thread_probe probe;
    if (probe.open(out.thread) >= 0) {
      const os::thread_activity activity = probe.activity();
      if (activity.what == os::thread_activity::kind::in_syscall) {
        out.status = goroutine_status::syscall;
        out.system_call = os::syscall_name(activity.number);
      }
    }
  }
  return g.id.load(std::memory_order_acquire) == id && out.status != goroutine_status::dead &&
         out.status != goroutine_status::idle;
}

}  // namespace

namespace observe {
bool describe(const task::goroutine& g, goroutine_info& out) {
  const base::tick_scale scale;
  return v1::describe(g, scale, out);
}
}  // namespace observe

std::vector<goroutine_info> goroutines() {
  const base::tick_scale scale;
  std::vector<goroutine_info> list;
  task::the_registry().for_each([&](const goroutine& g) {
    goroutine_info info;
    if (describe(g, scale, info)) list.push_back(std::move(info));
  });
  return list;
}

goroutine_counts count_goroutines() noexcept {
  goroutine_counts counts;
  const std::uint32_t epoch = sched::the_scheduler.epoch.load(std::memory_order_relaxed);
  task::the_registry().for_each([&](const goroutine& g) {
    if (g.id.load(std::memory_order_relaxed) == 0 || g.epoch != epoch) return;
    int thread = 0;
    switch (g.status.load(std::memory_order_relaxed)) {
      case goroutine_status::runnable: ++counts.runnable; break;
      case goroutine_status::waiting: ++counts.waiting; break;
      case goroutine_status::running:
        ++(lost_processor(g, thread) ? counts.syscall : counts.running);
        break;
      default: break;
    }
  });
  return counts;
}

}  // namespace tuco::inline v1
