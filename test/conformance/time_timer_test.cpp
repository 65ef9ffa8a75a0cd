// SPDX-License-Identifier: Apache-2.0
// timer and after() of <tuco/time.hpp>: one test per cell of its table, no value that is stale or
// early, exactly one end of each setting. After the behaviours of Go 1.23's time/sleep_test.go and
// time/tick_test.go.
#include <tuco/time.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <tuco/go.hpp>
#include <tuco/run.hpp>
#include <tuco/select.hpp>

#include "fixture/runtime_test.hpp"
#include "sched/scheduler.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;
using test::await;
using test::spawn;

/// Entries in all heaps: timers that run, and sleepers.
std::size_t entries_in_heaps() {
  sched::scheduler& s = sched::the_scheduler;
  std::size_t sum = 0;
  for (int i = 0; i < s.processor_slots.load(); ++i) sum += s.processors[i].load()->timers.size();
  return sum;
}

void await_expired(const timer& t) {
  await([&] { return t.channel().size() == 1; }, "a timer to expire");
}

class TimerTest : public test::runtime_test {};
TUCO_PROCESSORS(TimerTest);

// --- the table ---

TUCO_TEST(TimerTest, SendsTheTimeOnceAndNotEarly) {
  const auto start = steady::now();
  timer t(2ms);
  auto channel = t.channel();
  const auto value = channel.recv();
  ASSERT_TRUE(value.has_value());
  EXPECT_GE(*value, start + 2ms);
  EXPECT_LE(*value, steady::now());
  sleep_for(3ms);
  EXPECT_EQ(channel.size(), 0u);
  EXPECT_FALSE(channel.is_closed());
}

TUCO_TEST(TimerTest, AtAMomentInsteadOfAfterADuration) {
  const auto moment = steady::now() + 1ms;
  timer t(moment);
  auto channel = t.channel();
  EXPECT_GE(channel.recv().value(), moment);
  const auto next = steady::now() + 1ms;
  EXPECT_FALSE(t.reset(next));
  EXPECT_GE(channel.recv().value(), next);
}

TUCO_TEST(TimerTest, StopPending) {
  timer t(1h);
  EXPECT_TRUE(t.stop());
  EXPECT_FALSE(t.stop());
  EXPECT_EQ(t.channel().size(), 0u);
}

TUCO_TEST(TimerTest, StopExpiredTakesTheValueBack) {
  timer t(1us);
  await_expired(t);
  EXPECT_TRUE(t.stop());
  EXPECT_EQ(t.channel().size(), 0u);
  EXPECT_FALSE(t.stop());
}

TUCO_TEST(TimerTest, StopReceived) {
  timer t(1us);
  auto channel = t.channel();
  (void)channel.recv();
  EXPECT_FALSE(t.stop());
}

TUCO_TEST(TimerTest, ResetPending) {
  timer t(1h);
  const auto start = steady::now();
  EXPECT_TRUE(t.reset(1ms));
  auto channel = t.channel();
  EXPECT_GE(channel.recv().value(), start + 1ms);
}

TUCO_TEST(TimerTest, ResetExpiredTakesTheValueBack) {
  timer t(1us);
  await_expired(t);
  const auto start = steady::now();
  EXPECT_TRUE(t.reset(2ms));
  auto channel = t.channel();
  EXPECT_GE(channel.recv().value(), start + 2ms);
  EXPECT_EQ(channel.size(), 0u);
}

TUCO_TEST(TimerTest, ResetReceived) {
  timer t(1us);
  auto channel = t.channel();
  (void)channel.recv();
  const auto start = steady::now();
  EXPECT_FALSE(t.reset(1ms));
  EXPECT_GE(channel.recv().value(), start + 1ms);
}

TUCO_TEST(TimerTest, ResetStopped) {
  timer t(1h);
  t.stop();
  EXPECT_FALSE(t.reset(1us));
  auto channel = t.channel();
  EXPECT_TRUE(channel.recv().has_value());
}

TUCO_TEST(TimerTest, AStoppedTimerIsSilent) {
  timer t(1ms);
  ASSERT_TRUE(t.stop());
  steady::time_point value;
  auto channel = t.channel();
  EXPECT_EQ(channel.recv_for(value, 4ms), chan_status::timed_out);
}

