// SPDX-License-Identifier: Apache-2.0
// stack_guard_test.cpp - a stack that overflows ends the program at its guard and never reaches a
// neighbour: hazards H9, H12 and H13.
#include <alloca.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "arch/context.hpp"
#include "os/fault.hpp"
#include "os/memory.hpp"
#include "os/proc.hpp"
#include "os/thread.hpp"
#include "task/stack_pool.hpp"

namespace tuco::inline v1::task {
namespace {

volatile char* at(std::uintptr_t address) { return reinterpret_cast<volatile char*>(address); }

bool can_mlock_everything() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return ::geteuid() == 0 || limit.rlim_cur >= (std::size_t{1} << 30);
}

class StackGuardTest : public ::testing::TestWithParam<guard_kind> {
 protected:
  void SetUp() override {
    if (GetParam() == guard_kind::automatic && !os::guard_install_works()) {
      GTEST_SKIP() << "this kernel has no light guards";
    }
    pool.configure({.guards = GetParam()});
  }
  stack_pool pool;
  stack_failure why;
};
INSTANTIATE_TEST_SUITE_P(Kinds, StackGuardTest,
                         ::testing::Values(guard_kind::automatic, guard_kind::mprotect),
                         [](const auto& kind) {
                           return kind.param == guard_kind::automatic ? "light" : "mprotect";
                         });

TEST_P(StackGuardTest, EveryPageOfTheGuardKills) {
  for (const unsigned c : {0u, default_stack_class, stack_class_for(1 << 20)}) {
    const stack s = pool.allocate(c, why);
    ASSERT_TRUE(s);
    *at(s.low) = 1;
    for (std::size_t below = 1; below <= guard_bytes(c); below += os::page_size()) {
      ASSERT_TRUE(in_guard(s, s.low - below));
      EXPECT_DEATH(*at(s.low - below) = 1, "");
      EXPECT_DEATH(static_cast<void>(*at(s.low - below)), "");
    }
    EXPECT_FALSE(in_guard(s, s.low));
    EXPECT_FALSE(in_guard(s, s.low - guard_bytes(c) - 1));
    pool.release(s);
  }
}

TEST_P(StackGuardTest, AGuardSurvivesRecyclingAndReturnOfMemory) {
  pool.configure({.guards = GetParam(), .idle_stacks = 0, .idle_slots = 0});
  std::vector<stack> all;
  for (int i = 0; i < 300; ++i) {
    all.push_back(pool.allocate(default_stack_class, why));
    ASSERT_TRUE(all.back());
    *at(all.back().top() - 1) = 1;
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % 5 != 0) pool.release(all[i]);  // pages go, guards stay
  }
  pool.trim();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % 5 != 0) all[i] = pool.allocate(default_stack_class, why);
    ASSERT_TRUE(all[i]);
  }
  for (std::size_t i = 0; i < all.size(); i += 37) EXPECT_DEATH(*at(all[i].low - 1) = 1, "");
  for (const stack& s : all) pool.release(s);
}

TEST_P(StackGuardTest, MappedGuardsAreCountedAndGivenBack) {
  std::vector<stack> all;
  for (int i = 0; i < 1000; ++i) all.push_back(pool.allocate(default_stack_class, why));
  const std::size_t expected = GetParam() == guard_kind::mprotect ? 1000 : 0;
  EXPECT_EQ(pool.statistics().mapped_guards, expected);
  for (const stack& s : all) pool.release(s);
  pool.trim();
  EXPECT_EQ(pool.statistics().mapped_guards, 0u);
}

// -- overflows on the stack itself

stack running;
char* volatile escaped;  // keeps the optimizer from seeing that nobody looks

[[gnu::noinline]] void use(char* p) {
  escaped = p;
  *p = 1;
}

[[gnu::noinline]] std::size_t recurse(std::size_t depth) {
  char frame[200];
  use(frame);
  if (depth == SIZE_MAX) return 0;
  return recurse(depth + 1) + static_cast<std::size_t>(frame[0]);
}
[[gnu::noinline]] void huge_frame() {
  char frame[300 << 10];
  use(frame);
}
[[gnu::noinline]] void huge_alloca(std::size_t size) {
  use(static_cast<char*>(alloca(size)));
}
volatile std::size_t variable_size = 300 << 10;
void (*overflow)();

