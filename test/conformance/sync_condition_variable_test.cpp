// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/condition_variable.hpp.
#include <tuco/condition_variable.hpp>

#include <deque>
#include <thread>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_parked;
using test::await_waiting;
using test::spawn;

class ConditionVariableTest : public test::runtime_test {};
TUCO_PROCESSORS(ConditionVariableTest);

TUCO_TEST(ConditionVariableTest, WaitParksUnlockedAndReturnsLocked) {
  mutex m;
  condition_variable cv;
  bool go_on = false;
  auto waiter = spawn([&] {
    std::unique_lock lock(m);
    while (!go_on) cv.wait(lock);
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_FALSE(m.try_lock());
  });
  await_waiting(waiter.id(), wait_reason::cond_wait);
  EXPECT_EQ(to_string(wait_reason::cond_wait), "sync.Cond.Wait");
  {
    std::scoped_lock lock(m);
    go_on = true;
  }
  cv.notify_one();
  waiter.join();
}

// Go's TestCondSignal.
TUCO_TEST(ConditionVariableTest, NotifyOneWakesExactlyOne) {
  mutex m;
  condition_variable cv;
  constexpr int n = 6;
  std::atomic<int> awake{0};
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < n; ++i) {
    all.push_back(spawn([&] {
      std::unique_lock lock(m);
      cv.wait(lock);
      ++awake;
    }));
  }
  for (int i = 0; i < n; ++i) {
    await_parked(static_cast<std::size_t>(n - i));
    EXPECT_EQ(awake, i);
    cv.notify_one();
  }
  for (auto& g : all) g.join();
  cv.notify_one();  // nobody waits
}

// Go's TestCondSignalGenerations.
TUCO_TEST(ConditionVariableTest, WakesInTheOrderOfWaiting) {
  mutex m;
  condition_variable cv;
  std::vector<std::size_t> order;
  std::vector<test::spawned<void>> all;
  for (std::size_t i = 0; i < 20; ++i) {
    all.push_back(spawn([&, i] {
      std::unique_lock lock(m);
      cv.wait(lock);
      order.push_back(i);
    }));
    await_parked(i + 1);
  }
  for (std::size_t i = 0; i < 20; ++i) {
    cv.notify_one();
    all[i].join();
  }
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(order[i], i);
}

TUCO_TEST(ConditionVariableTest, NotifyAllWakesAll) {
  mutex m;
  condition_variable cv;
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < 50; ++i) {
    all.push_back(spawn([&] {
      std::unique_lock lock(m);
      cv.wait(lock);
    }));
  }
  await_parked(50);
  cv.notify_all();
  for (auto& g : all) g.join();
}

TUCO_TEST(ConditionVariableTest, NotifyBeforeWaitIsNotRemembered) {
  mutex m;
  condition_variable cv;
  cv.notify_one();
  cv.notify_all();
  std::unique_lock lock(m);
  EXPECT_EQ(cv.wait_for(lock, 1ms), cv_status::timeout);
  EXPECT_TRUE(lock.owns_lock());
}

