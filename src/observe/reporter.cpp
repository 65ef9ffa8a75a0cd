// SPDX-License-Identifier: Apache-2.0
#include "observe/reporter.hpp"

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "base/tick_clock.hpp"
#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/thread.hpp"
#include "sched/scheduler.hpp"

namespace tuco::inline v1::observe {
namespace {

// Reading the debug information of a large program may take seconds before the first line.
constexpr std::int64_t patience_ns = 10'000'000'000;
constexpr std::int64_t calibrate_after_ns = 50'000'000;
constexpr std::size_t stack_bytes = 1024 * 1024;

struct report {
  void (*write)(void*) noexcept;
  void* argument;
  std::atomic<std::uint32_t> done{0};
};

struct reporter_thread {
  pthread_t thread{};
  std::atomic<bool> running{false};
  std::atomic<int> tid{0};  ///< 0: it has not begun
  void (*on_request)() = nullptr;
  std::atomic<std::uint32_t> bell{0};
  std::atomic<bool> requested{false};
  std::atomic<bool> ends{false};
  std::atomic<report*> urgent{nullptr};
  std::atomic<std::uint64_t> progress{0};
};
reporter_thread the_reporter;

void ring() noexcept {
  the_reporter.bell.fetch_add(1, std::memory_order_release);
  os::futex_wake(the_reporter.bell);
}

void* reporter_main(void*) {
  reporter_thread& r = the_reporter;
  os::set_thread_name("tuco-reporter");
  r.tid.store(os::thread_id(), std::memory_order_release);
  // Once, some time after the start: without a second point a core's ticks mean nothing.
  std::int64_t calibrate_at = os::steady_now_ns() + calibrate_after_ns;
  for (;;) {
    const std::uint32_t word = r.bell.load(std::memory_order_acquire);
    if (report* job = r.urgent.exchange(nullptr, std::memory_order_acquire)) {
      job->write(job->argument);
      job->done.store(1, std::memory_order_release);
      os::futex_wake(job->done);
    } else if (r.requested.exchange(false, std::memory_order_acquire)) {
      r.on_request();
    } else if (r.ends.load(std::memory_order_acquire)) {
      return nullptr;
    } else if (os::futex_wait(r.bell, word, calibrate_at) == os::futex_result::timed_out) {
      const base::tick_scale leaves_a_point;
      calibrate_at = os::no_deadline;
    }
  }
}

}  // namespace

bool start_reporter(void (*on_request)()) noexcept {
  reporter_thread& r = the_reporter;
  r.on_request = on_request;
  r.ends.store(false, std::memory_order_relaxed);
  r.requested.store(false, std::memory_order_relaxed);
  if (os::create_thread(&reporter_main, nullptr, stack_bytes, r.thread) < 0) return false;
  r.running.store(true, std::memory_order_release);
  sched::the_scheduler.other_threads.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void stop_reporter() noexcept {
  reporter_thread& r = the_reporter;
  if (!r.running.exchange(false, std::memory_order_acq_rel)) return;
  r.ends.store(true, std::memory_order_release);
  ring();
  os::join_thread(r.thread);
  r.tid.store(0, std::memory_order_relaxed);
  sched::the_scheduler.other_threads.fetch_sub(1, std::memory_order_relaxed);
}

void request_report() noexcept {
  the_reporter.requested.store(true, std::memory_order_release);
  ring();
}

bool report_and_wait(void (*write)(void*) noexcept, void* argument) noexcept {
  reporter_thread& r = the_reporter;
  if (!r.running.load(std::memory_order_acquire)) return false;
  if (r.tid.load(std::memory_order_acquire) == os::thread_id()) return false;
  // Not on the caller's stack: when patience ends, the reporter may still take it up.
  static report the_report;
  the_report.write = write;
  the_report.argument = argument;
  the_report.done.store(0, std::memory_order_relaxed);
  r.urgent.store(&the_report, std::memory_order_release);
  ring();
  std::uint64_t seen = r.progress.load(std::memory_order_relaxed);
  std::int64_t limit = os::steady_now_ns() + patience_ns;
  while (the_report.done.load(std::memory_order_acquire) == 0) {
    if (os::futex_wait(the_report.done, 0, limit) != os::futex_result::timed_out) continue;
    const std::uint64_t now = r.progress.load(std::memory_order_relaxed);
    if (now == seen) break;
    seen = now;
    limit = os::steady_now_ns() + patience_ns;
  }
  return true;
}

void note_progress() noexcept {
  the_reporter.progress.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace tuco::inline v1::observe
