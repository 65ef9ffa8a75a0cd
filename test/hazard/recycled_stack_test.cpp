// SPDX-License-Identifier: Apache-2.0
// H30: a stack serves one goroutine after the other.
//
// Danger      A pointer to a local of a goroutine that has ended points into the stack of another. Memory
//             that one goroutine used stays with the process for ever. A handle of one that has ended
//             means another.
// Mitigation  AddressSanitizer is told of every stack that nobody runs on (task/stack_pool.hpp, retire). Idle
//             stacks beyond a budget give their pages back. Ids are never used again.
#include <cstring>
#include <set>

#include <tuco/chan.hpp>

#include "base/sanitizer.hpp"
#include "fixture/runtime_test.hpp"
#include "os/proc.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class RecycledStack : public runtime_test {};
TUCO_PROCESSORS(RecycledStack);

#ifdef TUCO_BASE_ASAN

class RecycledStackDeath : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

volatile char* left_behind_local = nullptr;

// A variable that AddressSanitizer itself does not follow, as in code that is compiled without it.
[[gnu::noinline, gnu::no_sanitize_address]] void leave_a_pointer() {
  char local[64];
  left_behind_local = local;
  *left_behind_local = 1;
}

TEST_F(RecycledStackDeath, AddressSanitizerSeesAPointerToTheStackOfOneThatEnded) {
  EXPECT_DEATH(tuco::run([] {
                 auto g = spawn([] { leave_a_pointer(); });
                 g.join();
                 await([] { return goroutines().size() == 1; }, "it to end");
                 *left_behind_local = 2;
               }),
               "use-after-poison");
}

// And the next goroutine that gets the stack may use all of it.
TUCO_TEST(RecycledStack, TheNextOneMayUseAllOfIt) {
  for (int i = 0; i < 200; ++i) {
    auto g = spawn([i] {
      volatile char local[4096];
      for (std::size_t at = 0; at < sizeof local; at += 64) local[at] = static_cast<char>(i);
      return local[64] == static_cast<char>(i);
    });
    EXPECT_TRUE(g.join());
  }
}

#endif

[[gnu::noinline]] void use_much() {
  volatile char much[150 << 10];
  for (std::size_t at = 0; at < sizeof much; at += 4096) much[at] = 1;
}

// 2,000 stacks of which each was used to 150 KiB: 300 MB, of which nearly nothing stays.
TUCO_TEST(RecycledStack, MemoryOfDeepStacksGoesBack) {
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
  GTEST_SKIP() << "the sanitizer's own memory is counted along";
#else
  const std::size_t before = os::resident_bytes();
  const chan<int> end(0);
  for (int i = 0; i < 2000; ++i) {
    tuco::go([end] {
      use_much();
      (void)end.recv();
    });
  }
  await_parked(2000);
  EXPECT_GT(os::resident_bytes(), before + (std::size_t{250} << 20)) << "then there is nothing to give back";
  end.close();
  await([] { return goroutines().size() == 1; }, "all to end");
  EXPECT_LT(os::resident_bytes(), before + (std::size_t{100} << 20));
#endif
}

TUCO_TEST(RecycledStack, AnIdIsNeverUsedAgain) {
  std::set<goroutine_id> seen;
  for (int i = 0; i < 2000; ++i) {
    auto g = spawn([] { return this_goroutine::id(); });
    const goroutine_id id = g.id();
    EXPECT_EQ(g.join(), id);
    EXPECT_TRUE(seen.insert(id).second) << "a second goroutine " << id;
  }
  await([] { return goroutines().size() == 1; }, "all to end");
  for (const goroutine_id id : seen) ASSERT_FALSE(look_at(id).has_value());
}

}  // namespace
}  // namespace tuco
