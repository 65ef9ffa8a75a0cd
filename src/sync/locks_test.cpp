// SPDX-License-Identifier: Apache-2.0
// The locks between plain threads, without run(); and what ends the program.
#include <tuco/condition_variable.hpp>
#include <tuco/mutex.hpp>
#include <tuco/once.hpp>
#include <tuco/wait_group.hpp>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

namespace tuco {
namespace {

using namespace std::chrono_literals;

// Constant-initialized: usable from the constructors of other globals.
constinit mutex global_mutex;
constinit once global_once;
constinit wait_group global_group;
constinit condition_variable global_condition;

static_assert(std::is_trivially_destructible_v<mutex> && std::is_trivially_destructible_v<once>);

TEST(LocksOnThreads, MutexExcludes) {
  int plain = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        std::scoped_lock lock(global_mutex);
        ++plain;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(plain, 80'000);
  EXPECT_EQ(global_mutex.owner(), 0u);
}

TEST(LocksOnThreads, TimedMutex) {
  std::unique_lock held(global_mutex);
  std::thread([] {
    EXPECT_FALSE(global_mutex.try_lock());
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(global_mutex.try_lock_for(2ms));
    EXPECT_GE(std::chrono::steady_clock::now() - start, 2ms);
  }).join();
}

TEST(LocksOnThreads, StdConditionVariableAnyWorksWithOurMutex) {
  std::condition_variable_any cv;
  std::unique_lock lock(global_mutex);
  EXPECT_EQ(cv.wait_for(lock, 1ms), std::cv_status::timeout);
  EXPECT_TRUE(lock.owns_lock());
}

TEST(LocksOnThreads, ConditionVariable) {
  bool go_on = false;
  std::thread waiter([&] {
    std::unique_lock lock(global_mutex);
    global_condition.wait(lock, [&] { return go_on; });
  });
  {
    std::scoped_lock lock(global_mutex);
    go_on = true;
  }
  global_condition.notify_all();
  waiter.join();
}

TEST(LocksOnThreads, WaitGroup) {
  for (int round = 0; round < 50; ++round) {
    global_group.add(2);
    std::thread a([] { global_group.done(); });
    std::thread b([] { global_group.done(); });
    global_group.wait();
    a.join();
    b.join();
  }
}

TEST(LocksOnThreads, Once) {
  int runs = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      global_once.call([&] { ++runs; });
      EXPECT_EQ(runs, 1);
    });
  }
  for (auto& t : threads) t.join();
}

using LocksDeathTest = ::testing::Test;

TEST(LocksDeathTest, UnlockOfUnlockedMutexIsFatal) {
#ifdef TUCO_TEST_EMULATED
  GTEST_SKIP() << "the program starts itself once more, which the host's kernel does not do for us";
#endif
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        mutex m;
        m.unlock();
      },
      ::testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
  EXPECT_EXIT(
      {
        mutex m;
        m.lock();
        m.unlock();
        m.unlock();
      },
      ::testing::ExitedWithCode(2), "fatal error: sync: unlock of unlocked mutex");
}

}  // namespace
}  // namespace tuco