TUCO_TEST(ConditionVariableTest, TimedWait) {
  mutex m;
  condition_variable cv;
  std::unique_lock lock(m);
  for (const auto timeout : {0us, 300us, 2'000us}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(cv.wait_for(lock, timeout), cv_status::timeout);
    EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
  }
  EXPECT_EQ(cv.wait_until(lock, std::chrono::steady_clock::now() - 1h), cv_status::timeout);
  EXPECT_FALSE(cv.wait_for(lock, 1ms, [] { return false; }));
  EXPECT_TRUE(cv.wait_for(lock, 1h, [] { return true; }));

  bool done = false;
  auto other = spawn([&] {
    std::scoped_lock inner(m);
    done = true;
    cv.notify_all();
  });
  EXPECT_TRUE(cv.wait_for(lock, 1h, [&] { return done; }));
  lock.unlock();
  other.join();
}

TUCO_TEST(ConditionVariableTest, AWaiterThatTimedOutDoesNotSwallowANotification) {
  mutex m;
  condition_variable cv;
  auto timed = spawn([&] {
    std::unique_lock lock(m);
    return cv.wait_for(lock, 500us) == cv_status::timeout;
  });
  EXPECT_TRUE(timed.join());
  auto waiter = spawn([&] {
    std::unique_lock lock(m);
    cv.wait(lock);
  });
  await_waiting(waiter.id(), wait_reason::cond_wait);
  cv.notify_one();
  waiter.join();
}

// A bounded queue with producers and consumers: lost notifications would hang it.
TUCO_TEST(ConditionVariableTest, BoundedQueue) {
  mutex m;
  condition_variable not_empty, not_full;
  std::deque<int> queue;
  constexpr int each = 2'000;
  std::atomic<long> sum{0};
  std::vector<test::spawned<void>> all;
  for (int p = 0; p < 3; ++p) {
    all.push_back(spawn([&] {
      for (int i = 1; i <= each; ++i) {
        std::unique_lock lock(m);
        not_full.wait(lock, [&] { return queue.size() < 4; });
        queue.push_back(i);
        lock.unlock();
        not_empty.notify_one();
      }
    }));
    all.push_back(spawn([&] {
      for (int i = 1; i <= each; ++i) {
        std::unique_lock lock(m);
        not_empty.wait(lock, [&] { return !queue.empty(); });
        sum += queue.front();
        queue.pop_front();
        lock.unlock();
        not_full.notify_one();
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(sum, 3L * each * (each + 1) / 2);
}

TUCO_TEST(ConditionVariableTest, NotificationsAndDeadlinesRace) {
  mutex m;
  condition_variable cv;
  int tokens = 0;
  constexpr int n = 2'000;
  std::atomic<int> taken{0};
  std::vector<test::spawned<void>> consumers;
  for (int c = 0; c < 3; ++c) {
    consumers.push_back(spawn([&, c] {
      std::unique_lock lock(m);
      for (int i = 0; taken < n; ++i) {
        if (tokens > 0) {
          --tokens;
          ++taken;
          continue;
        }
        (void)cv.wait_for(lock, std::chrono::microseconds((i * 17 + c) % 50));
      }
    }));
  }
  for (int i = 0; i < n; ++i) {
    {
      std::scoped_lock lock(m);
      ++tokens;
    }
    cv.notify_one();
    if (i % 8 == 0) tuco::yield();
  }
  for (auto& g : consumers) g.join();
  EXPECT_EQ(taken, n);
}

TUCO_TEST(ConditionVariableTest, MayBeDestroyedOnceAllAreNotified) {
  for (int i = 0; i < 300; ++i) {
    mutex m;
    auto cv = std::make_unique<condition_variable>();
    int waiting = 0;
    bool go_on = false;
    std::vector<test::spawned<void>> all;
    for (int w = 0; w < 3; ++w) {
      all.push_back(spawn([&, timed = w == 1] {
        std::unique_lock lock(m);
        ++waiting;
        if (timed) (void)cv->wait_for(lock, 1h);
        else cv->wait(lock);
        EXPECT_TRUE(go_on);
      }));
    }
    test::await([&] {
      std::scoped_lock lock(m);
      return waiting == 3;
    });
    {
      std::scoped_lock lock(m);
      go_on = true;
      cv->notify_all();
      cv.reset();  // the waiters have not even got the mutex
    }
    for (auto& g : all) g.join();
  }
}

TUCO_TEST(ConditionVariableTest, AnyLock) {
  struct counting_lock {
    mutex m;
    int unlocks = 0;
    void lock() { m.lock(); }
    void unlock() {
      ++unlocks;
      m.unlock();
    }
  } lock;
  condition_variable_any cv;
  bool go_on = false;
  auto waiter = spawn([&] {
    std::scoped_lock guard(lock);
    cv.wait(lock, [&] { return go_on; });
  });
  await_waiting(waiter.id(), wait_reason::cond_wait);
  {
    std::scoped_lock guard(lock);
    go_on = true;
  }
  cv.notify_one();
  waiter.join();
  EXPECT_GE(lock.unlocks, 3);
}

TUCO_TEST(ConditionVariableTest, AnUnlockThatThrowsLeavesNothingBehind) {
  mutex m;
  condition_variable cv;
  std::unique_lock<mutex> not_locked(m, std::defer_lock);
  EXPECT_THROW(cv.wait(not_locked), std::system_error);
  EXPECT_THROW((void)cv.wait_for(not_locked, 1h), std::system_error);
  cv.notify_all();
  auto waiter = spawn([&] {
    std::unique_lock lock(m);
    cv.wait(lock);
  });
  await_waiting(waiter.id(), wait_reason::cond_wait);
  cv.notify_one();
  waiter.join();
}

TUCO_TEST(ConditionVariableTest, PlainThreadsAndGoroutinesTogether) {
  mutex m;
  condition_variable cv;
  int turn = 0;
  constexpr int n = 500;
  std::thread thread([&] {
    for (int i = 0; i < n; ++i) {
      std::unique_lock lock(m);
      cv.wait(lock, [&] { return turn == 1; });
      turn = 0;
      cv.notify_all();
    }
  });
  for (int i = 0; i < n; ++i) {
    std::unique_lock lock(m);
    cv.wait(lock, [&] { return turn == 0; });
    turn = 1;
    cv.notify_all();
  }
  thread.join();
}

}  // namespace
}  // namespace tuco
