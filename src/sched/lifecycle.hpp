// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Start and stop of the scheduler. The public tuco::run() adds signals, dumps and environment.

#include <cstddef>
#include <cstdint>

#include <signal.h>

#include "sched/scheduler.hpp"

namespace tuco::inline v1::sched {

struct start_options {
  int processors = 1;
  bool follow_quota = false;   ///< re-read the cgroup's quota once a second
  std::size_t stack_size = 256 * 1024;
  int max_workers = 10'000;
  std::int64_t schedtrace_ns = 0;  ///< 0: off
  bool scheddetail = false;
};

/// The right to run: one at a time in a process. While it exists no other run() touches what belongs to
/// the process as a whole (signal handlers, the scheduler).
class run_claim {
 public:
  /// @throws std::logic_error if the runtime is running, or has not got rid of its last run yet
  run_claim();
  ~run_claim();
  run_claim(const run_claim&) = delete;
  run_claim& operator=(const run_claim&) = delete;

 private:
  friend int run_main(run_claim&, const start_options&, int (*)(void*), void*);
  bool all_gone_ = true;
};

/// Runs `entry(object)` as the main goroutine and waits for its end; then stops the world for good:
/// workers inside the runtime leave it and their threads end; those that are outside lose their
/// processor and will block for ever at their next entry. After one second it gives up waiting for
/// stragglers.
/// @return What `entry` returned.
/// @throws std::system_error if no thread or no stack can be had
int run_main(run_claim& claim, const start_options& options, int (*entry)(void*), void* object);

/// Called on the main goroutine's stack.
void main_has_ended() noexcept;
void main_left_by_goexit(goroutine* g) noexcept;

int change_processors(int n) noexcept;

/// The line of GODEBUG=schedtrace, in Go's format, to stderr.
void print_schedtrace(bool detail) noexcept;

}  // namespace tuco::inline v1::sched
