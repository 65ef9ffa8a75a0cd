// SPDX-License-Identifier: Apache-2.0
// stack_pool_test.cpp - the promises of task/stack_pool.hpp but for guards: stack_guard_test.cpp.
#include "task/stack_cache.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "os/fault.hpp"
#include "os/memory.hpp"
#include "os/proc.hpp"

namespace tuco::inline v1::task {
namespace {

constexpr std::size_t page = 4096;

volatile char* at(std::uintptr_t address) { return reinterpret_cast<volatile char*>(address); }

// As a goroutine would: from the top down.
void touch(const stack& s, std::size_t bytes) {
  for (std::size_t depth = 1; depth < bytes && s.top() - depth >= s.low; depth += page) {
    *at(s.top() - depth) = 1;
  }
}

// Shadow memory counts as ours, and dwarfs what stacks take.
#ifdef TUCO_BASE_ASAN
#define TUCO_SKIP_WITH_ASAN() GTEST_SKIP() << "AddressSanitizer's shadow memory is in the way"
#else
#define TUCO_SKIP_WITH_ASAN() static_cast<void>(0)
#endif

class StackPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (os::page_size() != page) GTEST_SKIP() << "written for pages of 4 KiB";
  }
  stack must_allocate(unsigned size_class) {
    const stack s = pool.allocate(size_class, why);
    EXPECT_TRUE(s) << (why.text ? why.text : "");
    return s;
  }
  stack_pool pool;
  stack_failure why;
};

