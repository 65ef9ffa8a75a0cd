// SPDX-License-Identifier: Apache-2.0
// Ten million goroutines, started from goroutines and from plain threads at the same time; and a
// million that live at once, after which the memory has gone back.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include <tuco/tuco.hpp>

#include "stress/stress.hpp"
#include "task/registry.hpp"

namespace tuco::test {
namespace {

class Spawn : public ::testing::TestWithParam<int> {};
TUCO_PROCESSORS(Spawn);

TEST_P(Spawn, FromInsideAndOutsideAtOnceEachRunsOnce) {
  constexpr std::uint64_t inside = 3;
  constexpr std::uint64_t outside = 3;
  // So many may be waiting for their turn: the storm is to be long, not wide. The other test is wide.
  constexpr std::uint64_t backlog = 50'000;
  const std::uint64_t each = stress_size(10'000'000, 300'000) / (inside + outside);
  tally ran;
  tally sum;
  const watchdog guard("spawn", ran);
  const auto start = [&](std::uint64_t i) {
    go([&, i] {
      sum.add(i);
      ran.add();
    });
  };
  run(
      [&] {
        std::atomic<std::uint64_t> started{0};
        std::vector<std::thread> threads;
        for (std::uint64_t t = 0; t < outside; ++t) {
          threads.emplace_back([&] {
            for (std::uint64_t i = 0; i < each; ++i) {
              start(i);
              if (++started % 256 == 0) {
                while (started - ran.total() > backlog) std::this_thread::yield();
              }
            }
          });
        }
        {
          crew all;
          for (std::uint64_t t = 0; t < inside; ++t) {
            all.go([&] {
              for (std::uint64_t i = 0; i < each; ++i) {
                start(i);
                if (++started % 256 == 0) {
                  while (started - ran.total() > backlog) yield();
                }
              }
            });
          }
        }
        for (std::thread& t : threads) t.join();
        while (ran.total() != (inside + outside) * each) yield();
        await([] { return count_goroutines().total() == 1; }, "all to end");
      },
      {.procs = GetParam()});
  EXPECT_EQ(sum.total(), (inside + outside) * (each * (each - 1) / 2));
}

TEST(SpawnSpike, MemoryGoesBackWhenAMillionHaveEnded) {
  const std::size_t count = stress_size(1'000'000, 100'000);
  tally progress;
  const watchdog guard("spike", progress);
  run([&] {
    belongings before;
    // The second spike must find what the first has left; nothing may grow from one to the next.
    for (int spike = 0; spike < 3; ++spike) {
      if (spike == 1) before = count_belongings();
      const chan<int> gate(0);
      wait_group all;
      all.add(static_cast<int>(count));
      for (std::size_t i = 0; i < count; ++i) {
        go([&, gate] {
          progress.add();
          EXPECT_FALSE(gate.recv());
          all.done();
        });
      }
      await([&] { return count_goroutines().waiting == count; }, "all to park");
      const belongings parked = count_belongings();
      EXPECT_GT(parked.resident, count * 4096);
      EXPECT_LT(parked.mappings, before.mappings + 1000) << "a stack must not cost a mapping";
      gate.close();
      all.wait();
      await([] { return count_goroutines().total() == 1; }, "all to end");
    }
    const belongings after = count_belongings();
    EXPECT_LT(after.resident, before.resident + (16 << 20));
    EXPECT_LE(after.mappings, before.mappings + 16);
    EXPECT_LT(task::the_registry().in_use(), 10'000u);
  });
}

}  // namespace
}  // namespace tuco::test
