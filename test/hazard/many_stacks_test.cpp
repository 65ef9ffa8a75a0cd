// SPDX-License-Identifier: Apache-2.0
// H12: the guards of many stacks.
//
// Danger      A guard made by mprotect takes two of the 65,530 mappings that a process may have: the end is
//             at 32,745 goroutines.
// Mitigation  MADV_GUARD_INSTALL, which takes none. Where the kernel has no such thing, or refuses it
//             because memory is locked, mprotect, until vm.max_map_count is near: then an error, and
//             never a stack without a guard (task/stack_pool.hpp).
// Below the runtime: src/task/stack_guard_test.cpp.
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>

#include <tuco/chan.hpp>

#include "base/sanitizer.hpp"
#include "fixture/runtime_test.hpp"
#include "os/memory.hpp"
#include "os/proc.hpp"
#include "task/stack_pool.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class ManyStacks : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
    GTEST_SKIP() << "sanitizers make a shadow of each stack, with mappings of their own";
#endif
  }
};

/// Starts goroutines that park, `n` of them or until go() refuses. @return How many were started.
std::size_t park_many(std::size_t n, const chan<int>& end, std::size_t stack_size, std::string* refusal = nullptr) {
  for (std::size_t i = 0; i < n; ++i) {
    try {
      tuco::go({.stack_size = stack_size}, [end] { (void)end.recv(); });
    } catch (const std::system_error& e) {
      if (refusal == nullptr) throw;
      *refusal = e.what();
      return i;
    }
    if (i % 16 == 0) tuco::yield();
  }
  return n;
}

std::size_t parked() { return count_goroutines().waiting; }

TEST_F(ManyStacks, TakeFewMappings) {
  if (!os::guard_install_works()) GTEST_SKIP() << "this kernel has no light guards";
  const char* sizes = std::getenv("TUCO_STRESS");
  const std::size_t n = sizes != nullptr && std::strcmp(sizes, "full") == 0 ? 1'000'000 : 40'000;
  tuco::run([n] {
    const std::size_t before = os::mapping_count();
    const chan<int> end(0);
    ASSERT_EQ(park_many(n, end, 16 << 10), n);
    await([n] { return parked() == n; }, "all to park");
    // An arena of stacks is a mapping or two; the records of goroutines take some as well.
    EXPECT_LT(os::mapping_count(), before + n / 100);
    end.close();
    await([] { return goroutines().size() == 1; }, "all to end");
  });
}

// As on a kernel before 6.13. In a process of its own: the process's pool is told so before its first stack.
TEST_F(ManyStacks, WithMappedGuardsTheLimitIsAnErrorAndTheRestGoesOn) {
  EXPECT_EXIT(
      {
        task::the_stack_pool().configure(
            {.guards = task::guard_kind::mprotect, .spare_mappings = 1000, .max_mappings = 3000});
        tuco::run([] {
          const chan<int> end(0);
          for (int round = 0; round < 3; ++round) {
            std::string refusal;
            const std::size_t started = park_many(100'000, end, 16 << 10, &refusal);
            if (started < 500 || started > 2000) ::_exit(51);
            if (refusal.find("vm.max_map_count") == std::string::npos) ::_exit(52);
            // Those that have a stack live on, and the one that found none runs when there is one again.
            std::size_t ended = 0;
            while (goroutines().size() > 1) ended += end.try_send(1) == chan_status::ok, tuco::yield();
            if (ended != started) ::_exit(53);
          }
        }, {.procs = 2});
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "^$");
}

volatile int deep;
[[gnu::noinline]] int overflow_it(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  deep = depth;
  return depth < 0 ? 0 : overflow_it(depth + 1) + frame[0];
}

bool may_lock_memory() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  return ::geteuid() == 0 || limit.rlim_cur >= (std::size_t{1} << 30);
}

// Locked when it is known already that the kernel has light guards: it refuses them from then on.
TEST_F(ManyStacks, LockedMemoryHasGuardsToo) {
  if (!may_lock_memory()) GTEST_SKIP() << "may not lock memory";
  EXPECT_EXIT(
      {
        static_cast<void>(os::guard_install_works());
        if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) ::_exit(50);
        tuco::run([] {
          const chan<int> end(0);
          park_many(200, end, 16 << 10);
          tuco::go({.name = "victim", .stack_size = 16 << 10}, [] { overflow_it(0); });
          (void)end.recv();
        }, {.procs = 2, .stack_size = 16 << 10});
      },
      ::testing::ExitedWithCode(2), "\"victim\" stack overflow \\(16 KiB");
}

}  // namespace
}  // namespace tuco
