// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the stress tests share: how long they are, who notices that they hang, and what disturbs them.
///
/// **Sizes.** Each test has the size of the promise (TUCO_STRESS=full, for a night) and one for every
/// day, so that the folder takes some minutes on two shared cores. Sanitizers get a tenth of that.
/// **Hangs.** A lost wake-up is a test that makes no progress. Where nothing else could wake anybody,
/// the runtime's own detector ends the program at once; where something could (a descriptor, a
/// timer, a plain thread), the watchdog does, with a dump of all goroutines and of the scheduler.
/// **Random choices** come from test::seed().

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include <tuco/go.hpp>
#include <tuco/wait_group.hpp>

#include "base/cache_line.hpp"
#include "base/random.hpp"
#include "fixture/runtime_test.hpp"

namespace tuco::test {

using namespace std::chrono_literals;  // NOLINT: of the tests alone

[[nodiscard]] bool full_stress() noexcept;

/// How often: `full` in a night, `daily` otherwise, a tenth of that under a sanitizer.
[[nodiscard]] std::uint64_t stress_size(std::uint64_t full, std::uint64_t daily) noexcept;

/// Counts progress from many goroutines and threads without a line that all of them write.
class tally {
 public:
  void add(std::uint64_t n = 1) noexcept;
  [[nodiscard]] std::uint64_t total() const noexcept;

 private:
  struct alignas(base::cache_line) cell {
    std::atomic<std::uint64_t> count{0};
  };
  std::array<cell, 16> cells_;
};

/// Ends the program with a dump when `progress` stands still for a minute. Not a time limit: a test
/// that moves, however slowly, is left alone. The thread does not count as one that might wake a
/// goroutine, so the detection of deadlocks stays as sharp as in a program without it.
class watchdog {
 public:
  watchdog(std::string_view what, const tally& progress);
  ~watchdog();
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;

 private:
  void watch();

  const std::string_view what_;
  const tally& progress_;
  std::atomic<bool> over_{false};
  std::thread thread_;
};

/// While one exists, each thread of the process gets `per_second` signals spread over it: SIGURG,
/// SIGUSR1 and SIGPROF in turn, with handlers that note that they came; SIGUSR1's is installed without
/// SA_RESTART.
class signal_storm {
 public:
  explicit signal_storm(int per_second);
  ~signal_storm();
  signal_storm(const signal_storm&) = delete;
  signal_storm& operator=(const signal_storm&) = delete;

  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_.load(std::memory_order_relaxed); }
  /// How many handlers have run, of all storms so far.
  [[nodiscard]] static std::uint64_t handled() noexcept;

 private:
  void blow(std::chrono::nanoseconds pause);

  std::atomic<bool> over_{false};
  std::atomic<std::uint64_t> sent_{0};
  std::thread thread_;
};

/// What a process has at a moment; a run() must leave as much as it found.
struct belongings {
  int threads = 0;
  int descriptors = 0;
  std::size_t mappings = 0;
  std::uint64_t resident = 0;
};
[[nodiscard]] belongings count_belongings();

/// Goroutines of a test that is a goroutine itself: joined at the end of the scope.
class crew {
 public:
  crew() = default;
  ~crew() { wait(); }
  crew(const crew&) = delete;
  crew& operator=(const crew&) = delete;
  template <class F>
  void go(F f) {
    all_.add();
    tuco::go([this, f = std::move(f)]() mutable {
      f();
      all_.done();
    });
  }
  void wait() { all_.wait(); }

 private:
  tuco::wait_group all_;
};

/// A generator of its own for each goroutine of a test.
[[nodiscard]] base::random_source new_random();

}  // namespace tuco::test
