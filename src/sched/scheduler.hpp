// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What all workers share, and the steps of the scheduler between its files.
///
///     park.cpp       runtime_section, park, ready, yield: what goroutines call
///     switch.cpp     leaving one stack for another, and what is done for the one that was left
///     spawn.cpp      go: birth and end of a goroutine
///     find_work.cpp  what a worker does next; stealing; searching; sleeping
///     idle.cpp       lists of idle processors and workers; waking, starting and reaping threads
///     monitor.cpp    the thread that takes processors from workers that left the runtime
///     plain_thread.cpp  threads that are not workers
///     lifecycle.cpp  start, stop, set_procs
///     deadlock.cpp   nobody will ever run again
///
/// Lock order: scheduler lock < timer heap lock. Neither is held while a channel's lock is taken.

#include <atomic>
#include <cstdint>

#include "os/lock.hpp"
#include "queue/global_queue.hpp"
#include "sched/park.hpp"
#include "sched/processor.hpp"
#include "sched/worker.hpp"

namespace tuco::inline v1::sched {

inline constexpr int max_processors = 1024;

enum class phase : std::uint32_t {
  stopped,
  starting,  ///< somebody has the right to run; threads are being made
  running,
  stopping,
  overdue,   ///< run() has returned, but some workers have not left yet
};

struct scheduler {
  os::futex_lock lock;

  // -- under the lock
  processor* idle_processors = nullptr;
  worker* idle_workers = nullptr;
  worker* free_workers = nullptr;  ///< records whose thread has ended
  int idle_worker_count = 0;
  int worker_count = 0;            ///< threads, idle ones included; they have not left the scheduler
  pthread_t last_to_leave{};       ///< the worker thread that has left last, not yet joined
  bool last_is_set = false;
  int max_workers = 10000;
  queue::global_queue<task::goroutine> global;

  // -- written under the lock, read by anyone
  alignas(base::cache_line) std::atomic<phase> state{phase::stopped};
  std::atomic<int> processor_count{0};        ///< not retired
  std::atomic<int> processor_slots{0};        ///< ever made; `processors` below it is not null
  std::atomic<int> idle_processor_count{0};
  std::atomic<std::uint32_t> global_size{0};
  std::atomic<worker*> all_workers{nullptr};
  std::atomic<std::uint32_t> epoch{0};  ///< grows when a run begins and when it is over
  std::atomic<std::uint8_t> default_size_class{task::default_stack_class};  ///< of stacks

  // -- the searching protocol (find_work.cpp)
  alignas(base::cache_line) std::atomic<int> searching{0};
  std::atomic<bool> need_searching{false};

  // -- the poller's seat: at most one worker blocks in it
  alignas(base::cache_line) std::atomic<bool> poller_taken{false};
  std::atomic<std::int64_t> poller_deadline{0};  ///< when it wakes by itself; 0: nobody sleeps there
  std::atomic<std::int64_t> last_poll{0};
  std::atomic<bool> looking{false};              ///< somebody does a non-blocking poll

  // -- the monitor
  std::atomic<std::uint32_t> monitor_word{0};
  std::atomic<bool> monitor_asleep{false};

  alignas(base::cache_line) std::atomic<std::uint64_t> next_goroutine_id{0};
  std::atomic<processor*> processors[max_processors];

