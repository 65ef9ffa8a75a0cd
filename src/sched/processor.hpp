// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A processor (Go's P): the right to run goroutines, and everything that goes with it so that
/// running them needs no lock: a run queue, a timer heap, caches.
///
///     status     owner               where it is
///     idle       null                the list of idle processors
///     running    the worker          with that worker; or on its way, in one thread's hands:
///                                    the monitor that took it, the starter of a worker
///     retired    as it was           set_procs() made it superfluous: its holder gives it up when it
///                                    looks next; not held: nowhere
///
/// Ownership passes under the scheduler's lock, or from the monitor's take-away (sched/monitor.cpp);
/// all non-atomic fields belong to the owner.

#include <atomic>
#include <cstdint>

#include "base/cache_line.hpp"
#include "base/random.hpp"
#include "queue/run_queue.hpp"
#include "task/goroutine.hpp"
#include "task/registry.hpp"
#include "task/stack_cache.hpp"
#include "timer/heap.hpp"

namespace tuco::inline v1::sched {

struct worker;

/// Each time this many goroutines were picked, the global queue is looked at first. As Go: prime, so that it
/// meets no period of the user's.
inline constexpr std::uint32_t global_every = 61;

enum class processor_status : std::uint32_t { idle = 0, running = 1, retired = 4 };

struct alignas(base::cache_line) processor {
  explicit processor(int number) noexcept : id(number), random(std::uint64_t(number) * 7919 + 1) {}

  const int id;
  std::atomic<processor_status> status{processor_status::idle};
  std::atomic<worker*> owner{nullptr};
  processor* next_idle = nullptr;
  bool held = false;  ///< under the scheduler's lock: some thread has it, retired or not

  /// Counts the slices that were handed out here. The monitor calls a worker stuck when it stands
  /// still; a goroutine that inherits its waker's slice does not count.
  std::atomic<std::uint32_t> slices{0};
  std::uint32_t picks_until_global = global_every;
  base::random_source random;

  /// Go's ring has 256 places. With four times as many, a thousand goroutines that take turns stay here and
  /// do not pass through the global queue, its lock and its list, which cost each turn half of its time.
  queue::run_queue<task::goroutine, base::real_atomics, 1024> run_queue;
  timers::heap timers;
  task::goroutine_cache goroutines;
  task::stack_cache stacks;

  std::uint64_t next_goroutine_id = 0;  ///< ids are taken from the global counter in batches
  std::uint64_t last_goroutine_id = 0;
  std::atomic<std::uint32_t> picked{0};  ///< by the owner; a hint by which thieves see how fast it moves

  // Written by the owner, summed by readers.
  struct counters_type {
    std::atomic<std::uint64_t> created{0}, ended{0}, parks{0}, steals{0}, yields{0};
  } counters;

  // The monitor's memory of its last look.
  struct observed_type {
    std::uint32_t slices = 0;
    std::int64_t since = 0;          ///< when `slices` last moved
    std::int64_t cpu_time = -1;      ///< of the owner's thread at the last look
    const worker* owner = nullptr;
    bool asked_to_yield = false;
  } observed;
};

}  // namespace tuco::inline v1::sched
