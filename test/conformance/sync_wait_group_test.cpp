// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/wait_group.hpp and tuco/once.hpp.
#include <tuco/once.hpp>
#include <tuco/wait_group.hpp>

#include <list>
#include <stdexcept>
#include <thread>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_parked;
using test::await_waiting;
using test::spawn;

class WaitGroupTest : public test::runtime_test {};
TUCO_PROCESSORS(WaitGroupTest);

class OnceTest : public test::runtime_test {};
TUCO_PROCESSORS(OnceTest);

TUCO_TEST(WaitGroupTest, WaitReturnsAtOnceWhenNothingIsAdded) {
  wait_group wg;
  wg.wait();
  EXPECT_TRUE(wg.wait_for(0s));
  EXPECT_EQ(wg.count(), 0);
}

TUCO_TEST(WaitGroupTest, WaitParksUntilAllAreDone) {
  wait_group wg;
  wg.add(3);
  auto waiter = spawn([&] { wg.wait(); });
  await_waiting(waiter.id(), wait_reason::wait_group_wait);
  EXPECT_EQ(to_string(wait_reason::wait_group_wait), "sync.WaitGroup.Wait");
  EXPECT_EQ(test::look_at(waiter.id())->wait_object, &wg);
  wg.done();
  wg.add(-1);
  EXPECT_EQ(wg.count(), 1);
  EXPECT_FALSE(waiter.done());
  wg.done();
  waiter.join();
}

TUCO_TEST(WaitGroupTest, DoneHappensBeforeWaitReturns) {
  wait_group wg;
  std::vector<int> plain(20);  // races here are ThreadSanitizer's to find
  for (std::size_t i = 0; i < plain.size(); ++i) {
    wg.add();
    tuco::go([&, i] {
      plain[i] = 1;
      wg.done();
    });
  }
  wg.wait();
  for (const int x : plain) EXPECT_EQ(x, 1);
}

TUCO_TEST(WaitGroupTest, WakesAllWaiters) {
  wait_group wg;
  wg.add();
  std::vector<test::spawned<void>> waiters;
  for (int i = 0; i < 10; ++i) waiters.push_back(spawn([&] { wg.wait(); }));
  await_parked(10);
  wg.done();
  for (auto& w : waiters) w.join();
}

TUCO_TEST(WaitGroupTest, MayBeUsedAgainAndAgain) {
  wait_group wg;
  for (int round = 0; round < 500; ++round) {
    wg.add(2);
    tuco::go([&] { wg.done(); });
    tuco::go([&] { wg.done(); });
    wg.wait();
    EXPECT_EQ(wg.count(), 0);
  }
}

TUCO_TEST(WaitGroupTest, ANewRoundMayBeginBeforeTheWaitersRun) {
  wait_group wg;
  wg.add();
  auto waiter = spawn([&] { wg.wait(); });
  await_parked(1);
  wg.done();
  wg.add();  // Go would call this misuse if it caught it
  waiter.join();
  EXPECT_EQ(wg.count(), 1);
  wg.done();
}

TUCO_TEST(WaitGroupTest, NegativeCounterThrowsAndChangesNothing) {
  wait_group wg;
  try {
    wg.done();
    FAIL() << "did not throw";
  } catch (const misuse_error& e) {
    EXPECT_EQ(e.text(), "sync: negative WaitGroup counter");
    EXPECT_EQ(e.goroutine(), this_goroutine::id());
  }
  wg.add(2);
  EXPECT_THROW(wg.add(-3), misuse_error);
  EXPECT_EQ(wg.count(), 2);
  auto waiter = spawn([&] { wg.wait(); });
  await_parked(1);
  EXPECT_THROW(wg.add(-3), misuse_error);
  wg.add(-2);
  waiter.join();
}