  // -- what workers and goroutines did, for runtime_stats
  std::atomic<std::uint64_t> take_aways{0}, withdrawn{0}, threads_created{0}, threads_reaped{0};
  std::atomic<std::uint64_t> outside_created{0};
  std::atomic<bool> main_left_by_goexit{false};
  std::atomic<bool> follow_quota{false};
  std::atomic<bool> forked{false};          ///< this process is the child of one that had workers
  std::atomic<int> plain_threads{0};        ///< that have used a primitive and have not ended
  std::atomic<int> other_threads{0};        ///< the runtime's own besides workers and monitor
  std::atomic<int> thread_refused{0};       ///< errno value of the last attempt to start a worker; 0: it went well
  std::atomic<std::uint32_t> stacks_refused{0};  ///< how often a goroutine was to begin and got no stack
  /// How long a program stands still for want of a thread or a stack before it is ended (monitor.cpp).
  std::atomic<std::int64_t> shortage_limit_ns{10'000'000'000};
};

extern scheduler the_scheduler;

// switch.cpp
/// Leaves `g`, which runs on `w`, for `next` or, if null, for the worker's own stack; `what` is then
/// done for `g`. Returns when `g` runs again, maybe on another worker.
void leave(worker* w, goroutine* g, goroutine* next, after_switch what) noexcept;
/// Runs `g` from the worker's own stack until somebody switches back to it.
void run_goroutine(worker* w, goroutine* g) noexcept;
/// First thing on every context that was switched to.
void finish_switch(worker* w) noexcept;
[[noreturn]] void leave_for_good(worker* w, goroutine* g, goroutine* next) noexcept;

void prepare_fiber(goroutine* g) noexcept;
/// `next` begins on the stack that is running now.
[[noreturn]] void start_on_this_stack(worker* w, goroutine* next) noexcept;

// spawn.cpp
void goroutine_entry();
/// Gives a goroutine that has not begun its stack. False: there is none to be had.
/// @param p  the caller's, or null
bool give_stack(processor* p, goroutine* g, task::stack_failure& why) noexcept;
void release_goroutine(worker* w, goroutine* g) noexcept;
void release_record(worker* w, goroutine* g) noexcept;

// find_work.cpp
/// The next goroutine for `w` that can be had without searching, or null.
///
/// Whoever may hold a lock says `defer`, for a timer's expiry may want the same one: while timers are
/// due the answer is null then, and the worker's own stack runs them, after the commit action.
enum class due_timers : std::uint8_t { run, defer };
goroutine* pick(worker* w, due_timers timers) noexcept;
void worker_loop(worker* w) noexcept;
void spill(worker* w, goroutine* g) noexcept;        ///< push_local() when the local queue is full
void push_global(goroutine* g) noexcept;
void push_global(ready_list& list) noexcept;

/// To the end of the local queue.
[[gnu::always_inline]] inline void push_local(worker* w, goroutine* g) noexcept {
  if (!w->p->run_queue.push_back(g)) [[unlikely]] spill(w, g);
}
/// To run next if nobody else is to, or in its turn: for one that has not begun. With many started in a row the
/// first runs next and not, as in Go, the last, which saves the exchange of the slot for each of them.
[[gnu::always_inline]] inline void push_new(worker* w, goroutine* g) noexcept {
  if (!w->p->run_queue.set_next_if_free(g)) push_local(w, g);
}
/// To run next.
[[gnu::always_inline]] inline void push_next(worker* w, goroutine* g) noexcept {
  if (goroutine* kicked = w->p->run_queue.set_next(g)) push_local(w, kicked);
}

bool any_work_visible() noexcept;
std::int64_t earliest_timer() noexcept;
void run_due_timers_everywhere(std::int64_t now, ready_list& out) noexcept;

// idle.cpp
void wake_worker() noexcept;                                ///< if a processor is idle and nobody searches
void put_idle(processor* p) noexcept;                       ///< lock held
processor* take_idle() noexcept;                            ///< lock held
void start_worker(processor* p, bool searching) noexcept;   ///< gives `p` to an idle or a new worker
void stop_worker(worker* w) noexcept;                       ///< sleeps until given a processor
void hand_over(processor* p) noexcept;                      ///< the thread that holds `p` does not need it
void acquire(worker* w, processor* p) noexcept;
processor* release(worker* w) noexcept;
void wake_thread(worker* w) noexcept;

// find_work.cpp, timers
void timer_became_earliest(std::int64_t when) noexcept;

// monitor.cpp
void wake_monitor() noexcept;

// plain_thread.cpp
void watch_forks() noexcept;
[[noreturn]] void die_after_fork() noexcept;

// deadlock.cpp
/// Lock held; a worker is about to sleep. Ends the program when nobody can ever run again.
void check_deadlock() noexcept;

// thread_start.cpp
void attach_thread(worker* w) noexcept;
goroutine* make_main(void (*body)());       ///< spawn.cpp: runnable, in no queue. @throws std::system_error
void discard_main(goroutine* g) noexcept;   ///< it will not run
bool make_runnable(goroutine* g) noexcept;  ///< park.cpp: false for a goroutine of an earlier run

// lifecycle.cpp
[[noreturn]] void block_forever() noexcept;
void open_run() noexcept;        ///< by the first worker, which has the main goroutine in its hands
void exit_on_worker() noexcept;  ///< a goroutine has called exit()
int runtime_threads() noexcept;

}  // namespace tuco::inline v1::sched
