// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/mutex.hpp.
#include <tuco/mutex.hpp>

#include <chrono>
#include <mutex>
#include <thread>

#include "conformance/lifetime.hpp"
#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_parked;
using test::await_waiting;
using test::spawn;

class MutexTest : public test::runtime_test {};
TUCO_PROCESSORS(MutexTest);

TUCO_TEST(MutexTest, ExcludesOthers) {
  mutex m;
  int plain = 0;
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 10; ++g) {
    all.push_back(spawn([&] {
      for (int i = 0; i < 1'000; ++i) {
        std::scoped_lock lock(m);
        const int before = plain;
        if (i % 64 == 0) tuco::yield();  // somebody else runs while it is held
        plain = before + 1;
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(plain, 10'000);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(MutexTest, LockParksUntilUnlock) {
  mutex m;
  m.lock();
  auto waiter = spawn([&] {
    m.lock();
    m.unlock();
  });
  await_waiting(waiter.id(), wait_reason::mutex_lock);
  EXPECT_EQ(test::look_at(waiter.id())->wait_object, &m);
  EXPECT_EQ(to_string(wait_reason::mutex_lock), "sync.Mutex.Lock");
  m.unlock();
  waiter.join();
}

TUCO_TEST(MutexTest, RemembersItsOwner) {
  mutex m;
  EXPECT_EQ(m.owner(), 0u);
  m.lock();
  EXPECT_EQ(m.owner(), this_goroutine::id());
  auto waiter = spawn([&] {
    m.lock();
    const auto owner = m.owner();
    m.unlock();
    return owner;
  });
  await_parked(1);
  m.unlock();
  EXPECT_EQ(waiter.join(), waiter.id());
  EXPECT_TRUE(m.try_lock());
  EXPECT_EQ(m.owner(), this_goroutine::id());
  m.unlock();
  EXPECT_EQ(m.owner(), 0u);
}

TUCO_TEST(MutexTest, TryLockNeverParks) {
  mutex m;
  EXPECT_TRUE(m.try_lock());
  EXPECT_FALSE(m.try_lock());
  auto other = spawn([&] { return m.try_lock(); });
  EXPECT_FALSE(other.join());
  m.unlock();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(MutexTest, TimedLockTimesOutNeverEarly) {
  mutex m;
  m.lock();
  auto other = spawn([&] {
    for (const auto timeout : {0us, 200us, 3'000us}) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_FALSE(m.try_lock_for(timeout));
      EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
    }
    EXPECT_FALSE(m.try_lock_until(std::chrono::steady_clock::now() - 1h));
    EXPECT_FALSE(m.try_lock_until(std::chrono::system_clock::now() + 1ms));
  });
  other.join();
  m.unlock();
  EXPECT_TRUE(m.try_lock_for(0s));
  m.unlock();
}

TUCO_TEST(MutexTest, TimedLockGetsItWhenUnlockedInTime) {
  mutex m;
  m.lock();
  auto other = spawn([&] {
    std::unique_lock<mutex> lock(m, 1h);
    return lock.owns_lock();
  });
  await_waiting(other.id(), wait_reason::mutex_lock);
  m.unlock();
  EXPECT_TRUE(other.join());
}

TUCO_TEST(MutexTest, AWaiterThatTimedOutLeavesTheMutexUsable) {
  mutex m;
  m.lock();
  auto timed = spawn([&] { return m.try_lock_for(1ms); });
  EXPECT_FALSE(timed.join());
  m.unlock();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(MutexTest, AnotherGoroutineMayUnlock) {
  mutex m;
  m.lock();
  spawn([&] { m.unlock(); }).join();
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(MutexTest, ScopedLockOverTwoDoesNotDeadlock) {
  mutex a, b;
  int plain = 0;
  auto other = spawn([&] {
    for (int i = 0; i < 2'000; ++i) {
      std::scoped_lock lock(b, a);
      ++plain;
    }
  });
  for (int i = 0; i < 2'000; ++i) {
    std::scoped_lock lock(a, b);
    ++plain;
  }
  other.join();
  EXPECT_EQ(plain, 4'000);
}

// Go's TestMutexFairness: one that holds it nearly always, and one that wants it now and then.
TUCO_TEST(MutexTest, AWaiterDoesNotStarve) {
  mutex m;
  std::atomic<bool> stop{false};
  auto greedy = spawn([&] {
    while (!stop) {
      m.lock();
      const auto until = std::chrono::steady_clock::now() + 100us;
      while (std::chrono::steady_clock::now() < until) {
      }
      m.unlock();
    }
  });
  for (int i = 0; i < 10; ++i) {
    tuco::yield();
    m.lock();
    m.unlock();
  }
  stop = true;
  greedy.join();
}

TUCO_TEST(MutexTest, StarvingWaitersAreServedInOrder) {
  // Held for longer than a millisecond at a time, the mutex is handed from one to the next.
  mutex m;
  m.lock();
  std::vector<std::size_t> order;
  std::vector<test::spawned<void>> all;
  for (std::size_t i = 0; i < 5; ++i) {
    all.push_back(spawn([&, i] {
      std::scoped_lock lock(m);
      order.push_back(i);
      const auto until = std::chrono::steady_clock::now() + 2ms;
      while (std::chrono::steady_clock::now() < until) {
      }
    }));
    await_parked(i + 1);
  }
  const auto until = std::chrono::steady_clock::now() + 2ms;
  while (std::chrono::steady_clock::now() < until) {
  }
  m.unlock();
  for (auto& g : all) g.join();
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2, 3, 4}));
}

TUCO_TEST(MutexTest, TimedStorm) {
  mutex m;
  int plain = 0;
  std::atomic<int> got{0};
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 8; ++g) {
    all.push_back(spawn([&, g] {
      for (int i = 0; i < 500; ++i) {
        bool locked = true;
        switch ((g + i) % 3) {
          case 0: m.lock(); break;
          case 1: locked = m.try_lock(); break;
          default: locked = m.try_lock_for(std::chrono::microseconds((i * 13 + g) % 60));
        }
        if (!locked) continue;
        ++plain;
        ++got;
        if (i % 16 == 0) tuco::yield();
        m.unlock();
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(plain, got);
  EXPECT_TRUE(m.try_lock()) << "nothing of the storm is left in its state";
  m.unlock();
}

TUCO_TEST(MutexTest, TheLastOwnerMayDestroyIt) {
  test::last_holder_destroys<mutex>([] { return mutex(); },
                                    [](mutex& m, auto time) { if (m.try_lock_for(time)) m.unlock(); },
                                    [](mutex& m) { m.lock(); }, [](mutex& m) { m.unlock(); });
}

TUCO_TEST(MutexTest, SharedWithPlainThreads) {
  mutex m;
  int plain = 0;
  const auto work = [&] {
    for (int i = 0; i < 2'000; ++i) {
      std::scoped_lock lock(m);
      ++plain;
    }
  };
  std::thread a(work), b(work);
  auto c = spawn(work), d = spawn(work);
  c.join();
  d.join();
  a.join();
  b.join();
  EXPECT_EQ(plain, 8'000);
}

TUCO_TEST(MutexTest, HeldWhileTheGoroutineWaitsForSomethingElse) {
  mutex held, door;
  door.lock();
  auto holder = spawn([&] {
    std::scoped_lock lock(held);
    door.lock();
    door.unlock();
  });
  await_waiting(holder.id(), wait_reason::mutex_lock);
  EXPECT_EQ(held.owner(), holder.id());
  EXPECT_FALSE(held.try_lock());
  door.unlock();
  holder.join();
}

}  // namespace
}  // namespace tuco
