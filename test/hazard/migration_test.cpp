// SPDX-License-Identifier: Apache-2.0
// VARIANTS: O0 O2 O3 PIC LTO
// H1, H2, H3: what a compiler knows of the thread it was on.
//
// Danger      __errno_location() and pthread_self() are declared const, and the address of a thread_local
//             is a constant to the compiler: it keeps them over a call that parks, and goes on with
//             another thread's errno, identity or variable.
// Mitigation  H1, H2: include/tuco/compat, first on the include path of whoever uses tuco::tuco, declares
//             both functions without the promise. errno itself travels (sched/switch.cpp).
//             H3: all thread-local state of the runtime is behind arch/thread_slot.hpp, volatile
//             assembly; scripts/check_bans.py keeps thread_local out. Users: `launder` below.
//
// In each test all of the function that reads before and after the park is in this file, for the
// optimizer to see.
#include <errno.h>
#include <pthread.h>

#include <thread>

#include "arch/thread_slot.hpp"
#include "hazard/away.hpp"
#include "sched/worker.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class Migration : public runtime_test {};
TUCO_PROCESSORS(Migration);

constexpr int rounds = 10;  // in which the visitor came to the thread that was left

// With the system's headers the visitor's 22 is read, and overwritten.
TUCO_TEST(Migration, ErrnoIsThatOfTheThreadThatRunsUsNow) {
  for (int i = 0; i < rounds;) {
    int visitor_saw = 0;
    errno = 11;
    away trip([] { errno = 22; }, [&] { visitor_saw = errno; });
    const int travelled = errno;
    errno = 33;
    trip.end();
    if (!trip.visited()) continue;
    ++i;
    EXPECT_EQ(travelled, 11) << "read on the thread that was left, or did not travel";
    EXPECT_EQ(visitor_saw, 22) << "written on the thread that was left";
  }
}

// Failing calls set the errno that is read behind them, on whatever thread.
TUCO_TEST(Migration, ErrnoOfACallAfterTheMoveIsSeen) {
  for (int i = 0; i < rounds; ++i) {
    EXPECT_EQ(::close(-1), -1);
    const int before = errno;
    away trip([] { errno = 0; });
    EXPECT_EQ(::access("/nowhere", F_OK), -1);
    const int after = errno;
    EXPECT_EQ(before, EBADF);
    EXPECT_EQ(after, ENOENT);
  }
}

TUCO_TEST(Migration, ErrnoTravelsWhileOthersChangeTheirs) {
  std::atomic<bool> stop{false};
  auto noise = spawn([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      errno = 99;
      tuco::yield();
    }
  });
  errno = 44;
  for (int i = 0; i < 1000; ++i) {
    tuco::yield();
    const int now = errno;
    ASSERT_EQ(now, 44);
    errno = 44;  // the assertion may have changed it
  }
  stop.store(true);
  noise.join();
}

// With the system's headers both say that nothing has changed.
TUCO_TEST(Migration, TheThreadsIdIsThatOfTheThreadThatRunsUsNow) {
  for (int i = 0; i < rounds;) {
    std::thread::id visitor;
    pthread_t visitor_self{};
    const std::thread::id before = std::this_thread::get_id();
    const pthread_t self_before = pthread_self();
    away trip([&] {
      visitor = std::this_thread::get_id();
      visitor_self = pthread_self();
    });
    const std::thread::id after = std::this_thread::get_id();
    const pthread_t self_after = pthread_self();
    if (!trip.visited()) continue;
    ++i;
    EXPECT_EQ(before, visitor);
    EXPECT_NE(after, visitor);
    EXPECT_TRUE(pthread_equal(self_before, visitor_self));
    EXPECT_FALSE(pthread_equal(self_after, visitor_self));
  }
}

// As a C++ thread_local it names the worker that was left, with clang and -O2 -fPIC.
TUCO_TEST(Migration, TheThreadSlotIsThatOfTheThreadThatRunsUsNow) {
  for (int i = 0; i < rounds; ++i) {
    const auto* before = static_cast<const sched::worker*>(arch::thread_slot());
    EXPECT_EQ(before->tid, ::gettid());
    const away trip;
    const auto* after = static_cast<const sched::worker*>(arch::thread_slot());
    EXPECT_NE(after, before);
    EXPECT_EQ(after->tid, ::gettid());
  }
}

// What docs/design/hazards.md tells users to do with thread-locals of their own: noinline alone is not
// enough, the address must pass through assembly.
[[gnu::noinline]] int& mine() {
  thread_local int value = 0;
  int* launder = &value;
  asm volatile("" : "+r"(launder));
  return *launder;
}

// Without the asm line the address is kept, with -O2 -fPIC.
TUCO_TEST(Migration, ALaunderedThreadLocalIsThatOfTheThreadThatRunsUsNow) {
  for (int i = 0; i < rounds;) {
    int* of_visitor = nullptr;
    int* before = &mine();
    mine() = 1;
    away trip([&] { of_visitor = &mine(); });
    int* after = &mine();
    mine() = 2;
    if (!trip.visited()) continue;
    ++i;
    EXPECT_EQ(before, of_visitor);
    EXPECT_NE(after, of_visitor);
    EXPECT_EQ(*of_visitor, 1) << "written on the thread that was left";
  }
}

}  // namespace
}  // namespace tuco
