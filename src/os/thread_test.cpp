// SPDX-License-Identifier: Apache-2.0
// thread_test.cpp - the promises of os/thread.hpp.
#include "os/thread.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "os/clock.hpp"
#include "os/fault.hpp"
#include "os/memory.hpp"
#include "os/proc.hpp"
#include "os/sleep.hpp"

namespace tuco::inline v1::os {
namespace {

// Runs `f` on a thread made by create_thread().
template <class F>
void on_thread(F f, std::size_t stack_size = 0) {
  pthread_t thread{};
  ASSERT_EQ(create_thread(
                [](void* argument) -> void* {
                  (*static_cast<F*>(argument))();
                  return nullptr;
                },
                &f, stack_size, thread),
            0);
  ASSERT_EQ(join_thread(thread), 0);
}

TEST(ThreadTest, BeginsWithAllSignalsBlocked) {
  sigset_t seen{};
  on_thread([&] { ::pthread_sigmask(SIG_SETMASK, nullptr, &seen); });
  for (const int signal : {SIGPROF, SIGURG, SIGTERM, SIGUSR1, SIGRTMIN + 1}) {
    EXPECT_EQ(sigismember(&seen, signal), 1) << signal;
  }
  sigset_t ours{};
  ::pthread_sigmask(SIG_SETMASK, nullptr, &ours);
  EXPECT_EQ(sigismember(&ours, SIGTERM), 0) << "the creator's mask was not restored";
}

TEST(ThreadTest, HasTheStackItAskedFor) {
  for (const std::size_t wanted : {std::size_t{1}, std::size_t{100'001}, std::size_t{1} << 20}) {
    std::size_t size = 0;
    on_thread(
        [&] {
          pthread_attr_t attributes;
          ::pthread_getattr_np(::pthread_self(), &attributes);
          ::pthread_attr_getstacksize(&attributes, &size);
          ::pthread_attr_destroy(&attributes);
        },
        wanted);
    EXPECT_GE(size, wanted);
  }
}

TEST(ThreadTest, ARefusedThreadIsAnError) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  const scoped_fault fault(call::thread_create, EAGAIN);
  pthread_t thread{};
  EXPECT_EQ(create_thread([](void*) -> void* { return nullptr; }, nullptr, 0, thread), -EAGAIN);
  sigset_t ours{};
  ::pthread_sigmask(SIG_SETMASK, nullptr, &ours);
  EXPECT_EQ(sigismember(&ours, SIGTERM), 0);
}

TEST(ThreadTest, TheNameIsCutToWhatTheKernelHolds) {
  char name[16] = {};
  on_thread([&] {
    set_thread_name("tuco worker number seventeen");
    ::prctl(PR_GET_NAME, name);
  });
  EXPECT_STREQ(name, "tuco worker num");
}

TEST(ThreadTest, SignalsReachOneThread) {
  static std::atomic<pid_t> receiver{0};
  struct sigaction action {};
  action.sa_handler = [](int) { receiver.store(thread_id()); };
  struct sigaction before {};
  ::sigaction(SIGUSR1, &action, &before);
  std::atomic<pid_t> id{0};
  std::atomic<bool> stop{false};
  std::thread other([&] {
    id.store(thread_id());
    while (!stop.load()) std::this_thread::yield();
  });
  while (id.load() == 0) std::this_thread::yield();
  EXPECT_EQ(signal_thread(id.load(), SIGUSR1), 0);
  while (receiver.load() == 0) std::this_thread::yield();
  EXPECT_EQ(receiver.load(), id.load());
  stop.store(true);
  other.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(ThreadTest, AThreadThatEndedIsNotFound) {
  pid_t id = 0;
  on_thread([&] { id = thread_id(); });
  // The kernel may take a moment after join to forget it; an id is not reused at once.
  while (signal_thread(id, 0) == 0) std::this_thread::yield();
  EXPECT_EQ(signal_thread(id, 0), -ESRCH);
  EXPECT_LT(thread_cpu_ns(id), 0);
}

TEST(ThreadTest, TheCpuClockOfAnotherThreadMovesWhileItRuns) {
  std::atomic<pid_t> id{0};
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    id.store(thread_id());
    while (!stop.load()) {
    }
  });
  while (id.load() == 0) std::this_thread::yield();
  const std::int64_t before = thread_cpu_ns(id.load());
  ASSERT_GE(before, 0);
  while (thread_cpu_ns(id.load()) <= before) std::this_thread::yield();
  stop.store(true);
  busy.join();
}

TEST(ThreadTest, TheCpuClockStandsWhileAThreadSleeps) {
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  std::atomic<pid_t> id{0};
  std::thread sleeper([&] {
    id.store(thread_id());
    char c;
    EXPECT_EQ(::read(pipe_ends[0], &c, 1), 0);
  });
  while (id.load() == 0) std::this_thread::yield();
  thread_probe probe;
  const bool asleep = probe.open(id.load()) == 0;
  while (asleep && probe.activity().what != thread_activity::kind::in_syscall) {
    std::this_thread::yield();
  }
  if (asleep) {
    const std::int64_t before = thread_cpu_ns(id.load());
    sleep_for(5'000'000);
    EXPECT_EQ(thread_cpu_ns(id.load()), before);
  }
  ::close(pipe_ends[1]);
  sleeper.join();
  ::close(pipe_ends[0]);
  if (!asleep) GTEST_SKIP() << "/proc does not tell when a thread sleeps";
}

TEST(SignalStackTest, HandlersRunOnItAndItEndsWithTheThread) {
  static std::atomic<std::uintptr_t> seen{0};
  struct sigaction action {};
  action.sa_handler = [](int) {
    char local = 0;
    seen.store(reinterpret_cast<std::uintptr_t>(&local));
  };
  action.sa_flags = SA_ONSTACK;
  struct sigaction before {};
  ::sigaction(SIGUSR2, &action, &before);
  on_thread([&] {
    // A sanitizer gives each thread a stack of its own; then there is nothing to install.
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    set_signal_mask({});
    signal_stack stack;
    ASSERT_EQ(install_signal_stack(stack), 0);
    ASSERT_NE(stack.base, nullptr);
    ASSERT_GE(stack.size, signal_stack_size());
    ::pthread_kill(::pthread_self(), SIGUSR2);
    const auto low = reinterpret_cast<std::uintptr_t>(stack.base);
#if !defined(__SANITIZE_ADDRESS__)
    EXPECT_GE(seen.load(), low);
    EXPECT_LT(seen.load(), low + stack.size);
#endif
    // The application's own is respected.
    signal_stack second;
    EXPECT_EQ(install_signal_stack(second), 0);
    EXPECT_EQ(second.base, nullptr);
    remove_signal_stack(second);
    remove_signal_stack(stack);
    stack_t now{};
    ::sigaltstack(nullptr, &now);
    EXPECT_NE(now.ss_flags & SS_DISABLE, 0);
    unsigned char page = 0;
    EXPECT_EQ(residency(reinterpret_cast<void*>(low), page_size(), &page), -ENOMEM) << "still mapped";
  });
  ::sigaction(SIGUSR2, &before, nullptr);
}

TEST(SignalStackTest, EachFailureIsReportedAndLeavesNothing) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  on_thread([] {
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    const std::size_t mappings = mapping_count();
    for (const call kind : {call::mmap, call::mprotect, call::sigaltstack}) {
      const scoped_fault fault(kind, ENOMEM, kind == call::sigaltstack ? 2 : 1);
      signal_stack stack;
      EXPECT_EQ(install_signal_stack(stack), -ENOMEM) << to_string(kind);
      EXPECT_EQ(stack.base, nullptr);
    }
    EXPECT_LE(mapping_count(), mappings + 1);
  });
}

TEST(ProcessorsTest, AffinityIsCounted) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(affinity_count(), CPU_COUNT(&before));
  on_thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(::sched_getcpu(), &one);
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(affinity_count(), 1);
  });
  EXPECT_GE(cpu_count(), affinity_count());
}

TEST(ProcessorsTest, UnknownAffinityCountsAllProcessors) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  for (const int error : {EINVAL, EPERM}) {
    const scoped_fault fault(call::affinity, error);
    EXPECT_EQ(affinity_count(), cpu_count());
  }
}

TEST(TimerSlackTest, IsSetAndReset) {
  on_thread([] {
    EXPECT_EQ(set_timer_slack(1), 0);
    EXPECT_EQ(::prctl(PR_GET_TIMERSLACK), 1);
    EXPECT_EQ(set_timer_slack(0), 0);
    EXPECT_GT(::prctl(PR_GET_TIMERSLACK), 1);
  });
}

}  // namespace
}  // namespace tuco::inline v1::os