TEST_F(StackPoolTest, RequestsAreRoundedUpToAClass) {
  EXPECT_EQ(stack_class_for(0), 0u);
  EXPECT_EQ(stack_class_for(1), 0u);
  EXPECT_EQ(stack_class_for(16 << 10), 0u);
  EXPECT_EQ(stack_class_for((16 << 10) + 1), 1u);
  EXPECT_EQ(slot_bytes(stack_class_for(200'000)), 256u << 10);
  EXPECT_EQ(default_stack_class, stack_class_for(256 << 10));
  EXPECT_EQ(stack_class_for(64 << 20), stack_class_count - 1);
  EXPECT_EQ(stack_class_for((64 << 20) + 1), stack_class_count);
  EXPECT_EQ(stack_class_for(SIZE_MAX), stack_class_count);
}

TEST_F(StackPoolTest, EveryClassGivesAWritableStackOfItsSize) {
  for (unsigned c = 0; c < stack_class_count; ++c) {
    const stack s = must_allocate(c);
    ASSERT_TRUE(s);
    EXPECT_EQ(s.size(), slot_bytes(c) - guard_bytes(c));
    EXPECT_EQ(stack_class_of(s), c);
    EXPECT_EQ(s.top() % 64, 0u);
    EXPECT_GE(s.high - s.top(), 64u);
    EXPECT_LT(s.high - s.top(), 1024u);
    *at(s.low) = 1;
    touch(s, s.size());
    pool.release(s);
  }
}

TEST_F(StackPoolTest, ATooLargeClassIsRefusedWithAWord) {
  stack_cache cache(pool);
  EXPECT_FALSE(cache.allocate(stack_class_count, why));
  EXPECT_EQ(why.error, EINVAL);
  EXPECT_NE(std::string(why.text).find("64 MiB"), std::string::npos);
  EXPECT_FALSE(pool.allocate(stack_class_count + 7, why));
}

TEST_F(StackPoolTest, StacksInUseAreDisjoint) {
  std::vector<stack> all;
  for (int i = 0; i < 600; ++i) all.push_back(must_allocate(static_cast<unsigned>(i % 4)));
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.low < b.low; });
  for (std::size_t i = 1; i < all.size(); ++i) {
    ASSERT_LE(all[i - 1].high + guard_bytes(stack_class_of(all[i])), all[i].low);
  }
  for (const stack& s : all) pool.release(s);
}

TEST_F(StackPoolTest, TopsAreSpreadOverTheCacheSets) {
  std::vector<stack> all;
  std::set<std::uintptr_t> colours;
  for (int i = 0; i < 100; ++i) {
    all.push_back(must_allocate(default_stack_class));
    colours.insert(all.back().top() % page);
  }
  EXPECT_EQ(colours.size(), 15u);
  for (const stack& s : all) pool.release(s);
}

TEST_F(StackPoolTest, AShallowStackTakesOnePage) {
  const stack s = must_allocate(default_stack_class);
  std::memset(reinterpret_cast<void*>(s.top() - 2048), 1, 2048);
  EXPECT_EQ(high_water(s), page);
  pool.release(s);
}

TEST_F(StackPoolTest, HighWaterIsTheDeepestTouch) {
  for (const unsigned c : {default_stack_class, stack_class_count - 1}) {
    const stack s = must_allocate(c);
    *at(s.high - 100'000) = 1;
    const std::size_t depth = high_water(s);
    EXPECT_GE(depth, 100'000u);
    EXPECT_LT(depth, 100'000u + page);
    pool.release(s);
  }
}

TEST_F(StackPoolTest, TheCacheHandsOutTheStackThatCameLast) {
  stack_cache cache(pool);
  const stack a = cache.allocate(default_stack_class, why);
  const stack b = cache.allocate(default_stack_class, why);
  cache.release(a);
  cache.release(b);
  EXPECT_EQ(cache.allocate(default_stack_class, why).high, b.high);
  EXPECT_EQ(cache.allocate(default_stack_class, why).high, a.high);
  cache.release(a);
  cache.release(b);
}

TEST_F(StackPoolTest, ThePoolPrefersStacksThatHavePages) {
  std::vector<stack> all;
  for (int i = 0; i < 40; ++i) all.push_back(must_allocate(default_stack_class));
  const stack warm = all[20];
  touch(warm, 1);
  pool.release(warm);
  EXPECT_EQ(must_allocate(default_stack_class).high, warm.high);
  for (const stack& s : all) pool.release(s);
}

TEST_F(StackPoolTest, CachesAreBounded) {
  {
    stack_cache cache(pool);
    std::vector<stack> all;
    for (int i = 0; i < 500; ++i) all.push_back(cache.allocate(default_stack_class, why));
    for (const stack& s : all) cache.release(s);
    const auto kept = pool.statistics();
    EXPECT_LE(kept.slots - kept.free_slots, stack_cache::capacity_of(default_stack_class));
  }
  const auto left = pool.statistics();
  EXPECT_EQ(left.slots, left.free_slots) << "the cache's end lost stacks";
  EXPECT_EQ(stack_cache::capacity_of(stack_class_count - 1), 1u);
}

TEST_F(StackPoolTest, FindKnowsTheStackOfAnAddress) {
  for (unsigned c = 0; c < stack_class_count; c += 3) {
    const stack s = must_allocate(c);
    for (const std::uintptr_t address : {s.low, s.high - 1, s.top(), s.low - 1, s.low - guard_bytes(c)}) {
      const stack found = pool.find(address);
      EXPECT_EQ(found.low, s.low);
      EXPECT_EQ(found.high, s.high);
      EXPECT_EQ(found.top(), s.top());
    }
    pool.release(s);
  }
  int local = 0;
  EXPECT_FALSE(pool.find(reinterpret_cast<std::uintptr_t>(&local)));
  EXPECT_FALSE(pool.find(0));
  EXPECT_FALSE(pool.find(UINTPTR_MAX));
}

TEST_F(StackPoolTest, CanariesTellWhoWroteOutside) {
  pool.configure({.low_canary = true});
  const stack s = must_allocate(default_stack_class);
  EXPECT_TRUE(check_canary(s, true));
  auto* low = reinterpret_cast<std::uint64_t*>(s.low);
  const std::uint64_t good = *low;
  *low = 0;
  EXPECT_FALSE(check_canary(s, true));
  EXPECT_TRUE(check_canary(s, false));
  *low = good;
  *reinterpret_cast<std::uint64_t*>(s.high - 8) += 1;
  EXPECT_FALSE(check_canary(s, true));
  EXPECT_FALSE(check_canary(s, false));
  pool.release(s);
  // A canary that was overwritten does not accuse the next tenant.
  const stack again = must_allocate(default_stack_class);
  EXPECT_TRUE(check_canary(again, true));
  pool.release(again);
}

// -- what goes back to the system

TEST_F(StackPoolTest, AllOfASpikeGoesBack) {
  TUCO_SKIP_WITH_ASAN();
  constexpr std::size_t spike = 20'000;
  std::vector<stack> all(spike);
  stack_cache cache(pool);
  const std::uint64_t resident = os::resident_bytes();
  const std::uint64_t tables = os::page_table_bytes();
  for (stack& s : all) {
    s = cache.allocate(default_stack_class, why);
    ASSERT_TRUE(s);
    touch(s, 1);
  }
  const std::uint64_t peak = os::resident_bytes() - resident;
  const std::uint64_t peak_tables = os::page_table_bytes() - tables;
  EXPECT_GE(peak, spike * page);
  EXPECT_GE(peak_tables, spike * page / 8 * 9 / 10);
  for (const stack& s : all) cache.release(s);
  const std::uint64_t left = os::resident_bytes();
  const std::uint64_t left_tables = os::page_table_bytes();
  EXPECT_LT(left < resident ? 0 : left - resident, peak / 20);
  EXPECT_LT(left_tables < tables ? 0 : left_tables - tables, peak_tables / 20);
  EXPECT_LE(pool.statistics().arenas, 4u);  // idle, and what the cache holds
}

// A few that live on, scattered, must not hold the rest: page tables are given back by blocks of 2 MiB.
TEST_F(StackPoolTest, SurvivorsHoldLittle) {
  TUCO_SKIP_WITH_ASAN();
  constexpr std::size_t spike = 40'000;
  constexpr std::size_t apart = 100;
  std::vector<stack> all(spike);
  stack_cache cache(pool);
  const std::uint64_t resident = os::resident_bytes();
  const std::uint64_t tables = os::page_table_bytes();
  for (stack& s : all) {
    s = cache.allocate(default_stack_class, why);
    ASSERT_TRUE(s);
    touch(s, 1);
  }
  const std::uint64_t peak = os::resident_bytes() - resident;
  const std::uint64_t peak_tables = os::page_table_bytes() - tables;
  for (std::size_t i = 0; i < spike; ++i) {
    if (i % apart != 0) cache.release(all[i]);
  }
  const std::uint64_t left = os::resident_bytes();
  const std::uint64_t left_tables = os::page_table_bytes();
  EXPECT_LT(left < resident ? 0 : left - resident, peak / 10);
  // A block has 8 slots: at most 8 of 100 hold a survivor. And some 4096 idle slots may keep theirs.
  EXPECT_LT(left_tables < tables ? 0 : left_tables - tables, peak_tables * 30 / 100);
  for (std::size_t i = 0; i < spike; i += apart) cache.release(all[i]);
}

TEST_F(StackPoolTest, AStackThatWentDeepIsTrimmedWhenIdle) {
  TUCO_SKIP_WITH_ASAN();
  std::vector<stack> all;
  for (int i = 0; i < 100; ++i) all.push_back(must_allocate(stack_class_for(1 << 20)));
  const std::uint64_t before = os::resident_bytes();
  for (const stack& s : all) touch(s, s.size());
  const std::uint64_t peak = os::resident_bytes() - before;
  ASSERT_GT(peak, 90u << 20);
  for (const stack& s : all) pool.release(s);
  const std::uint64_t left = os::resident_bytes();
  EXPECT_LT(left < before ? 0 : left - before, peak / 8);
}

TEST_F(StackPoolTest, TrimLeavesNothing) {
  std::vector<stack> all;
  for (int i = 0; i < 700; ++i) {
    all.push_back(must_allocate(default_stack_class));
    touch(all.back(), 1);
  }
  for (int i = 0; i < 350; ++i) {
    pool.release(all.back());
    all.pop_back();
  }
  pool.trim();
  EXPECT_EQ(pool.statistics().idle_dirty, 0u);
  for (const stack& s : all) pool.release(s);
  pool.trim();
  EXPECT_EQ(pool.statistics().arenas, 0u);
  EXPECT_FALSE(pool.find(all[0].low));
}

TEST_F(StackPoolTest, RecycledStacksServeAfterTheirPagesWentBack) {
  pool.configure({.idle_stacks = 0, .idle_slots = 0});
  const stack keep = must_allocate(default_stack_class);
  for (int round = 0; round < 3; ++round) {
    std::vector<stack> all;
    for (int i = 0; i < 1000; ++i) {
      all.push_back(must_allocate(default_stack_class));
      touch(all.back(), 3 * page);
    }
    for (const stack& s : all) pool.release(s);
    ASSERT_EQ(pool.statistics().idle_dirty, 0u);
  }
  pool.release(keep);
}

TEST_F(StackPoolTest, AHundredThousandStacksTakeFewMappings) {
  TUCO_SKIP_WITH_ASAN();
  if (!os::guard_install_works()) GTEST_SKIP() << "this kernel's guards take mappings";
  constexpr std::size_t count = 100'000;
  std::vector<stack> all(count);
  const std::size_t before = os::mapping_count();
  for (stack& s : all) {
    s = pool.allocate(default_stack_class, why);
    ASSERT_TRUE(s) << why.text;
  }
  EXPECT_LT(os::mapping_count(), before + 50);
  for (const stack& s : all) pool.release(s);
  EXPECT_LT(os::mapping_count(), before + 50);
}

TEST_F(StackPoolTest, StacksCarryTheirNameInMaps) {
  const stack s = must_allocate(default_stack_class);
  const os::mapping probe = os::reserve(page, page);
  os::name_region(probe.address, page, "tuco probe");
  std::string maps;
  if (std::FILE* f = std::fopen("/proc/self/maps", "r")) {
    char buffer[4096];
    while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, f)) maps.append(buffer, n);
    std::fclose(f);
  }
  os::release(probe.address, page);
  if (maps.find("[anon:tuco probe]") == std::string::npos) {
    GTEST_SKIP() << "this kernel does not name anonymous memory";
  }
  EXPECT_NE(maps.find("[anon:tuco stacks 256K]"), std::string::npos);
  pool.release(s);
}

// -- faults

class StackPoolFaultTest : public StackPoolTest {
 protected:
  void SetUp() override {
    if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
    StackPoolTest::SetUp();
  }
};

TEST_F(StackPoolFaultTest, NoAddressSpaceIsAnErrorWithAText) {
  {
    const os::scoped_fault fault(os::call::mmap, ENOMEM);
    EXPECT_FALSE(pool.allocate(default_stack_class, why));
    EXPECT_EQ(why.error, ENOMEM);
    EXPECT_NE(std::string(why.text).find("memory"), std::string::npos);
  }
  pool.release(must_allocate(default_stack_class));
}

TEST_F(StackPoolFaultTest, PagesThatCannotBeGivenBackStayUsable) {
  std::vector<stack> all;
  for (int i = 0; i < 1000; ++i) all.push_back(must_allocate(default_stack_class));
  {
    const os::scoped_fault fault(os::call::madvise, EINVAL);
    for (const stack& s : all) pool.release(s);
    EXPECT_GT(fault.hits(), 0u);
  }
  for (stack& s : all) {
    s = must_allocate(default_stack_class);
    touch(s, 2 * page);
  }
  for (const stack& s : all) pool.release(s);
}

TEST_F(StackPoolFaultTest, AFailedResetLosesAddressSpaceAndNothingElse) {
  pool.configure({.idle_stacks = 0, .idle_slots = 0});
  std::vector<stack> all;
  for (int i = 0; i < 1000; ++i) {
    all.push_back(must_allocate(default_stack_class));
    touch(all.back(), 1);
  }
  {
    const os::scoped_fault fault(os::call::mmap, ENOMEM);
    for (std::size_t i = 1; i < all.size(); ++i) pool.release(all[i]);
    EXPECT_GT(fault.hits(), 0u);
  }
  std::set<std::uintptr_t> seen{all[0].high};
  for (std::size_t i = 1; i < all.size(); ++i) {
    all[i] = must_allocate(default_stack_class);
    EXPECT_TRUE(seen.insert(all[i].high).second);
    touch(all[i], 1);
  }
  for (const stack& s : all) pool.release(s);
}

TEST_F(StackPoolFaultTest, AFailedUnmapKeepsNoPages) {
  TUCO_SKIP_WITH_ASAN();
  std::vector<stack> all;
  const std::uint64_t before = os::resident_bytes();
  for (int i = 0; i < 5000; ++i) {
    all.push_back(must_allocate(default_stack_class));
    touch(all.back(), 1);
  }
  const std::uint64_t peak = os::resident_bytes() - before;
  const os::scoped_fault fault(os::call::munmap, ENOMEM);
  for (const stack& s : all) pool.release(s);
  EXPECT_GT(fault.hits(), 0u);
  const std::uint64_t left = os::resident_bytes();
  EXPECT_LT(left < before ? 0 : left - before, peak / 4);
}

// -- many threads

// Each stack in use is written at both ends with its user's mark, passed on to other threads to be
// released there, and must still hold the mark then: it was nobody else's meanwhile.
TEST_F(StackPoolTest, StacksAreNeverSharedUnderLoad) {
  pool.configure({.idle_stacks = 32, .idle_slots = 64});
  struct owned {
    stack s;
    std::uint64_t mark;
  };
  std::mutex lock;
  std::deque<owned> passing;
  std::atomic<int> left{3};
  std::atomic<std::uint64_t> errors{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      stack_cache cache(pool);
      std::mt19937 random(t + 1);
      stack_failure failure;
      std::vector<owned> mine;
      std::uint64_t mark = (t + 1) * 1'000'000'000ull;
      const auto finish = [&](const owned& o) {
        if (*reinterpret_cast<volatile std::uint64_t*>(o.s.top() - 8) != o.mark ||
            *reinterpret_cast<volatile std::uint64_t*>(o.s.low) != o.mark ||
            !check_canary(o.s, false)) {
          errors.fetch_add(1);
        }
        cache.release(o.s);
      };
      for (int step = 0; step < 400; ++step) {
        const std::size_t burst = random() % 120;
        for (std::size_t i = 0; i < burst; ++i) {
          const unsigned c = random() % 10 == 0 ? static_cast<unsigned>(random() % 7)
                                                : default_stack_class;
          const stack s = cache.allocate(c, failure);
          if (!s) {
            errors.fetch_add(1);
            continue;
          }
          ++mark;
          *reinterpret_cast<volatile std::uint64_t*>(s.top() - 8) = mark;
          *reinterpret_cast<volatile std::uint64_t*>(s.low) = mark;
          mine.push_back({s, mark});
        }
        std::shuffle(mine.begin(), mine.end(), random);
        const std::size_t keep = random() % 4 == 0 ? 0 : mine.size() / 2;
        while (mine.size() > keep) {
          if (random() % 3 == 0) {
            const std::lock_guard hold(lock);
            passing.push_back(mine.back());
          } else {
            finish(mine.back());
          }
          mine.pop_back();
        }
        std::vector<owned> taken;
        {
          const std::lock_guard hold(lock);
          while (!passing.empty() && taken.size() < 50) {
            taken.push_back(passing.front());
            passing.pop_front();
          }
        }
        for (const owned& o : taken) finish(o);
      }
      for (const owned& o : mine) finish(o);
      left.fetch_sub(1);
    });
  }
  while (left.load() != 0) {
    pool.trim();
    std::this_thread::yield();
  }
  for (auto& t : threads) t.join();
  for (const owned& o : passing) pool.release(o.s);
  EXPECT_EQ(errors.load(), 0u);
  const auto s = pool.statistics();
  EXPECT_EQ(s.slots, s.free_slots);
  pool.trim();
  EXPECT_EQ(pool.statistics().arenas, 0u);
}

#ifdef TUCO_BASE_ASAN
TEST_F(StackPoolTest, AddressSanitizerSeesTheUseOfARetiredStack) {
  const stack s = must_allocate(default_stack_class);
  touch(s, 1);
  pool.release(s);
  EXPECT_DEATH(*at(s.top() - 16) = 1, "use-after-poison");
}
#endif

}  // namespace
}  // namespace tuco::inline v1::task
