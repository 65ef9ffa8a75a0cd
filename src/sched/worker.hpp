// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A worker (Go's M): an operating system thread that runs goroutines while it has a processor, and
/// the record of a plain thread that uses the runtime's primitives.
///
/// **The bracket.** `in_runtime` is not 0 while the thread is inside the runtime. `attention` is how
/// the monitor speaks to it. Together they decide who owns the processor; the argument stands in
/// sched/monitor.cpp, the model in test/model/take_away_model.cpp.
///
///     attention   set by     means
///     none        worker     nothing
///     yield       monitor    please let others run at the next entry (the slice is used up)
///     asked       monitor    the monitor wants the processor and has not decided yet
///     taken       monitor    the processor is gone; the worker must get another one
///     abandoned   run()      taken, and the run is over: the thread may not come in any more
///     forked      fork       the thread is the only one in the child of a fork: it must not go on

#include <atomic>
#include <cstdint>
#include <pthread.h>

#include "arch/context.hpp"
#include "arch/thread_slot.hpp"
#include "base/cache_line.hpp"
#include "base/sanitizer.hpp"
#include "os/proc.hpp"
#include "os/thread.hpp"
#include "task/goroutine.hpp"

namespace tuco::inline v1::sched {

struct processor;

enum class attention : std::uint32_t { none = 0, yield = 1, asked = 2, taken = 3, abandoned = 4, forked = 5 };

using commit_action = bool (*)(task::goroutine* self, void* argument) noexcept;  ///< see park.hpp

/// What the next context must do for the one that was left.
enum class after_switch : std::uint8_t {
  nothing,
  park,      ///< publish "waiting", then the commit action
  requeue,   ///< runnable, to the end of the local queue
  requeue_global,
  surrender, ///< it lost its processor: runnable, to the global queue
  reap,      ///< it has ended: free its stack and its record
};

struct alignas(base::cache_line) worker {
  std::atomic<std::uint32_t> in_runtime{0};
  std::atomic<attention> attention_word{attention::none};
  processor* p = nullptr;               ///< null on plain threads
  /// Null on the worker's own stack. Written by the worker's thread; others read it as a hint.
  std::atomic<task::goroutine*> current{nullptr};
  after_switch pending = after_switch::nothing;
  bool spinning = false;
  bool plain_thread = false;
  task::goroutine* pending_goroutine = nullptr;
  commit_action commit = nullptr;
  void* commit_argument = nullptr;
  task::goroutine* locked_goroutine = nullptr;  ///< lock_thread(): runs nothing else
  task::goroutine* hand_to = nullptr;           ///< picked, but locked to another worker
  int* errno_address = nullptr;                      ///< constant for the thread
  task::exception_globals* exceptions = nullptr;     ///< of the thread, what __cxa_get_globals says
  arch::context own_context;                         ///< the worker's own stack, while a goroutine runs
  base::sanitizer_fiber fiber;

  // -- cold
  worker* next_idle = nullptr;
  bool is_idle = false;                 ///< under the scheduler's lock: on the idle list
  bool next_spinning = false;
  processor* next_processor = nullptr;  ///< handed over by whoever wakes this worker
  std::atomic<std::uint32_t> wake_word{0};
  int number = 0;
  int tid = 0;
  pthread_t thread{};
  task::stack own_stack;
  worker* all_next = nullptr;          ///< every worker ever made; records are reused, never freed
  std::atomic<bool> alive{false};
  os::signal_stack signal_stack;
  os::thread_probe probe;              ///< the monitor's
  int probe_tid = 0;
  bool owes_timer = false;             ///< has added the earliest timer and told nobody: worker_loop()
  bool ending = false;                 ///< its locked goroutine has ended: so does the thread
  std::atomic<bool> in_use{false};     ///< has a thread that may touch the scheduler
  std::atomic<bool> locked_waiting{false};
  task::goroutine* stand_in = nullptr;  ///< plain threads: the goroutine they appear as

  /// What it runs, for its own thread.
  [[nodiscard]] task::goroutine* running() const noexcept {
    return current.load(std::memory_order_relaxed);
  }
};

/// Null on a thread that never used the runtime. Read anew after everything that may switch.
[[gnu::always_inline]] inline worker* this_worker() noexcept {
  return static_cast<worker*>(arch::thread_slot());
}

}  // namespace tuco::inline v1::sched
