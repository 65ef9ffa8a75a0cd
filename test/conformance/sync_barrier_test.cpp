// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/latch.hpp and tuco/barrier.hpp.
#include <tuco/barrier.hpp>
#include <tuco/latch.hpp>

#include <chrono>
#include <memory>
#include <thread>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_waiting;
using test::spawn;

class LatchTest : public test::runtime_test {};
TUCO_PROCESSORS(LatchTest);

TUCO_TEST(LatchTest, OpensWhenSoManyHaveCome) {
  latch l(3);
  auto waiter = spawn([&] { l.wait(); });
  await_waiting(waiter.id(), wait_reason::latch_wait);
  EXPECT_EQ(test::look_at(waiter.id())->wait_object, &l);
  EXPECT_EQ(to_string(wait_reason::latch_wait), "latch wait");
  l.count_down(2);
  EXPECT_FALSE(l.try_wait());
  EXPECT_FALSE(l.wait_for(1ms));
  EXPECT_FALSE(waiter.done());
  EXPECT_EQ(l.count(), 1);
  l.arrive_and_wait();
  waiter.join();
  EXPECT_TRUE(l.try_wait());
  l.wait();
  EXPECT_TRUE(l.wait_until(std::chrono::steady_clock::now() - 1h));
}

TUCO_TEST(LatchTest, CountingBelowZeroThrowsAndChangesNothing) {
  latch l(1);
  EXPECT_THROW(l.count_down(2), misuse_error);
  EXPECT_THROW(l.count_down(-1), misuse_error);
  EXPECT_EQ(l.count(), 1);
  l.count_down();
  try {
    l.count_down();
    ADD_FAILURE() << "counted below zero";
  } catch (const misuse_error& e) {
    EXPECT_EQ(e.text(), "latch: count below zero");
  }
  EXPECT_THROW(latch(-1), misuse_error);
}

TUCO_TEST(LatchTest, MayBeDestroyedAsSoonAsWaitReturns) {
  for (int round = 0; round < 300; ++round) {
    auto l = std::make_unique<latch>(2);
    latch* const shared = l.get();
    tuco::go([shared] { shared->count_down(); });
    tuco::go([shared] { shared->count_down(); });
    l->wait();
    l.reset();
  }
}

class BarrierTest : public test::runtime_test {};
TUCO_PROCESSORS(BarrierTest);

TUCO_TEST(BarrierTest, NobodyGoesOnBeforeAllHaveCome) {
  constexpr int workers = 6, rounds = 200;
  int completed = 0;  // written by the completion function, read between two phases
  std::atomic<int> arrived{0};
  barrier step(workers, [&]() noexcept { ++completed; });
  std::vector<test::spawned<void>> all;
  for (int w = 0; w < workers; ++w) {
    all.push_back(spawn([&] {
      for (int i = 1; i <= rounds; ++i) {
        ++arrived;
        step.arrive_and_wait();
        EXPECT_GE(arrived.load(), i * workers);
        EXPECT_EQ(completed, 2 * i - 1);
        step.arrive_and_wait();  // so that nobody begins the next round while others still look
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(completed, 2 * rounds);
}

TUCO_TEST(BarrierTest, WaitParksUntilThePhaseEnds) {
  barrier b(2);
  auto waiter = spawn([&] { b.arrive_and_wait(); });
  await_waiting(waiter.id(), wait_reason::barrier_wait);
  EXPECT_EQ(test::look_at(waiter.id())->wait_object, &b);
  EXPECT_EQ(to_string(wait_reason::barrier_wait), "barrier wait");
  EXPECT_EQ(b.missing(), 1);
  EXPECT_EQ(b.phase(), 0u);
  const auto token = b.arrive();
  waiter.join();
  b.wait(token);
  EXPECT_TRUE(b.wait_for(token, 0s));
  EXPECT_EQ(b.missing(), 2);
  EXPECT_EQ(b.phase(), 1u);
}

TUCO_TEST(BarrierTest, TimedWaitTimesOutAndTheArrivalStays) {
  barrier b(2);
  const auto token = b.arrive();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(b.wait_for(token, 2ms));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
  EXPECT_FALSE(b.wait_until(token, std::chrono::steady_clock::now() - 1h));
  b.arrive_and_wait();
  EXPECT_TRUE(b.wait_for(token, 1h));
}

TUCO_TEST(BarrierTest, OneThatDropsIsExpectedNoMore) {
  barrier b(3);
  b.arrive_and_drop();
  auto other = spawn([&] {
    b.arrive_and_wait();
    b.arrive_and_wait();
  });
  b.arrive_and_wait();
  EXPECT_EQ(b.expected(), 2);
  b.arrive_and_wait();
  other.join();
}

TUCO_TEST(BarrierTest, TheCompletionMayPark) {
  barrier b(2, [&]() noexcept { tuco::yield(); });
  auto other = spawn([&] { b.arrive_and_wait(); });
  b.arrive_and_wait();
  other.join();
}

TUCO_TEST(BarrierTest, TooManyArrivalsThrow) {
  barrier b(2);
  EXPECT_THROW(static_cast<void>(b.arrive(3)), misuse_error);
  EXPECT_THROW(static_cast<void>(b.arrive(-1)), misuse_error);
  EXPECT_EQ(b.missing(), 2);
  EXPECT_THROW(barrier<>(-1), misuse_error);
  static_cast<void>(b.arrive(2));
  EXPECT_EQ(b.phase(), 1u);
}

TUCO_TEST(BarrierTest, MayBeDestroyedAsSoonAsEverybodyIsThrough) {
  for (int round = 0; round < 300; ++round) {
    auto b = std::make_unique<barrier<>>(2);
    barrier<>* const shared = b.get();
    tuco::go([shared] { static_cast<void>(shared->arrive()); });
    b->arrive_and_wait();
    b.reset();
  }
}

TUCO_TEST(BarrierTest, PlainThreadsTakePart) {
  barrier b(2);
  std::thread thread([&] {
    for (int i = 0; i < 100; ++i) b.arrive_and_wait();
  });
  auto g = spawn([&] {
    for (int i = 0; i < 100; ++i) b.arrive_and_wait();
  });
  g.join();
  thread.join();
  EXPECT_EQ(b.phase(), 100u);
}

}  // namespace
}  // namespace tuco
