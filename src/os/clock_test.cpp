// SPDX-License-Identifier: Apache-2.0
// clock_test.cpp - the promises of os/clock.hpp, os/sleep.hpp and base/tick_clock.hpp.
#include "os/clock.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "base/tick_clock.hpp"
#include "os/fault.hpp"
#include "os/sleep.hpp"
#include "os/thread.hpp"

namespace tuco::inline v1::os {
namespace {

TEST(SteadyClockTest, IsTheStandardsSteadyClock) {
  const auto standard = [] {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  const std::int64_t before = standard();
  const std::int64_t ours = steady_now_ns();
  EXPECT_LE(before, ours);
  EXPECT_LE(ours, standard());
}

TEST(SteadyClockTest, ConversionsStayInRange) {
  EXPECT_EQ(to_timespec(-1).tv_sec, 0);
  EXPECT_EQ(to_timespec(-1).tv_nsec, 0);
  EXPECT_EQ(to_timespec(1'999'999'999).tv_sec, 1);
  EXPECT_EQ(to_timespec(1'999'999'999).tv_nsec, 999'999'999);
  EXPECT_LT(to_timespec(INT64_MAX).tv_nsec, 1'000'000'000);
  EXPECT_EQ(saturating_add(INT64_MAX, 1), INT64_MAX);
  EXPECT_EQ(saturating_add(INT64_MIN, -1), INT64_MIN);
  EXPECT_EQ(saturating_add(2, 3), 5);
}

TEST(SleepTest, NeverEndsEarlyAlsoUnderSignals) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  struct sigaction before {};
  ::sigaction(SIGUSR1, &action, &before);
  const pid_t sleeper = thread_id();
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    while (!stop.load()) signal_thread(sleeper, SIGUSR1);
  });
  for (int i = 0; i < 20; ++i) {
    const std::int64_t deadline = steady_now_ns() + 1'000'000;
    EXPECT_EQ(sleep_until(deadline), 0);
    EXPECT_GE(steady_now_ns(), deadline);
  }
  stop.store(true);
  storm.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(SleepTest, ThePastAndNegativeTimesReturnAtOnce) {
  EXPECT_EQ(sleep_until(0), 0);
  EXPECT_EQ(sleep_until(INT64_MIN), 0);
  EXPECT_EQ(sleep_for(-1), 0);
  EXPECT_EQ(sleep_for(INT64_MIN), 0);
}

TEST(TickClockTest, TicksRiseOnAThreadAndAreNeverZero) {
  start_tick_clock();
  std::uint64_t last = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t now = base::ticks();
    ASSERT_GE(now, last);
    ASSERT_NE(now, 0u);
    last = now;
  }
}

TEST(TickClockTest, ConversionAgreesWithTheSteadyClock) {
  start_tick_clock();
  for (int i = 0; i < 20; ++i) {
    const std::int64_t before = steady_now_ns();
    const std::uint64_t stamp = base::ticks();
    const std::int64_t after = steady_now_ns();
    sleep_for(2'000'000);
    const base::tick_scale scale;
    const std::int64_t age = scale.now_ns() - before;
    // The stated error, with room for an interrupt between the readings of a calibration point.
    const std::int64_t error = 20'000 + age / 1000;
    EXPECT_GE(scale.to_ns(stamp), before - error);
    EXPECT_LE(scale.to_ns(stamp), after + error);
  }
}

TEST(TickClockTest, OneScaleNeverRunsBackwardsNorIntoTheFuture) {
  start_tick_clock();
  std::uint64_t stamps[1000];
  for (auto& s : stamps) s = base::ticks();
  const base::tick_scale scale;
  std::int64_t last = 0;
  for (const auto s : stamps) {
    ASSERT_GE(scale.to_ns(s), last);
    last = scale.to_ns(s);
  }
  EXPECT_LE(last, scale.now_ns());
  EXPECT_EQ(scale.to_ns(UINT64_MAX), scale.now_ns());
  EXPECT_EQ(scale.age_ns(base::ticks()), 0);
  EXPECT_EQ(scale.to_ns(0), 0);
}

TEST(TickClockTest, SpansConvertBothWays) {
  start_tick_clock();
  const base::tick_scale scale;
  for (const std::int64_t ns : {std::int64_t{0}, std::int64_t{1'000}, std::int64_t{10'000'000},
                                std::int64_t{86'400'000'000'000}}) {
    EXPECT_NEAR(static_cast<double>(scale.span_ns(scale.span_ticks(ns))), static_cast<double>(ns),
                static_cast<double>(ns) * 1e-9 + static_cast<double>(scale.span_ns(1)) + 1);
  }
  EXPECT_EQ(scale.span_ticks(-5), 0u);
}

// In a process of its own: the choice is made once.
TEST(TickClockTest, WithoutATrustedCounterATickIsANanosecond) {
  EXPECT_EXIT(
      {
        ::setenv("TUCO_DEBUG", "notsc=1", 1);
        base::detail::counter_trusted.store(false);
        const auto before = static_cast<std::uint64_t>(steady_now_ns());
        const std::uint64_t stamp = base::ticks();
        const auto after = static_cast<std::uint64_t>(steady_now_ns());
        const base::tick_scale scale;
        const bool good = stamp >= before && stamp <= after &&
                          scale.to_ns(stamp) == static_cast<std::int64_t>(stamp) &&
                          scale.span_ticks(77) == 77;
        ::_exit(good ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tuco::inline v1::os
