// SPDX-License-Identifier: Apache-2.0
// The transitions of poll_word.hpp, one test per line of its table, and the race of an edge against a
// deadline on real threads. All schedules: test/model/poll_word_model.cpp.
#include "poll/poll_word.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace tuco::inline v1::poll {
namespace {

using word = poll_word<>;
constexpr std::uintptr_t someone = 0x1000;
constexpr std::uintptr_t with_deadline = someone | word::has_deadline;

auto wins = [](std::uintptr_t) { return true; };
auto loses = [](std::uintptr_t) { return false; };
auto no_pause = [] {};

TEST(PollWord, EdgeBeforeTheWaitIsConsumedByIt) {
  word w;
  EXPECT_EQ(w.notify(wins).goroutine, 0u);
  EXPECT_EQ(w.peek(), word::ready);
  EXPECT_FALSE(w.arm());
  EXPECT_EQ(w.peek(), word::nil);
  EXPECT_TRUE(w.arm());
}

TEST(PollWord, EdgeBetweenArmAndCommitPreventsParking) {
  word w;
  ASSERT_TRUE(w.arm());
  EXPECT_EQ(w.notify(wins).goroutine, 0u);
  EXPECT_FALSE(w.commit(someone));
  EXPECT_FALSE(w.arm()) << "the edge is still to be consumed";
}

TEST(PollWord, KickBetweenArmAndCommitPreventsParking) {
  word w;
  ASSERT_TRUE(w.arm());
  EXPECT_EQ(w.kick(wins).goroutine, 0u);
  EXPECT_FALSE(w.commit(someone));
  EXPECT_EQ(w.peek(), word::nil);
}

TEST(PollWord, EdgeTakesTheParkedGoroutineOnce) {
  word w;
  ASSERT_TRUE(w.arm());
  ASSERT_TRUE(w.commit(someone));
  const auto first = w.notify(loses);  // without a deadline there is nobody to lose against
  EXPECT_EQ(first.goroutine, someone);
  EXPECT_TRUE(first.won);
  EXPECT_EQ(w.peek(), word::nil);
  EXPECT_EQ(w.notify(wins).goroutine, 0u);
  EXPECT_EQ(w.peek(), word::ready);
}

TEST(PollWord, KickTakesTheParkedGoroutineAndLeavesNoEdge) {
  word w;
  ASSERT_TRUE(w.arm());
  ASSERT_TRUE(w.commit(someone));
  EXPECT_EQ(w.kick(wins).goroutine, someone);
  EXPECT_EQ(w.peek(), word::nil);
}

TEST(PollWord, KickKeepsAnEdge) {
  word w;
  w.notify(wins);
  EXPECT_EQ(w.kick(wins).goroutine, 0u);
  EXPECT_EQ(w.peek(), word::ready);
}

TEST(PollWord, EdgeThatLosesToTheDeadlineIsKept) {
  word w;
  ASSERT_TRUE(w.arm());
  ASSERT_TRUE(w.commit(with_deadline));
  const auto taken = w.notify(loses);
  EXPECT_EQ(taken.goroutine, someone) << "the caller must account for it";
  EXPECT_FALSE(taken.won);
  EXPECT_EQ(w.peek(), word::ready);
  EXPECT_FALSE(w.withdraw(with_deadline, no_pause));
}

TEST(PollWord, EdgeThatWinsAgainstTheDeadlineWakes) {
  word w;
  ASSERT_TRUE(w.arm());
  ASSERT_TRUE(w.commit(with_deadline));
  const auto taken = w.notify(wins);
  EXPECT_EQ(taken.goroutine, someone);
  EXPECT_TRUE(taken.won);
  EXPECT_EQ(w.peek(), word::nil);
}

TEST(PollWord, NothingElseActsWhileANotifierClaims) {
  word w;
  ASSERT_TRUE(w.arm());
  ASSERT_TRUE(w.commit(with_deadline));
  w.notify([&](std::uintptr_t) {
    EXPECT_EQ(w.peek(), word::claiming);
    EXPECT_EQ(w.notify(wins).goroutine, 0u);
    EXPECT_EQ(w.kick(wins).goroutine, 0u);
    EXPECT_EQ(w.peek(), word::claiming);
    return true;
  });
  EXPECT_EQ(w.peek(), word::nil);
}

TEST(PollWord, WithdrawTakesTheGoroutineOut) {
  word w;
  ASSERT_TRUE(w.arm());
  ASSERT_TRUE(w.commit(with_deadline));
  EXPECT_TRUE(w.withdraw(with_deadline, no_pause));
  EXPECT_EQ(w.peek(), word::nil);
}

TEST(PollWord, DisarmKeepsAnEdgeThatCameMeanwhile) {
  word w;
  ASSERT_TRUE(w.arm());
  w.disarm();
  EXPECT_EQ(w.peek(), word::nil);
  ASSERT_TRUE(w.arm());
  w.notify(wins);
  w.disarm();
  EXPECT_EQ(w.peek(), word::ready);
}

// The waiter's deadline and a notifier race for each wait. Property II: when withdraw() has returned
// (or the notifier has won), the claim belongs to the waiter again, so re-arming it cannot let the
// notifier of an earlier wait win the next one.
TEST(PollWord, ClaimOfOneWaitNeverEndsTheNext) {
  constexpr int rounds = 100'000;
  word w;
  std::atomic<std::uint32_t> claim{1};
  std::atomic<int> woken{0};
  std::atomic<bool> stop{false};
  auto try_claim = [&](std::uint32_t by) {
    std::uint32_t expected = 0;
    return claim.compare_exchange_strong(expected, by);
  };

  std::thread notifier([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      const auto taken = w.notify([&](std::uintptr_t) { return try_claim(2); });
      if (taken.won) woken.fetch_add(1, std::memory_order_release);
    }
  });
  int by_edge = 0;
  int by_deadline = 0;
  for (int i = 0; i < rounds; ++i) {
    if (!w.arm()) continue;
    claim.store(0, std::memory_order_relaxed);
    if (!w.commit(with_deadline)) continue;
    for (int spin = i % 64; spin > 0; --spin) std::atomic_signal_fence(std::memory_order::seq_cst);
    if (try_claim(1)) {
      w.withdraw(with_deadline, [] { std::this_thread::yield(); });
      ++by_deadline;
    } else {
      ++by_edge;
      while (woken.load(std::memory_order_acquire) != by_edge) std::this_thread::yield();
    }
    ASSERT_EQ(woken.load(std::memory_order_acquire), by_edge) << "round " << i;
  }
  stop = true;
  notifier.join();
  EXPECT_EQ(woken.load(), by_edge);
  EXPECT_GT(by_deadline, 0);
}

}  // namespace
}  // namespace tuco::inline v1::poll
