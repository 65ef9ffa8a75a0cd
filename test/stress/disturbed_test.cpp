// SPDX-License-Identifier: Apache-2.0
// Everything at once, while processors come and go and signals rain on all threads: nothing is lost.
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

#include <tuco/tuco.hpp>

#include "stress/stress.hpp"
#include "stress/workloads.hpp"

namespace tuco::test {
namespace {

constexpr int signals_per_second = 4'000;

/// Sets the number of processors to 1 and to 16 in turn, every millisecond.
class processor_storm {
 public:
  processor_storm() {
    thread_ = std::thread([this] {
      for (int n = 1; !over_.load(std::memory_order_acquire); n = 17 - n, ++changes_) {
        set_procs(n);
        std::this_thread::sleep_for(1ms);
      }
    });
  }
  ~processor_storm() {
    over_.store(true, std::memory_order_release);
    thread_.join();
    EXPECT_GT(changes_, 0);
  }
  processor_storm(const processor_storm&) = delete;
  processor_storm& operator=(const processor_storm&) = delete;

 private:
  std::atomic<bool> over_{false};
  std::atomic<int> changes_{0};
  std::thread thread_;
};

struct disturbance {
  const char* name;
  bool processors;
  bool signals;

  friend void PrintTo(const disturbance& d, std::ostream* out) { *out << d.name; }
};

class Disturbed : public ::testing::TestWithParam<std::tuple<disturbance, int>> {};

TEST_P(Disturbed, EverythingAtOnceComesOutEven) {
  const auto [what, processors] = GetParam();
  tally progress;
  const watchdog guard(what.name, progress);
  const auto body = [&] {
    std::optional<processor_storm> changes;
    if (what.processors) changes.emplace();
    std::optional<signal_storm> signals;
    if (what.signals) signals.emplace(signals_per_second);
    run_all_workloads(stress_size(50'000'000, 300'000), progress);
    if (signals) {
      EXPECT_GT(signals->sent(), 0u);
    }
  };
  run(body, {.procs = processors});
}

INSTANTIATE_TEST_SUITE_P(
    By, Disturbed,
    ::testing::Combine(::testing::Values(disturbance{"Nothing", false, false},
                                         disturbance{"Processors", true, false},
                                         disturbance{"Signals", false, true},
                                         disturbance{"Both", true, true}),
                       ::testing::Values(1, 2, 8)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) + "_" + std::to_string(std::get<1>(info.param));
    });

/// Each kind of work alone, where a change of processors meets the same code all the time.
class ProcessorStorm : public ::testing::TestWithParam<workload> {};

TEST_P(ProcessorStorm, LosesNothing) {
  const workload& work = GetParam();
  tally progress;
  const watchdog guard(work.name, progress);
  run([&] {
    const processor_storm changes;
    work.run(stress_size(10'000'000'000, 80'000'000) / work.cost + 1, progress);
  });
}

INSTANTIATE_TEST_SUITE_P(On, ProcessorStorm,
                         ::testing::ValuesIn(workloads().begin(), workloads().end()),
                         [](const auto& info) { return std::string(info.param.name); });

class SignalStorm : public ::testing::TestWithParam<workload> {};

TEST_P(SignalStorm, LosesNothing) {
  const workload& work = GetParam();
  tally progress;
  const watchdog guard(work.name, progress);
  run([&] {
    const signal_storm signals(signals_per_second);
    work.run(stress_size(10'000'000'000, 80'000'000) / work.cost + 1, progress);
  });
}

INSTANTIATE_TEST_SUITE_P(On, SignalStorm,
                         ::testing::ValuesIn(workloads().begin(), workloads().end()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tuco::test
