// SPDX-License-Identifier: Apache-2.0
// sleep_for and sleep_until of <tuco/time.hpp>: never early, never lost, whatever the duration.
// After the behaviours of Go's time/sleep_test.go and runtime/time_test.go.
#include <tuco/time.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include <tuco/chan.hpp>
#include <tuco/go.hpp>
#include <tuco/run.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;
using test::await;
using test::spawn;

class SleepTest : public test::runtime_test {};
TUCO_PROCESSORS(SleepTest);

TUCO_TEST(SleepTest, LastsAtLeastAsLongAsAsked) {
  for (const auto d : {1ns, 100ns, 1'000ns, 50'000ns, 999'999ns, 2'000'001ns, 10'000'000ns}) {
    const auto before = steady::now();
    sleep_for(d);
    EXPECT_GE(steady::now() - before, d);
  }
}

TUCO_TEST(SleepTest, RoundsUpWhatIsFinerThanTheClock) {
  using picoseconds = std::chrono::duration<std::int64_t, std::pico>;
  using float_ms = std::chrono::duration<double, std::milli>;
  const auto before = steady::now();
  sleep_for(picoseconds(1));
  EXPECT_GT(steady::now(), before);
  const auto between = steady::now();
  sleep_for(float_ms(1.5));
  EXPECT_GE(steady::now() - between, 1500us);
}

TUCO_TEST(SleepTest, ZeroAndNegativeReturnAtOnceAndLetOthersRun) {
  const auto nan = std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN());
  std::atomic<bool> ran{false};
  (void)spawn([&] { ran = true; }).id();
  // The other goroutine gets its turn although this one never waits; a hang is the failure.
  await([&] {
    sleep_for(0s);
    sleep_for(-1s);
    sleep_for(std::chrono::nanoseconds::min());
    sleep_for(std::chrono::hours::min());
    sleep_for(nan);
    sleep_until(steady::time_point::min());
    sleep_until(steady::now() - 1h);
    sleep_until(std::chrono::system_clock::now() - 1h);
    sleep_until(std::chrono::system_clock::time_point::min());
    return ran.load();
  });
}

TUCO_TEST(SleepTest, TheLongestSleepsDoNotWrapAround) {
  const std::vector<goroutine_id> sleepers{
      spawn([] { sleep_for(std::chrono::nanoseconds::max()); }).id(),
      spawn([] { sleep_for(std::chrono::hours::max()); }).id(),
      spawn([] { sleep_for(std::chrono::duration<double>(INFINITY)); }).id(),
      spawn([] { sleep_until(steady::time_point::max()); }).id(),
      spawn([] { sleep_until(std::chrono::system_clock::time_point::max()); }).id(),
      spawn([] { sleep_for(std::chrono::nanoseconds::max() - 1ns); }).id(),
  };
  for (const goroutine_id id : sleepers) test::await_waiting(id, wait_reason::sleep);
  sleep_for(2ms);
  for (const goroutine_id id : sleepers) test::await_waiting(id, wait_reason::sleep);
  test::leaves_behind(sleepers.size());
}

TUCO_TEST(SleepTest, SleepUntilIsNotEarlyByItsOwnClock) {
  const auto wall = std::chrono::system_clock::now() + 3ms;
  sleep_until(wall);
  EXPECT_GE(std::chrono::system_clock::now(), wall);
  const auto moment = std::chrono::ceil<std::chrono::milliseconds>(steady::now()) + 2ms;
  sleep_until(moment);
  EXPECT_GE(steady::now(), moment);
}

TUCO_TEST(SleepTest, TwoHundredThousandSleepsAndNoneEarly) {
  constexpr int goroutines = 4'000, sleeps = 50;
  std::atomic<int> early{0}, ended{0};
  const std::uint64_t seed = test::seed();
  for (int i = 0; i < goroutines; ++i) {
    go([&early, &ended, seed, i] {
      std::minstd_rand random(static_cast<unsigned>(seed) + unsigned(i));
      for (int k = 0; k < sleeps; ++k) {
        const auto d = std::chrono::nanoseconds(random() % 2'000'000);
        const auto before = steady::now();
        sleep_for(d);
        if (steady::now() - before < d) ++early;
      }
      ++ended;
    });
  }
  // This goroutine waits like the others: the processors go idle between two expiries.
  while (ended.load() != goroutines) sleep_for(1ms);
  EXPECT_EQ(early.load(), 0);
}