TUCO_TEST(WaitGroupTest, TimedWait) {
  wait_group wg;
  wg.add();
  for (const auto timeout : {0us, 300us, 2'000us}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(wg.wait_for(timeout));
    EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
  }
  EXPECT_FALSE(wg.wait_until(std::chrono::steady_clock::now() - 1h));
  auto waiter = spawn([&] { return wg.wait_for(1h); });
  await_waiting(waiter.id(), wait_reason::wait_group_wait);
  wg.done();
  EXPECT_TRUE(waiter.join());
}

TUCO_TEST(WaitGroupTest, MayBeDestroyedWhenWaitHasReturned) {
  for (int i = 0; i < 1'000; ++i) {
    auto wg = std::make_unique<wait_group>();
    wg->add();
    auto other = spawn([&w = *wg] { w.done(); });
    while (!wg->wait_for(std::chrono::microseconds(1 + i % 30))) {
    }
    wg.reset();
    other.join();
  }
}

TUCO_TEST(WaitGroupTest, FromPlainThreads) {
  wait_group wg;
  wg.add(2);
  std::thread a([&] { wg.done(); });
  auto b = spawn([&] { wg.done(); });
  std::thread c([&] { wg.wait(); });
  wg.wait();
  a.join();
  b.join();
  c.join();
}

// -- once

TUCO_TEST(OnceTest, RunsOnceAndAllWaitForIt) {
  once flag;
  int runs = 0, seen = 0;
  wait_group inside;
  inside.add();
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < 10; ++i) {
    all.push_back(spawn([&] {
      flag.call([&] {
        inside.wait();
        ++runs;
      });
      EXPECT_EQ(runs, 1);  // unsynchronized: call() orders it
      static_cast<void>(seen);
    }));
  }
  await_parked(10);
  EXPECT_FALSE(flag.done());
  inside.done();
  for (auto& g : all) g.join();
  EXPECT_TRUE(flag.done());
  flag.call([&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

TUCO_TEST(OnceTest, WaitersAreShownAndKnowWhoRuns) {
  once flag;
  wait_group door;
  door.add();
  auto runner = spawn([&] { flag.call([&] { door.wait(); }); });
  await_waiting(runner.id(), wait_reason::wait_group_wait);
  auto waiter = spawn([&] { flag.call([] { FAIL(); }); });
  await_waiting(waiter.id(), wait_reason::once_wait);
  EXPECT_EQ(test::look_at(waiter.id())->wait_object, &flag);
  EXPECT_EQ(flag.owner(), runner.id());
  door.done();
  runner.join();
  waiter.join();
}

TUCO_TEST(OnceTest, AnExceptionLetsTheNextOneTry) {
  once flag;
  EXPECT_THROW(flag.call([] { throw std::runtime_error("first"); }), std::runtime_error);
  EXPECT_FALSE(flag.done());

  wait_group door;
  door.add();
  auto failing = spawn([&] {
    EXPECT_THROW(flag.call([&] {
      door.wait();
      throw std::runtime_error("second");
    }),
                 std::runtime_error);
  });
  await_waiting(failing.id(), wait_reason::wait_group_wait);
  std::atomic<int> runs{0};
  auto next = spawn([&] { flag.call([&] { ++runs; }); });
  await_waiting(next.id(), wait_reason::once_wait);
  door.done();
  failing.join();
  next.join();
  EXPECT_EQ(runs, 1);
  EXPECT_TRUE(flag.done());
}

TUCO_TEST(OnceTest, PassesArguments) {
  once flag;
  int got = 0;
  call_once(flag, [&](int a, std::unique_ptr<int> b) { got = a + *b; }, 1, std::make_unique<int>(2));
  EXPECT_EQ(got, 3);
}

TUCO_TEST(OnceTest, CallingItselfWaitsForEver) {
  test::leaves_behind(1);
  static std::list<once> flags;  // outlive the goroutines that stay behind
  once& flag = flags.emplace_back();
  auto recursive = spawn([&] { flag.call([&] { flag.call([] {}); }); });
  await_waiting(recursive.id(), wait_reason::once_wait);
}

}  // namespace
}  // namespace tuco