void report(int, siginfo_t* info, void*) {
  const bool hit = in_guard(running, reinterpret_cast<std::uintptr_t>(info->si_addr));
  const char text[] = "the guard was hit\n";
  if (hit) static_cast<void>(!::write(2, text, sizeof text - 1));
  ::_exit(hit ? 42 : 43);
}

[[noreturn]] void run_on(const stack& s, void (*what)()) {
  os::signal_stack alternate;
  stack_t none{};
  none.ss_flags = SS_DISABLE;
  ::sigaltstack(&none, nullptr);
  if (os::install_signal_stack(alternate) != 0) ::_exit(44);
  struct sigaction action {};
  action.sa_sigaction = &report;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, nullptr);
  running = s;
  overflow = what;
  arch::restart_stack(s.top(), [] {
    overflow();
    ::_exit(45);
  });
}

class StackOverflowTest : public StackGuardTest {};
INSTANTIATE_TEST_SUITE_P(Kinds, StackOverflowTest,
                         ::testing::Values(guard_kind::automatic, guard_kind::mprotect),
                         [](const auto& kind) {
                           return kind.param == guard_kind::automatic ? "light" : "mprotect";
                         });

#ifdef TUCO_BASE_ASAN
// Frames are not where the stack pointer is there, and test/hazard runs these with a whole runtime.
#define TUCO_SKIP_WITH_ASAN() GTEST_SKIP() << "AddressSanitizer moves frames off the stack"
#else
#define TUCO_SKIP_WITH_ASAN() static_cast<void>(0)
#endif

TEST_P(StackOverflowTest, RecursionHitsTheGuard) {
  TUCO_SKIP_WITH_ASAN();
  const stack s = pool.allocate(0, why);
  EXPECT_EXIT(run_on(s, [] { recurse(0); }), ::testing::ExitedWithCode(42), "the guard was hit");
}

// Compiled with -fstack-clash-protection, as all code that runs in goroutines should be: each page of
// a large frame is probed, so that it cannot jump over the guard.
TEST_P(StackOverflowTest, AHugeFrameHitsTheGuard) {
  TUCO_SKIP_WITH_ASAN();
  const stack s = pool.allocate(stack_class_for(64 << 10), why);
  EXPECT_EXIT(run_on(s, &huge_frame), ::testing::ExitedWithCode(42), "the guard was hit");
}

TEST_P(StackOverflowTest, AHugeAllocaHitsTheGuard) {
  TUCO_SKIP_WITH_ASAN();
  const stack s = pool.allocate(stack_class_for(64 << 10), why);
  EXPECT_EXIT(run_on(s, [] { huge_alloca(variable_size); }), ::testing::ExitedWithCode(42),
              "the guard was hit");
}

// -- never without a guard

class StackGuardLimitTest : public ::testing::Test {
 protected:
  stack_failure why;
};

TEST_F(StackGuardLimitTest, NearMaxMapCountAllocationFailsWithAClearText) {
  stack_pool pool({.guards = guard_kind::mprotect, .spare_mappings = 1000, .max_mappings = 3000});
  std::vector<stack> all;
  for (;;) {
    const stack s = pool.allocate(0, why);
    if (!s) break;
    all.push_back(s);
    ASSERT_LT(all.size(), 2000u) << "the limit was not kept";
  }
  EXPECT_GT(all.size(), 500u);
  EXPECT_EQ(why.error, ENOMEM);
  EXPECT_NE(std::string(why.text).find("vm.max_map_count"), std::string::npos);
  // Others go on: a slot that is given back serves again, with its guard.
  const stack last = all.back();
  pool.release(last);
  all.back() = pool.allocate(0, why);
  EXPECT_EQ(all.back().high, last.high);
  EXPECT_DEATH(*at(all.back().low - 1) = 1, "");
  for (const stack& s : all) pool.release(s);
  pool.trim();
  const stack again = pool.allocate(0, why);
  EXPECT_TRUE(again) << "mappings that were given back are not counted as such";
  pool.release(again);
}

