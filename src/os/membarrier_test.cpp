// SPDX-License-Identifier: Apache-2.0
// membarrier_test.cpp - the promise of os/membarrier.hpp: a light and a heavy fence act like two full
// ones. Store buffering on real cores; without the fences the same loop sees both sides miss.
#include "os/membarrier.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "os/fault.hpp"

namespace tuco::inline v1::os {
namespace {

struct alignas(64) cell {
  std::atomic<std::uint32_t> stored{0};
  std::uint32_t seen = 0;
};

// Many instances of: light side a = 1; fence; read b.  Heavy side b = 1; fence; read a.
// The light side only waits until the heavy side is about to begin the same instance, which never
// waits: so one that loses its core costs a slice and not a round trip per instance.
// @return In how many of them both read 0.
template <class Light, class Heavy>
std::uint64_t both_missed_once(std::size_t count, Light light, Heavy heavy) {
  std::vector<cell> a(count), b(count);
  alignas(64) std::atomic<std::size_t> begun{0};
  std::thread other([&] {
    for (std::size_t i = 0; i < count; ++i) {
      for (int spins = 1; begun.load(std::memory_order_relaxed) <= i; ++spins) {
        if (spins % 1024 == 0) std::this_thread::yield();
      }
      a[i].stored.store(1, std::memory_order_relaxed);
      light();
      a[i].seen = b[i].stored.load(std::memory_order_relaxed);
    }
  });
  for (std::size_t i = 0; i < count; ++i) {
    begun.store(i + 1, std::memory_order_relaxed);
    // The other side hears of it a cache miss later. All delays around that are tried, so that in some
    // instances the two stores are made at the same moment.
    for (std::size_t delay = i % 300; delay != 0; --delay) asm volatile("" : "+r"(delay));
    b[i].stored.store(1, std::memory_order_relaxed);
    heavy();
    b[i].seen = a[i].stored.load(std::memory_order_relaxed);
  }
  other.join();
  std::uint64_t missed = 0;
  for (std::size_t i = 0; i < count; ++i) missed += a[i].seen == 0 && b[i].seen == 0;
  return missed;
}

// Several short runs rather than a long one: each begins with both threads fresh on their cores.
template <class Light, class Heavy>
std::uint64_t both_missed(Light light, Heavy heavy) {
  std::uint64_t missed = 0;
  for (int run = 0; run < 6; ++run) missed += both_missed_once(100'000, light, heavy);
  return missed;
}

class FenceTest : public ::testing::Test {
 protected:
  void SetUp() override { restart_membarrier(); }
  void TearDown() override { restart_membarrier(); }
};

TEST_F(FenceTest, LightAndHeavyNeverBothMiss) {
  if (!membarrier_works()) GTEST_SKIP() << "membarrier is refused here";
  EXPECT_EQ(both_missed([] { light_fence(); }, [] { heavy_fence(); }), 0u);
}

TEST_F(FenceTest, TheFallbackNeverBothMisses) {
  force_fence_fallback();
  EXPECT_FALSE(membarrier_works());
  EXPECT_EQ(both_missed([] { light_fence(); }, [] { heavy_fence(); }), 0u);
}

TEST_F(FenceTest, StartingTwiceIsStartingOnce) {
  const bool works = membarrier_works();
  start_membarrier();
  start_membarrier();
  EXPECT_EQ(membarrier_works(), works);
}

TEST_F(FenceTest, ARefusedRegistrationMakesLightFencesFull) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  for (const int error : {ENOSYS, EPERM, EINVAL}) {
    const scoped_fault fault(call::membarrier, error);
    restart_membarrier();
    EXPECT_FALSE(membarrier_works());
    heavy_fence();
    EXPECT_EQ(fault.hits(), 1u) << "it is not asked again";
  }
}

TEST_F(FenceTest, ARefusalWhileRunningTurnsToTheFallback) {
  if (!fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  if (!membarrier_works()) GTEST_SKIP() << "membarrier is refused here";
  {
    const scoped_fault fault(call::membarrier, EPERM, 1);
    heavy_fence();
    EXPECT_EQ(fault.hits(), 1u);
  }
  EXPECT_FALSE(membarrier_works());
  EXPECT_EQ(both_missed([] { light_fence(); }, [] { heavy_fence(); }), 0u);
}

}  // namespace
}  // namespace tuco::inline v1::os
