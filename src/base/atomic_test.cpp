// SPDX-License-Identifier: Apache-2.0
// The seam: full_fence() must forbid what release and acquire allow.
#include "base/atomic.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

namespace tuco::inline v1::base {
namespace {

// Store buffering, the litmus behind every sleep protocol: each side stores its own word and then
// loads the other's. With a full fence in between, at most one of them may miss the other's store.
// Rounds are numbered instead of reset, so the two threads need no further synchronisation.
TEST(FullFence, StoreIsSeenOrSees) {
  constexpr std::uint32_t rounds = 20'000;
  struct alignas(64) word {
    std::atomic<std::uint32_t> value{0};
  };
  word mine[2];
  word arrived[2];
  std::vector<std::uint32_t> seen[2] = {std::vector<std::uint32_t>(rounds),
                                        std::vector<std::uint32_t>(rounds)};

  auto side = [&](int me) {
    for (std::uint32_t r = 0; r < rounds; ++r) {
      arrived[me].value.store(r + 1, std::memory_order::release);
      while (arrived[1 - me].value.load(std::memory_order::acquire) <= r) std::this_thread::yield();
      mine[me].value.store(r + 1, std::memory_order::relaxed);
      full_fence();
      seen[me][r] = mine[1 - me].value.load(std::memory_order::relaxed);
    }
  };
  std::thread other(side, 1);
  side(0);
  other.join();
  for (std::uint32_t r = 0; r < rounds; ++r) {
    ASSERT_FALSE(seen[0][r] <= r && seen[1][r] <= r) << "both sides missed in round " << r;
  }
}

}  // namespace
}  // namespace tuco::inline v1::base