TUCO_TEST(SleepTest, AShorterSleepThatComesLaterDoesNotWaitForTheLonger) {
  auto sleeper = spawn([] { sleep_for(24h); });
  test::await_waiting(sleeper.id(), wait_reason::sleep);
  for (int i = 0; i < 200; ++i) {
    // Everybody is asleep until the far deadline each time; each of these comes before it.
    spawn([] { sleep_for(50us); }).join();
    sleep_for(20us);
  }
  test::leaves_behind(1);
}

TUCO_TEST(SleepTest, SleepersOutliveTheirProcessors) {
  const int before = procs();
  set_procs(8);
  std::atomic<int> woken{0};
  constexpr int sleepers = 500;
  for (int i = 0; i < sleepers; ++i) {
    go([&woken, i] {
      yield();  // spread over the processors
      sleep_for(std::chrono::microseconds(5'000 + 10 * i));
      ++woken;
    });
  }
  for (int n = 0; woken.load() != sleepers; ++n) {
    set_procs(n % 2 == 0 ? 1 : 8);
    sleep_for(200us);
  }
  set_procs(before);
}

TUCO_TEST(SleepTest, APlainThreadSleepsBesideTheGoroutines) {
  std::atomic<bool> done{false};
  std::atomic<bool> early{false};
  std::thread plain([&] {
    for (int i = 0; i < 20; ++i) {
      const auto before = steady::now();
      sleep_for(300us);
      if (steady::now() - before < 300us) early = true;
    }
    done = true;
  });
  while (!done.load()) sleep_for(100us);
  plain.join();
  EXPECT_FALSE(early.load());
}

TEST(SleepOutside, WorksWithoutARuntime) {
  const auto before = steady::now();
  std::thread([] { sleep_for(2ms); }).join();
  sleep_for(1ms);
  EXPECT_GE(steady::now() - before, 3ms);
  sleep_for(0ms);
  sleep_for(-1h);
}

// A sleeper that a run leaves behind never wakes. It must not count as something that the next run
// could wait for.
TEST(SleepDeathTest, SleepersOfAnEarlierRunDoNotHideADeadlock) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto two_runs = [] {
    run([] {
      const goroutine_id id = go([] { sleep_for(1h); });
      test::await_waiting(id, wait_reason::sleep);
    });
    run([] { (void)chan<int>(0).recv(); });
  };
  EXPECT_EXIT(two_runs(), ::testing::ExitedWithCode(2), "all goroutines are asleep - deadlock!");
}

// A processor's goroutines wake in the order of their deadlines, equal ones in the order in which
// they fell asleep.
class SleepOrderTest : public test::runtime_test {};
INSTANTIATE_TEST_SUITE_P(OneProcessor, SleepOrderTest, ::testing::Values(1));

TUCO_TEST(SleepOrderTest, GoroutinesWakeInTheOrderOfTheirDeadlines) {
  const auto start = steady::now() + 5ms;
  std::vector<int> woken;
  std::vector<test::spawned<void>> all;
  for (const int slot : {5, 3, 6, 6, 6, 1, 1, 2, 7, 9, 4, 8, 0}) {
    all.push_back(spawn([&woken, start, slot] {
      sleep_until(start + slot * 100us);
      woken.push_back(slot);
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_TRUE(std::is_sorted(woken.begin(), woken.end())) << ::testing::PrintToString(woken);
}

TUCO_TEST(SleepOrderTest, EqualDeadlinesWakeFirstComeFirstServed) {
  // Far enough that all are asleep before it, on a loaded machine too: a later one has no order to keep.
  const auto moment = steady::now() + 200ms;
  std::vector<int> asleep, woken;
  std::vector<test::spawned<void>> all;
  // As many as a worker takes from the global queue at once, where they lie if they are due while no processor is
  // idle: those that it leaves there are overtaken, or overtake, as every 61st turn goes to the global queue.
  for (int i = 0; i < 100; ++i) {
    all.push_back(spawn([&asleep, &woken, moment, i] {
      asleep.push_back(i);
      sleep_until(moment);
      woken.push_back(i);
    }));
  }
  for (auto& g : all) g.join();
  if (steady::now() < moment) FAIL() << "early";
  EXPECT_EQ(woken, asleep);
}

}  // namespace
}  // namespace tuco
