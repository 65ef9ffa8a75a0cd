// SPDX-License-Identifier: Apache-2.0
// futex_test.cpp - the promises of os/futex.hpp and os/lock.hpp.
#include "os/futex.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/spin_lock.hpp"
#include "os/clock.hpp"
#include "os/fault.hpp"
#include "os/lock.hpp"
#include "os/proc.hpp"
#include "os/thread.hpp"

namespace tuco::inline v1::os {
namespace {

// Waits for the state "asleep in futex", not for a time.
void await_asleep(const std::atomic<pid_t>& id) {
  while (id.load() == 0) std::this_thread::yield();
  thread_probe probe;
  ASSERT_EQ(probe.open(id.load()), 0);
  for (;;) {
    const thread_activity now = probe.activity();
    if (now.what == thread_activity::kind::unavailable) GTEST_SKIP() << "/proc does not tell";
    if (now.what == thread_activity::kind::in_syscall && syscall_name(now.number) == "futex") return;
    std::this_thread::yield();
  }
}

TEST(FutexTest, AChangedWordDoesNotSleep) {
  const std::atomic<std::uint32_t> word{1};
  EXPECT_EQ(futex_wait(word, 0), futex_result::changed);
}

TEST(FutexTest, ADeadlineInThePastTimesOutAtOnce) {
  const std::atomic<std::uint32_t> word{1};
  EXPECT_EQ(futex_wait(word, 1, steady_now_ns() - 1), futex_result::timed_out);
  EXPECT_EQ(futex_wait(word, 1, 0), futex_result::timed_out);
  EXPECT_EQ(futex_wait(word, 1, -5), futex_result::timed_out);
  EXPECT_EQ(futex_wait(word, 1, INT64_MIN), futex_result::timed_out);
}

TEST(FutexTest, NeverTimesOutEarly) {
  const std::atomic<std::uint32_t> word{1};
  for (int i = 0; i < 50; ++i) {
    const std::int64_t deadline = steady_now_ns() + 100'000 + i * 1'001;
    while (futex_wait(word, 1, deadline) != futex_result::timed_out) {
    }
    ASSERT_GE(steady_now_ns(), deadline);
  }
}

TEST(FutexTest, AWakeEndsAWaitWithoutDeadline) {
  std::atomic<std::uint32_t> word{0};
  std::atomic<pid_t> id{0};
  std::thread sleeper([&] {
    id.store(thread_id());
    while (word.load() == 0) futex_wait(word, 0);
  });
  await_asleep(id);
  word.store(1);
  EXPECT_EQ(futex_wake(word), 1);
  sleeper.join();
  EXPECT_EQ(futex_wake(word), 0);
}

TEST(FutexTest, AFailedCallReadsAsSpurious) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  const std::atomic<std::uint32_t> word{0};
  for (const int error : {EINTR, ENOMEM, EINVAL}) {
    const scoped_fault fault(call::futex, error, 1);
    EXPECT_EQ(futex_wait(word, 0), futex_result::woken);
  }
}

TEST(FutexTest, AWakeForMemoryThatIsGoneDoesNoHarm) {
  errno = EDOM;
  EXPECT_EQ(futex_wake(*reinterpret_cast<std::atomic<std::uint32_t>*>(16)), 0);
  EXPECT_EQ(errno, EDOM);
}

TEST(LockTest, TryLockTellsWhetherItIsFree) {
  lock l;
  EXPECT_TRUE(l.try_lock());
  EXPECT_FALSE(l.try_lock());
  l.unlock();
  EXPECT_TRUE(l.try_lock());
  l.unlock();
}

TEST(LockTest, AnotherThreadMayUnlock) {
  lock l;
  l.lock();
  std::thread([&] { l.unlock(); }).join();
  EXPECT_TRUE(l.try_lock());
}

TEST(LockTest, AWaiterSleepsAndIsWoken) {
  lock l;
  l.lock();
  std::atomic<pid_t> id{0};
  std::atomic<bool> got{false};
  std::thread waiter([&] {
    id.store(thread_id());
    l.lock();
    got.store(true);
    l.unlock();
  });
  await_asleep(id);
  EXPECT_FALSE(got.load());
  l.unlock();
  waiter.join();
  EXPECT_TRUE(got.load());
}

template <class Lock>
std::uint64_t count_under_lock() {
  Lock l;
  std::uint64_t counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50'000; ++i) {
        l.lock();
        ++counter;
        if (i % 1024 == 0) std::this_thread::yield();  // so that others really have to wait
        l.unlock();
      }
    });
  }
  for (auto& t : threads) t.join();
  return counter;
}

TEST(LockTest, ExcludesUnderContention) { EXPECT_EQ(count_under_lock<lock>(), 200'000u); }
// The definition of its waiting lives here, in lock.cpp.
TEST(LockTest, TheSpinLockExcludesToo) { EXPECT_EQ(count_under_lock<base::spin_lock>(), 200'000u); }

}  // namespace
}  // namespace tuco::inline v1::os