// The kernel's own limit, with everything that a process needs besides: mappings for the rest of the
// program must be left.
TEST_F(StackGuardLimitTest, TheKernelsLimitLeavesMappingsForTheProgram) {
  if (os::max_mappings() > 200'000) GTEST_SKIP() << "vm.max_map_count is raised here";
  stack_pool pool({.guards = guard_kind::mprotect});
  std::vector<stack> all;
  for (;;) {
    const stack s = pool.allocate(0, why);
    if (!s) break;
    all.push_back(s);
  }
  EXPECT_GT(all.size(), os::max_mappings() / 4);
  EXPECT_EQ(why.error, ENOMEM);
  EXPECT_NE(std::string(why.text).find("vm.max_map_count"), std::string::npos);
  EXPECT_LT(os::mapping_count(), os::max_mappings() - 4000);
  for (const stack& s : all) pool.release(s);
}

TEST_F(StackGuardLimitTest, ARefusedMprotectIsAnErrorAndNoGuardlessStack) {
  if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  stack_pool pool({.guards = guard_kind::mprotect});
  const stack first = pool.allocate(0, why);
  ASSERT_TRUE(first);
  for (const int error : {ENOMEM, EACCES, EINVAL}) {
    // Beyond what is at hand with a guard already.
    std::vector<stack> some;
    const os::scoped_fault fault(os::call::mprotect, error);
    while (const stack s = pool.allocate(0, why)) some.push_back(s);
    EXPECT_EQ(why.error, error);
    EXPECT_EQ(fault.hits(), 1u);
    EXPECT_LT(some.size(), 16u);
    for (const stack& s : some) pool.release(s);
  }
  pool.release(first);
}

TEST_F(StackGuardLimitTest, RefusedLightGuardsFallBackToMprotect) {
  if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  if (!os::guard_install_works()) GTEST_SKIP() << "this kernel has no light guards";
  // EINVAL: locked memory. The others: a sandbox, put on while the program runs.
  for (const int error : {EINVAL, EPERM, ENOSYS, EACCES, EAGAIN}) {
    stack_pool pool;
    const os::scoped_fault fault(os::call::madvise, error);
    const stack s = pool.allocate(0, why);
    ASSERT_TRUE(s) << ::strerror(error) << ": " << why.text;
    EXPECT_GT(pool.statistics().mapped_guards, 0u);
    EXPECT_DEATH(*at(s.low - 1) = 1, "");
    pool.release(s);
  }
}

TEST_F(StackGuardLimitTest, LightGuardsWithoutMemoryAreAnError) {
  if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  if (!os::guard_install_works()) GTEST_SKIP() << "this kernel has no light guards";
  stack_pool pool;
  const os::scoped_fault fault(os::call::madvise, ENOMEM);
  EXPECT_FALSE(pool.allocate(0, why));
  EXPECT_EQ(why.error, ENOMEM);
  EXPECT_NE(std::string(why.text).find("no memory"), std::string::npos) << why.text;
  EXPECT_EQ(pool.statistics().mapped_guards, 0u);
}

// Locked memory takes no light guards (EINVAL); programs that lock all their memory still get theirs.
TEST_F(StackGuardLimitTest, ProgramsThatLockTheirMemoryHaveGuards) {
#ifdef TUCO_BASE_ASAN
  GTEST_SKIP() << "shadow memory is too large to lock";
#endif
  if (!can_mlock_everything()) GTEST_SKIP() << "may not lock memory";
  EXPECT_EXIT(
      {
        if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) ::_exit(50);
        stack_pool pool;
        stack_failure failure;
        const stack s = pool.allocate(default_stack_class, failure);
        if (!s || pool.statistics().mapped_guards == 0) ::_exit(51);
        *at(s.low) = 1;
        std::vector<stack> many;
        for (int i = 0; i < 1000; ++i) many.push_back(pool.allocate(0, failure));
        for (const stack& m : many) pool.release(m);  // nothing can be given back: no harm
        if (const stack again = pool.allocate(0, failure); !again) ::_exit(52);
        run_on(s, [] { *at(running.low - 1) = 1; });
      },
      ::testing::ExitedWithCode(42), "the guard was hit");
}

TEST_F(StackGuardLimitTest, ALimitOfAddressSpaceIsAnError) {
#if defined(TUCO_BASE_ASAN)
  GTEST_SKIP() << "AddressSanitizer needs the address space itself";
#endif
  EXPECT_EXIT(
      {
        rlimit limit;
        limit.rlim_cur = limit.rlim_max = std::size_t{1} << 30;
        ::setrlimit(RLIMIT_AS, &limit);
        stack_pool pool;
        stack_failure failure;
        std::size_t count = 0;
        while (pool.allocate(default_stack_class, failure)) ++count;
        ::_exit(count >= 1000 && failure.error == ENOMEM && failure.text != nullptr ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace tuco::inline v1::task
