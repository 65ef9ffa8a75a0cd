// SPDX-License-Identifier: Apache-2.0
#include "stress/stress.hpp"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "os/clock.hpp"
#include "os/proc.hpp"
#include "os/thread.hpp"
#include "sched/lifecycle.hpp"
#include "sched/scheduler.hpp"

namespace tuco::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t sanitizer_factor = 10;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::uint64_t sanitizer_factor = 10;
#else
constexpr std::uint64_t sanitizer_factor = 1;
#endif
#else
constexpr std::uint64_t sanitizer_factor = 1;
#endif

constexpr auto patience = std::chrono::minutes(1);

std::atomic<std::uint64_t> handled_signals{0};
std::atomic<std::uint64_t> streams{0};

void on_signal(int) noexcept { handled_signals.fetch_add(1, std::memory_order_relaxed); }

/// Its own, for the size of a thread's kernel id: which cell to count in.
std::size_t cell_of_caller(std::size_t cells) noexcept {
  // By the stack: goroutines and threads have different ones, and it costs nothing.
  const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  return (here >> 14) * 0x9e3779b97f4a7c15u >> 32 & (cells - 1);
}

}  // namespace

bool full_stress() noexcept {
  const char* text = std::getenv("TUCO_STRESS");
  return text != nullptr && std::string_view(text) == "full";
}

std::uint64_t stress_size(std::uint64_t full, std::uint64_t daily) noexcept {
  const std::uint64_t wanted = full_stress() ? full : daily;
  return std::max<std::uint64_t>(1, wanted / sanitizer_factor);
}

void tally::add(std::uint64_t n) noexcept {
  cells_[cell_of_caller(cells_.size())].count.fetch_add(n, std::memory_order_relaxed);
}

std::uint64_t tally::total() const noexcept {
  std::uint64_t sum = 0;
  for (const cell& c : cells_) sum += c.count.load(std::memory_order_relaxed);
  return sum;
}

watchdog::watchdog(std::string_view what, const tally& progress)
    : what_(what), progress_(progress) {
  sched::the_scheduler.other_threads.fetch_add(1, std::memory_order_relaxed);
  thread_ = std::thread([this] { watch(); });
}

watchdog::~watchdog() {
  over_.store(true, std::memory_order_release);
  thread_.join();
  sched::the_scheduler.other_threads.fetch_sub(1, std::memory_order_relaxed);
}

void watchdog::watch() {
  std::uint64_t seen = progress_.total();
  auto since = std::chrono::steady_clock::now();
  while (!over_.load(std::memory_order_acquire)) {
    std::this_thread::sleep_for(10ms);
    const std::uint64_t now = progress_.total();
    if (now != seen) {
      seen = now;
      since = std::chrono::steady_clock::now();
    } else if (std::chrono::steady_clock::now() - since > patience) {
      std::fprintf(stderr, "watchdog: %.*s stands still after %llu steps\n",
                   static_cast<int>(what_.size()), what_.data(),
                   static_cast<unsigned long long>(seen));
      sched::print_schedtrace(true);
      dump_goroutines(2, {.waits = true});
      std::abort();
    }
  }
}

signal_storm::signal_storm(int per_second) {
  struct sigaction action {};
  action.sa_handler = &on_signal;
  sigemptyset(&action.sa_mask);
  for (const int number : {SIGURG, SIGUSR1, SIGPROF}) {
    // The runtime may have a handler for SIGURG already; that one stays.
    struct sigaction now {};
    sigaction(number, nullptr, &now);
    if ((now.sa_flags & SA_SIGINFO) != 0) continue;
    action.sa_flags = SA_ONSTACK | (number == SIGUSR1 ? 0 : SA_RESTART);
    sigaction(number, &action, nullptr);
  }
  const std::chrono::nanoseconds pause = std::chrono::nanoseconds(1s) / per_second;
  sched::the_scheduler.other_threads.fetch_add(1, std::memory_order_relaxed);
  thread_ = std::thread([this, pause] { blow(pause); });
}

signal_storm::~signal_storm() {
  over_.store(true, std::memory_order_release);
  thread_.join();
  sched::the_scheduler.other_threads.fetch_sub(1, std::memory_order_relaxed);
}

std::uint64_t signal_storm::handled() noexcept {
  return handled_signals.load(std::memory_order_relaxed);
}

void signal_storm::blow(std::chrono::nanoseconds pause) {
  constexpr std::array numbers = {SIGURG, SIGUSR1, SIGPROF};
  const pid_t self = os::thread_id();
  std::vector<pid_t> threads(512);
  std::size_t next = 0;
  auto when = std::chrono::steady_clock::now();
  while (!over_.load(std::memory_order_acquire)) {
    const int count = os::list_threads(threads);
    const std::size_t known = std::min(threads.size(), static_cast<std::size_t>(std::max(count, 0)));
    // Bursts of a millisecond's worth, because a sleep may be longer than the pause.
    for (int i = 0; i < 4 && known != 0; ++i) {
      const pid_t thread = threads[next / numbers.size() % known];
      if (thread != self && os::signal_thread(thread, numbers[next % numbers.size()]) >= 0) {
        sent_.fetch_add(1, std::memory_order_relaxed);
      }
      ++next;
      when += pause;
    }
    std::this_thread::sleep_until(when);
    when = std::max(when, std::chrono::steady_clock::now() - 1ms);
  }
}

belongings count_belongings() {
  belongings all;
  all.threads = os::thread_count();
  if (DIR* folder = ::opendir("/proc/self/fd")) {
    while (const dirent* entry = ::readdir(folder)) all.descriptors += entry->d_name[0] != '.';
    --all.descriptors;  // the folder's own
    ::closedir(folder);
  }
  all.mappings = os::mapping_count();
  all.resident = os::resident_bytes();
  return all;
}

base::random_source new_random() {
  static const std::uint64_t common = seed();
  return base::random_source(common + streams.fetch_add(1, std::memory_order_relaxed) * 7919);
}

}  // namespace tuco::test
