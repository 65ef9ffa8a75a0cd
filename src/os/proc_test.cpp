// SPDX-License-Identifier: Apache-2.0
// proc_test.cpp - the promises of os/proc.hpp.
#include "os/proc.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "os/fault.hpp"
#include "os/memory.hpp"
#include "os/thread.hpp"

namespace tuco::inline v1::os {
namespace {

using kind = thread_activity::kind;

class ThreadProbeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    thread_probe self;
    if (self.open(thread_id()) != 0) GTEST_SKIP() << "no /proc/self/task/TID/syscall here";
  }
};

TEST_F(ThreadProbeTest, ARunningThreadIsRunning) {
  std::atomic<pid_t> id{0};
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    id.store(thread_id());
    while (!stop.load()) {
    }
  });
  while (id.load() == 0) std::this_thread::yield();
  thread_probe probe;
  ASSERT_EQ(probe.open(id.load()), 0);
  EXPECT_EQ(probe.activity().what, kind::running);
  EXPECT_EQ(probe.activity().what, kind::running);
  stop.store(true);
  busy.join();
}

TEST_F(ThreadProbeTest, ABlockedThreadNamesItsCallAndAnEndedOneIsEnded) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  std::atomic<pid_t> id{0};
  std::thread reader([&] {
    id.store(thread_id());
    char c;
    EXPECT_EQ(::read(pipe_ends[0], &c, 1), 0);
  });
  while (id.load() == 0) std::this_thread::yield();
  thread_probe probe;
  ASSERT_EQ(probe.open(id.load()), 0);
  while (probe.activity().what != kind::in_syscall) std::this_thread::yield();
  EXPECT_EQ(probe.activity().number, SYS_read);
  EXPECT_EQ(syscall_name(probe.activity().number), "read");
  ::close(pipe_ends[1]);
  reader.join();
  while (probe.activity().what != kind::ended) std::this_thread::yield();
  ::close(pipe_ends[0]);
}

TEST_F(ThreadProbeTest, WhatCannotBeAskedIsUnavailable) {
  thread_probe probe;
  EXPECT_EQ(probe.activity().what, kind::unavailable);
  EXPECT_LT(probe.open(0x3fffffff), 0);
  EXPECT_EQ(probe.activity().what, kind::unavailable);
  if (!fault_injection) return;
  ASSERT_EQ(probe.open(thread_id()), 0);
  const scoped_fault fault(call::read, EPERM);
  EXPECT_EQ(probe.activity().what, kind::unavailable);
}

TEST_F(ThreadProbeTest, MovesLeaveNoDescriptorBehind) {
  const int free_before = ::dup(0);
  ::close(free_before);
  {
    thread_probe a;
    ASSERT_EQ(a.open(thread_id()), 0);
    thread_probe b = std::move(a);
    EXPECT_EQ(a.activity().what, kind::unavailable);  // NOLINT(bugprone-use-after-move)
    EXPECT_NE(b.activity().what, kind::unavailable);
    thread_probe c;
    ASSERT_EQ(c.open(thread_id()), 0);
    c = std::move(b);
    ASSERT_EQ(c.open(thread_id()), 0);
  }
  const int free_after = ::dup(0);
  ::close(free_after);
  EXPECT_EQ(free_after, free_before);
}

TEST(SyscallNameTest, NamesAreThoseOfThisMachine) {
  EXPECT_EQ(syscall_name(SYS_read), "read");
  EXPECT_EQ(syscall_name(SYS_nanosleep), "nanosleep");
  EXPECT_EQ(syscall_name(SYS_clock_nanosleep), "clock_nanosleep");
  EXPECT_EQ(syscall_name(SYS_futex), "futex");
  EXPECT_EQ(syscall_name(SYS_epoll_pwait), "epoll_pwait");
  EXPECT_EQ(syscall_name(SYS_lseek), "lseek");
  EXPECT_EQ(syscall_name(SYS_openat2), "openat2");
}

TEST(SyscallNameTest, UnknownNumbersHaveNone) {
  EXPECT_EQ(syscall_name(-1), "");
  EXPECT_EQ(syscall_name(511), "");
  EXPECT_EQ(syscall_name(100'000), "");
  EXPECT_EQ(syscall_name(INT32_MIN), "");
}

TEST(ProcTest, ThreadsAreCountedAndListed) {
  constexpr int extra = 100;
  std::atomic<bool> stop{false};
  std::atomic<int> started{0};
  const int before = thread_count();
  ASSERT_GE(before, 1);
  std::vector<std::thread> threads;
  std::vector<std::atomic<pid_t>> ids(extra);
  for (int i = 0; i < extra; ++i) {
    threads.emplace_back([&, i] {
      ids[static_cast<std::size_t>(i)].store(thread_id());
      started.fetch_add(1);
      while (!stop.load()) ::poll(nullptr, 0, 1);
    });
  }
  while (started.load() < extra) std::this_thread::yield();
  EXPECT_EQ(thread_count(), before + extra);
  std::vector<pid_t> listed(1000);
  const int count = list_threads(listed);
  EXPECT_EQ(count, before + extra);
  listed.resize(static_cast<std::size_t>(count));
  for (const auto& id : ids) {
    EXPECT_NE(std::find(listed.begin(), listed.end(), id.load()), listed.end());
  }
  std::vector<pid_t> few(10);
  EXPECT_EQ(list_threads(few), before + extra);
  stop.store(true);
  for (auto& t : threads) t.join();
}

TEST(ProcTest, ResidentMemoryFollowsTouches) {
  constexpr std::size_t size = std::size_t{64} << 20;
  const mapping m = reserve(size, page_size());
  const std::uint64_t before = resident_bytes();
  ASSERT_GT(before, 0u);
  for (std::size_t i = 0; i < size; i += page_size()) static_cast<volatile char*>(m.address)[i] = 1;
  EXPECT_GE(resident_bytes(), before + size * 9 / 10);
  release(m.address, size);
  EXPECT_LT(resident_bytes(), before + size / 10);
}

TEST(ProcTest, MappingsAreCounted) {
  const std::size_t page = page_size();
  const mapping m = reserve(200 * page, page);
  const std::size_t before = mapping_count();
  for (std::size_t i = 1; i < 200; i += 2) protect_none(static_cast<char*>(m.address) + i * page, page);
  EXPECT_GE(mapping_count(), before + 190);
  release(m.address, 200 * page);
}

TEST(ProcTest, FailuresAreToldAndNotGuessed) {
  char buffer[16];
  EXPECT_EQ(read_file("/nonexistent/file", buffer, sizeof buffer), -ENOENT);
  if (!fault_injection) return;
  for (const call what : {call::open, call::read}) {
    const scoped_fault fault(what, EIO);
    EXPECT_EQ(read_file("/proc/self/statm", buffer, sizeof buffer), -EIO);
    EXPECT_EQ(resident_bytes(), 0u);
    EXPECT_EQ(page_table_bytes(), 0u);
    EXPECT_EQ(mapping_count(), 0u);
  }
  {
    const scoped_fault fault(call::getdents, EIO);
    EXPECT_EQ(list_threads({}), -EIO);
  }
  {
    const scoped_fault fault(call::stat, EACCES);
    EXPECT_EQ(thread_count(), list_threads({})) << "there is another way";
  }
}

}  // namespace
}  // namespace tuco::inline v1::os