// --- durations ---

TUCO_TEST(TimerTest, ZeroAndNegativeExpireAtOnce) {
  for (const std::chrono::nanoseconds d : {0ns, -1ns, -1'000'000'000ns, std::chrono::nanoseconds::min()}) {
    EXPECT_TRUE(after(d).recv().has_value());
    timer t(1h);
    EXPECT_TRUE(t.reset(d));
    auto channel = t.channel();
    EXPECT_TRUE(channel.recv().has_value());
  }
  EXPECT_TRUE(after(std::chrono::hours::min()).recv().has_value());
}

TUCO_TEST(TimerTest, TheLongestDurationsDoNotWrapAround) {
  std::vector<timer> never{timer(std::chrono::nanoseconds::max()), timer(std::chrono::hours::max()),
                           timer(std::chrono::nanoseconds::max() - 1ns),
                           timer(steady::time_point::max())};
  sleep_for(3ms);
  for (timer& t : never) {
    EXPECT_EQ(t.channel().size(), 0u);
    EXPECT_TRUE(t.reset(std::chrono::nanoseconds::max() - 5ns));
    EXPECT_TRUE(t.stop());
  }
}

TUCO_TEST(TimerTest, ATimerThatIsMovedForwardExpiresThen) {
  // The first one makes everybody sleep for an hour; the reset must wake whoever does.
  timer far(1h);
  for (int i = 0; i < 50; ++i) {
    far.reset(1h);
    sleep_for(100us);
    far.reset(100us);
    auto channel = far.channel();
    ASSERT_TRUE(channel.recv().has_value());
  }
}

TUCO_TEST(TimerTest, ATimerThatIsMovedBackDoesNotExpireBefore) {
  timer t(500us);
  steady::time_point set;
  for (int i = 0; i < 30; ++i) {
    set = steady::now();
    t.reset(500us);
    sleep_for(50us);
  }
  auto channel = t.channel();
  EXPECT_GE(channel.recv().value(), set + 500us);
}

// --- handles ---

TUCO_TEST(TimerTest, CopiesNameTheSameTimer) {
  timer a(1h);
  timer b = a;
  EXPECT_TRUE(a.channel() == b.channel());
  EXPECT_TRUE(b.stop());
  EXPECT_FALSE(a.stop());
}

TUCO_TEST(TimerTest, ADefaultConstructedTimerIsNone) {
  timer none;
  EXPECT_TRUE(none.channel() == nullptr);
  EXPECT_THROW(none.stop(), misuse_error);
  EXPECT_THROW(none.reset(1s), misuse_error);
}

TUCO_TEST(TimerTest, ARunningTimerDiesWithItsLastHandle) {
  const std::size_t before = entries_in_heaps();
  {
    std::vector<timer> timers;
    std::vector<recv_chan<timer::time_point>> channels;
    for (int i = 0; i < 1000; ++i) {
      timers.emplace_back(1h + i * 1s);
      channels.push_back(after(1h));
      if (i % 2 == 0) timers.push_back(timers.back());
    }
    EXPECT_EQ(entries_in_heaps(), before + 2000);
  }
  EXPECT_EQ(entries_in_heaps(), before);
}

TUCO_TEST(TimerTest, TheChannelKeepsTheTimerRunning) {
  auto channel = timer(1ms).channel();
  EXPECT_TRUE(channel.recv().has_value());
}

TUCO_TEST(TimerTest, HandlesMayGoWhileTheTimerExpires) {
  std::minstd_rand random(static_cast<unsigned>(test::seed()));
  const std::size_t before = entries_in_heaps();
  std::vector<test::spawned<void>> all;
  for (int worker = 0; worker < 4; ++worker) {
    all.push_back(spawn([seed = random()] {
      std::minstd_rand mine(static_cast<unsigned>(seed));
      for (int i = 0; i < 3'000; ++i) {
        auto channel = after(std::chrono::nanoseconds(mine() % 4'000));
        const auto until = steady::now() + std::chrono::nanoseconds(mine() % 4'000);
        while (steady::now() < until) {
        }
        if (i % 16 == 0) yield();
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(entries_in_heaps(), before);
}

// --- several parties ---

TUCO_TEST(TimerTest, OneOfManyReceiversGetsTheValue) {
  timer t(2ms);
  std::atomic<int> received{0};
  chan<int> stop(0);
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < 5; ++i) {
    all.push_back(spawn([&received, t, stop]() mutable {
      auto channel = t.channel();
      select(on_recv(channel, [&](auto) { ++received; }), on_recv(stop));
    }));
  }
  await([&] { return received.load() == 1; });
  sleep_for(1ms);
  EXPECT_EQ(received.load(), 1);
  stop.close();
  for (auto& g : all) g.join();
  EXPECT_EQ(received.load(), 1);
}

TUCO_TEST(TimerTest, AfterLimitsAWaitInSelect) {
  chan<int> silent(0);
  const auto start = steady::now();
  EXPECT_EQ(select(on_recv(silent), on_recv(after(1ms))), 1u);
  EXPECT_GE(steady::now() - start, 1ms);
}

// A receiver races with stop(). Either it gets the value and stop() says false, or it does not and
// stop() says true.
TUCO_TEST(TimerTest, StopSaysExactlyWhetherTheValueWasReceived) {
  std::minstd_rand random(static_cast<unsigned>(test::seed()));
  int stopped = 0, received = 0;
  for (int i = 0; i < 3'000; ++i) {
    timer t(std::chrono::nanoseconds(random() % 30'000));
    chan<int> give_up(0);
    auto receiver = spawn([t, give_up]() mutable {
      auto channel = t.channel();
      return select(on_recv(channel), on_recv(give_up)) == 0;
    });
    sleep_for(std::chrono::nanoseconds(random() % 30'000));
    const bool was_stopped = t.stop();
    ASSERT_EQ(t.channel().size(), 0u);
    give_up.close();
    const bool was_received = receiver.join();
    // A closed give_up may win against a value that lies in the buffer, but stop() took it back.
    ASSERT_NE(was_stopped, was_received) << "round " << i;
    stopped += was_stopped;
    received += was_received;
  }
  EXPECT_EQ(stopped + received, 3'000);
  EXPECT_GT(stopped, 0);
}

// The value that arrives after a reset belongs to that reset: it is not earlier than its deadline.
TUCO_TEST(TimerTest, NoStaleValueAfterReset) {
  std::minstd_rand random(static_cast<unsigned>(test::seed()));
  timer t(1h);
  auto channel = t.channel();
  for (int i = 0; i < 5'000; ++i) {
    t.reset(std::chrono::nanoseconds(random() % 10'000));
    const auto until = steady::now() + std::chrono::nanoseconds(random() % 15'000);
    if (i % 4 == 0) sleep_for(until - steady::now());
    while (steady::now() < until) {
    }
    const auto d = std::chrono::nanoseconds(random() % 40'000);
    const auto earliest = steady::now() + d;
    t.reset(d);
    const auto value = channel.recv();
    ASSERT_GE(value.value(), earliest) << "round " << i;
  }
}

// Everybody resets, stops and receives from the same timer. Each setting ends in one way: its value is
// received, or one call says that it kept it from being so.
TUCO_TEST(TimerTest, EachSettingEndsExactlyOnce) {
  const std::uint64_t seed = test::seed();
  timer t(1us);
  chan<int> done(0);
  std::atomic<std::uint64_t> set{1}, prevented{0}, received{0};
  std::vector<test::spawned<void>> setters, receivers;
  for (unsigned i = 0; i < 4; ++i) {
    setters.push_back(spawn([&, t, i]() mutable {
      std::minstd_rand random(static_cast<unsigned>(seed) + i);
      for (int k = 0; k < 3'000; ++k) {
        if (random() % 4 == 0) {
          prevented += t.stop();
        } else {
          prevented += t.reset(std::chrono::nanoseconds(random() % 3'000));
          ++set;
        }
        if (random() % 8 == 0) sleep_for(std::chrono::nanoseconds(random() % 5'000));
      }
    }));
  }
  for (unsigned i = 0; i < 2; ++i) {
    receivers.push_back(spawn([&, t, done]() mutable {
      auto channel = t.channel();
      for (bool go_on = true; go_on;) {
        select(on_recv(channel, [&](auto) { ++received; }),
               on_recv(done, [&](auto) { go_on = false; }));
      }
    }));
  }
  for (auto& g : setters) g.join();
  prevented += t.stop();
  done.close();
  for (auto& g : receivers) g.join();
  EXPECT_EQ(prevented + received, set.load());
  EXPECT_GT(received.load(), 0u);
  EXPECT_GT(prevented.load(), 0u);
}

TUCO_TEST(TimerTest, AHundredThousandTimersAreNotEarly) {
  constexpr int batch = 10'000;
  std::minstd_rand random(static_cast<unsigned>(test::seed()));
  for (int round = 0; round < 10; ++round) {
    struct one {
      steady::time_point earliest;
      recv_chan<timer::time_point> channel;
    };
    std::vector<one> all;
    all.reserve(batch);
    for (int i = 0; i < batch; ++i) {
      // Zero, too: what is due at once may meet a run of the heap that has begun before.
      const auto d = std::chrono::nanoseconds(i % 4 == 0 ? 0 : random() % 5'000'000);
      all.push_back({steady::now() + d, after(d)});
    }
    for (one& x : all) ASSERT_GE(x.channel.recv().value(), x.earliest);
  }
}

TUCO_TEST(TimerTest, TimersOutliveTheirProcessors) {
  const int before = procs();
  set_procs(8);
  std::atomic<int> received{0};
  for (int i = 0; i < 200; ++i) {
    go([&received, i] {
      timer t(std::chrono::microseconds(3'000 + 10 * i));
      auto channel = t.channel();
      (void)channel.recv();
      ++received;
    });
  }
  for (int n = 0; received.load() != 200; ++n) {
    set_procs(n % 2 == 0 ? 1 : 8);
    sleep_for(200us);
  }
  set_procs(before);
}

// --- plain threads ---

TUCO_TEST(TimerTest, APlainThreadMayStartStopAndReceive) {
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  std::thread plain([&] {
    for (int i = 0; i < 50; ++i) {
      const auto start = steady::now();
      timer t(300us);
      auto channel = t.channel();
      wrong += channel.recv().value() < start + 300us;
      wrong += t.reset(1h);
      wrong += !t.stop();
      wrong += !after(1us).recv().has_value();
    }
    done = true;
  });
  while (!done.load()) sleep_for(1ms);
  plain.join();
  EXPECT_EQ(wrong.load(), 0);
}

TUCO_TEST(TimerTest, APlainThreadReceivesWhileAllProcessorsAreIdle) {
  chan<int> done(1);
  std::thread plain([done]() mutable {
    for (int i = 0; i < 50; ++i) (void)after(200us).recv();
    done.send(1);
  });
  EXPECT_TRUE(done.recv().has_value());  // parked all the while: nobody but the timers works
  plain.join();
}

TEST(TimerOutside, SaysThatThereIsNoRuntime) {
  EXPECT_THROW(timer(1s), misuse_error);
  EXPECT_THROW((void)after(1s), misuse_error);
}

TEST(TimerOutside, APendingTimerExpiresInTheNextRun) {
  timer t;
  run([&] { t = timer(1us + 1ms); });
  EXPECT_THROW(t.reset(1s), misuse_error);
  run([&] {
    auto channel = t.channel();
    EXPECT_TRUE(channel.recv().has_value());
    t.reset(1h);
  });
  EXPECT_TRUE(t.stop()) << "stopping works at any time";
}

TEST(TimerOutside, AHandleMayGoAfterTheRun) {
  auto t = std::make_unique<timer>();
  run([&] { *t = timer(1h); });
  t.reset();
  EXPECT_EQ(entries_in_heaps(), 0u);
}

// A timer that will never expire keeps nobody alive; one that will does.
TEST(TimerDeathTest, WaitingForATimerThatNeverExpiresIsADeadlock) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(run([] { (void)after(std::chrono::hours::max()).recv(); }), ::testing::ExitedWithCode(2),
              "all goroutines are asleep - deadlock!");
}

}  // namespace
}  // namespace tuco
