// SPDX-License-Identifier: Apache-2.0
#include <tuco/goroutines.hpp>

#include <string>
#include <utility>

#include "observe/traceback.hpp"
#include "os/proc.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

namespace tuco::inline v1 {
namespace {

using task::goroutine;

/// The worker of a goroutine whose processor was taken because it sits in the kernel or computes for
/// long; null for all others.
const sched::worker* without_processor(const goroutine& g) noexcept {
  const sched::worker* w = g.worker.load(std::memory_order_relaxed);
  if (w == nullptr || w == sched::this_worker()) return nullptr;
  return w->attention_word.load(std::memory_order_relaxed) == sched::attention::taken ? w : nullptr;
}

os::thread_activity activity_of_thread(int tid) noexcept {
  os::thread_probe probe;
  return probe.open(tid) < 0 ? os::thread_activity{} : probe.activity();
}

/// Byte by byte: the record may be given to another goroutine meanwhile, so there may be no end.
std::string copy_name(const goroutine& g) {
  const volatile char* const name = g.name;
  std::string out;
  for (std::size_t i = 0; i < sizeof g.name; ++i) {
    const char c = name[i];
    if (c == '\0') break;
    out.push_back(c);
  }
  return out;
}

}  // namespace

namespace observe {

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
  out.locked_to_thread = g.has_flag(task::flag_locked);
  out.name = copy_name(g);
  if (out.status == goroutine_status::waiting) {
    out.reason = g.reason.load(std::memory_order_relaxed);
    out.wait_object = g.wait_object.load(std::memory_order_relaxed);
    out.waiting = std::chrono::nanoseconds(scale.age_ns(g.wait_since.load(std::memory_order_relaxed)));
  } else if (out.status == goroutine_status::running) {
    const sched::worker* w = g.worker.load(std::memory_order_relaxed);
    if (w != nullptr) out.thread = w->tid;
    if (without_processor(g) != nullptr) {
      const os::thread_activity activity = activity_of_thread(out.thread);
      if (activity.what == os::thread_activity::kind::in_syscall) {
        out.status = goroutine_status::syscall;
        out.system_call = os::syscall_name(activity.number);
      }
    }
  }
  return g.id.load(std::memory_order_acquire) == id && out.status != goroutine_status::dead &&
         out.status != goroutine_status::idle;
}

}  // namespace observe

std::vector<goroutine_info> goroutines() {
  const base::tick_scale scale;
  std::vector<goroutine_info> list;
  task::the_registry().for_each([&](const goroutine& g) {
    goroutine_info info;
    if (observe::describe(g, scale, info)) list.push_back(std::move(info));
  });
  return list;
}

goroutine_counts count_goroutines() noexcept {
  goroutine_counts counts;
  const std::uint32_t epoch = sched::the_scheduler.epoch.load(std::memory_order_relaxed);
  task::the_registry().for_each([&](const goroutine& g) {
    if (g.epoch != epoch) return;
    switch (g.status.load(std::memory_order_relaxed)) {
      case goroutine_status::runnable: ++counts.runnable; break;
      case goroutine_status::waiting: ++counts.waiting; break;
      case goroutine_status::running: {
        const sched::worker* w = without_processor(g);
        const bool in_kernel = w != nullptr && activity_of_thread(w->tid).what ==
                                                   os::thread_activity::kind::in_syscall;
        ++(in_kernel ? counts.syscall : counts.running);
        break;
      }
      default: break;
    }
  });
  return counts;
}

}  // namespace tuco::inline v1
