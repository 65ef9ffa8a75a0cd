// SPDX-License-Identifier: Apache-2.0
// The promises of queue/run_queue.hpp, one by one, a random test against the obvious implementation,
// and a race of owner and thieves that counts each item. Weak orders are tried in test/model/.
#include "queue/run_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace tuco::inline v1::queue {
namespace {

struct item {
  int number = 0;
};

template <std::size_t Capacity>
using queue_of = run_queue<item, base::real_atomics, Capacity>;

class RunQueue : public ::testing::Test {
 protected:
  void fill(int count) {
    for (int i = 0; i < count; ++i) ASSERT_TRUE(q.push_back(&items[i]));
  }
  item items[64];
  queue_of<8> q;
  queue_of<8> thief;
};

TEST_F(RunQueue, PopsInOrderOfPush) {
  fill(3);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(q.pop_ring(), &items[i]);
  EXPECT_EQ(q.pop_ring(), nullptr);
}

TEST_F(RunQueue, FullRingRefusesAndIsUnchanged) {
  fill(8);
  EXPECT_FALSE(q.push_back(&items[8]));
  EXPECT_EQ(q.size(), 8u);
  EXPECT_EQ(q.pop_ring(), &items[0]);
  EXPECT_TRUE(q.push_back(&items[8]));
}

TEST_F(RunQueue, IndicesGoRoundTheRing) {
  for (int lap = 0; lap < 100; ++lap) {
    fill(5);
    for (int i = 0; i < 5; ++i) ASSERT_EQ(q.pop_ring(), &items[i]);
  }
}

TEST_F(RunQueue, NextSlotComesFirstAndInheritsTheSlice) {
  fill(1);
  EXPECT_EQ(q.set_next(&items[5]), nullptr);
  const auto from_slot = q.pop();
  EXPECT_EQ(from_slot.item, &items[5]);
  EXPECT_TRUE(from_slot.inherits);
  const auto from_ring = q.pop();
  EXPECT_EQ(from_ring.item, &items[0]);
  EXPECT_FALSE(from_ring.inherits);
  EXPECT_EQ(q.pop().item, nullptr);
}

TEST_F(RunQueue, SetNextHandsBackTheOldOccupant) {
  EXPECT_EQ(q.set_next(&items[0]), nullptr);
  EXPECT_EQ(q.set_next(&items[1]), &items[0]);
  EXPECT_EQ(q.pop().item, &items[1]);
  EXPECT_TRUE(q.empty());
}

TEST_F(RunQueue, SetNextIfFreeLeavesAnOccupantAlone) {
  EXPECT_TRUE(q.set_next_if_free(&items[0]));
  EXPECT_FALSE(q.set_next_if_free(&items[1]));
  EXPECT_EQ(q.pop().item, &items[0]);
  EXPECT_TRUE(q.empty());
}

TEST_F(RunQueue, PopRingLeavesTheNextSlotAlone) {
  EXPECT_EQ(q.set_next(&items[0]), nullptr);
  EXPECT_EQ(q.pop_ring(), nullptr);
  EXPECT_EQ(q.pop().item, &items[0]);
}

TEST_F(RunQueue, StealTakesTheOlderHalfRoundedUp) {
  fill(5);
  item* first = nullptr;
  EXPECT_EQ(q.steal_into(thief, false, first), 3u);
  EXPECT_EQ(first, &items[0]);
  EXPECT_EQ(thief.pop_ring(), &items[1]);
  EXPECT_EQ(thief.pop_ring(), &items[2]);
  EXPECT_EQ(thief.pop_ring(), nullptr);
  EXPECT_EQ(q.pop_ring(), &items[3]);
  EXPECT_EQ(q.pop_ring(), &items[4]);
}

TEST_F(RunQueue, StealOfOneFillsNoRing) {
  fill(1);
  item* first = nullptr;
  EXPECT_EQ(q.steal_into(thief, false, first), 1u);
  EXPECT_EQ(first, &items[0]);
  EXPECT_TRUE(thief.empty());
  EXPECT_TRUE(q.empty());
}

TEST_F(RunQueue, StealTakesNoMoreThanTheThiefHasRoomFor) {
  fill(8);
  for (int i = 20; i < 26; ++i) ASSERT_TRUE(thief.push_back(&items[i]));  // room for 2 of 8
  item* first = nullptr;
  EXPECT_EQ(q.steal_into(thief, false, first), 3u);
  EXPECT_EQ(thief.size(), 8u);
  EXPECT_EQ(q.steal_into(thief, false, first), 1u);  // no room: only the one in the hand
  EXPECT_EQ(thief.size(), 8u);
  EXPECT_EQ(q.size(), 4u);
}

TEST_F(RunQueue, StealTakesTheNextSlotOnlyWhenTold) {
  EXPECT_EQ(q.set_next(&items[0]), nullptr);
  item* first = nullptr;
  EXPECT_EQ(q.steal_into(thief, false, first), 0u);
  EXPECT_EQ(first, nullptr);
  EXPECT_EQ(q.steal_into(thief, true, first), 1u);
  EXPECT_EQ(first, &items[0]);
  EXPECT_TRUE(q.empty());
}

TEST_F(RunQueue, StealPrefersTheRingToTheNextSlot) {
  fill(1);
  EXPECT_EQ(q.set_next(&items[5]), nullptr);
  item* first = nullptr;
  EXPECT_EQ(q.steal_into(thief, true, first), 1u);
  EXPECT_EQ(first, &items[0]);
  EXPECT_EQ(q.pop().item, &items[5]);
}

TEST_F(RunQueue, StealFromEmptyLeavesTheArgumentAlone) {
  item* first = &items[7];
  EXPECT_EQ(q.steal_into(thief, true, first), 0u);
  EXPECT_EQ(first, &items[7]);
}

TEST_F(RunQueue, TakeHalfTakesTheOlderHalfRoundedDown) {
  fill(7);
  item* out[8] = {};
  EXPECT_EQ(q.take_half(out, 8), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(out[i], &items[i]);
  EXPECT_EQ(q.pop_ring(), &items[3]);
  EXPECT_EQ(q.take_half(out, 1), 1u);
  EXPECT_EQ(out[0], &items[4]);
}

TEST_F(RunQueue, TakeHalfOfOneIsNothing) {
  fill(1);
  item* out[4] = {};
  EXPECT_EQ(q.take_half(out, 4), 0u);
  EXPECT_EQ(q.size(), 1u);
}

TEST_F(RunQueue, SizeCountsRingAndNextSlot) {
  EXPECT_EQ(q.size(), 0u);
  EXPECT_TRUE(q.empty());
  fill(3);
  EXPECT_EQ(q.set_next(&items[9]), nullptr);
  EXPECT_EQ(q.size(), 4u);
  EXPECT_FALSE(q.empty());
}

// What a debugger does: nothing but bytes and layout().
TEST_F(RunQueue, LayoutLeadsAReaderOfBytesToTheItems) {
  fill(8);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(q.pop_ring(), &items[i]);
  ASSERT_TRUE(q.push_back(&items[8]));
  ASSERT_EQ(q.set_next(&items[9]), nullptr);

  constexpr auto at = queue_of<8>::layout();
  unsigned char bytes[sizeof(q)];
  std::memcpy(bytes, static_cast<const void*>(&q), sizeof(q));
  auto word = [&](std::size_t offset) {
    std::uint64_t value;
    std::memcpy(&value, bytes + offset, sizeof(value));
    return value;
  };
  std::vector<std::uint64_t> seen;
  for (std::uint64_t i = word(at.head); i != word(at.tail); ++i) {
    seen.push_back(word(at.slots + (i % at.capacity) * sizeof(void*)));
  }
  std::vector<std::uint64_t> want;
  for (int i = 4; i <= 8; ++i) want.push_back(reinterpret_cast<std::uintptr_t>(&items[i]));
  EXPECT_EQ(seen, want);
  EXPECT_EQ(word(at.next), reinterpret_cast<std::uintptr_t>(&items[9]));
}

std::uint64_t seed() {
  if (const char* text = std::getenv("TUCO_TEST_SEED")) return std::strtoull(text, nullptr, 0);
  return std::random_device{}();
}

// Random operations on two queues against two deques and two slots. The seed is printed on
// failure; rerun it with TUCO_TEST_SEED.
TEST(RunQueueRandom, AgreesWithADequeAndASlot) {
  const std::uint64_t s = seed();
  SCOPED_TRACE(testing::Message() << "TUCO_TEST_SEED=" << s);
  std::mt19937_64 rng(s);
  struct model_queue {
    std::deque<item*> ring;
    item* next = nullptr;
  };
  queue_of<8> real[2];
  model_queue model[2];
  std::vector<item> items(20'000);
  std::size_t fresh = 0;

  for (int step = 0; step < 20'000; ++step) {
    const std::size_t a = rng() % 2;
    queue_of<8>& q = real[a];
    model_queue& m = model[a];
    switch (rng() % 8) {
      case 0:
      case 1: {
        item* it = &items[fresh++];
        ASSERT_EQ(q.push_back(it), m.ring.size() < 8);
        if (m.ring.size() < 8) m.ring.push_back(it);
        break;
      }
      case 2: {
        item* it = &items[fresh++];
        ASSERT_EQ(q.set_next(it), m.next);
        m.next = it;
        break;
      }
      case 3: {
        const auto got = q.pop();
        item* want = m.next;
        ASSERT_EQ(got.inherits, want != nullptr);
        if (want != nullptr) {
          m.next = nullptr;
        } else if (!m.ring.empty()) {
          want = m.ring.front();
          m.ring.pop_front();
        }
        ASSERT_EQ(got.item, want);
        break;
      }
      case 4: {
        item* want = nullptr;
        if (!m.ring.empty()) {
          want = m.ring.front();
          m.ring.pop_front();
        }
        ASSERT_EQ(q.pop_ring(), want);
        break;
      }
      case 5: {
        const std::size_t max = rng() % 6;
        item* out[8];
        const std::size_t want = std::min(m.ring.size() / 2, max);
        ASSERT_EQ(q.take_half(out, max), want);
        for (std::size_t i = 0; i < want; ++i) {
          ASSERT_EQ(out[i], m.ring.front());
          m.ring.pop_front();
        }
        break;
      }
      default: {
        const bool take_next = rng() % 2 == 0;
        model_queue& t = model[1 - a];
        item* first = nullptr;
        const std::size_t got = q.steal_into(real[1 - a], take_next, first);
        if (m.ring.empty()) {
          ASSERT_EQ(got, take_next && m.next != nullptr ? 1u : 0u);
          if (got == 1) {
            ASSERT_EQ(first, std::exchange(m.next, nullptr));
          }
        } else {
          ASSERT_EQ(got, std::min((m.ring.size() + 1) / 2, 8 - t.ring.size() + 1));
          ASSERT_EQ(first, m.ring.front());
          m.ring.pop_front();
          for (std::size_t i = 1; i < got; ++i) {
            t.ring.push_back(m.ring.front());
            m.ring.pop_front();
          }
        }
      }
    }
    for (std::size_t i = 0; i < 2; ++i) {
      ASSERT_EQ(real[i].size(), model[i].ring.size() + (model[i].next != nullptr ? 1 : 0));
      ASSERT_EQ(real[i].empty(), real[i].size() == 0);
    }
  }
}

// One owner that pushes, readies, pops and spills, and `Thieves` thieves with queues of their own that
// steal with and without the next slot. Each item is counted by whoever gets it; in the end each
// was got once, and what the pusher wrote into it was there.
template <std::size_t Capacity>
void race(int thieves, std::uint32_t count) {
  const std::uint64_t s = seed();
  SCOPED_TRACE(testing::Message() << "TUCO_TEST_SEED=" << s);
  struct counted {
    std::uint64_t payload = 0;  // plain on purpose: ThreadSanitizer checks the publication
    std::atomic<std::uint32_t> got{0};
  };
  using queue_type = run_queue<counted, base::real_atomics, Capacity>;
  std::vector<counted> items(count);
  queue_type victim;
  std::atomic<std::uint32_t> consumed{0};
  auto consume = [&](counted* it) {
    EXPECT_EQ(it->payload, static_cast<std::uint64_t>(it - items.data()) + 1);
    it->got.fetch_add(1, std::memory_order::relaxed);
    consumed.fetch_add(1, std::memory_order::relaxed);
  };

  std::vector<std::thread> threads;
  for (int i = 0; i < thieves; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 rng(s + 1 + static_cast<std::uint64_t>(i));
      queue_type own;
      while (consumed.load(std::memory_order::relaxed) < count) {
        counted* first = nullptr;
        if (victim.steal_into(own, rng() % 4 == 0, first) == 0) {
          while (counted* it = own.pop_ring()) consume(it);
          std::this_thread::yield();
          continue;
        }
        consume(first);
        // Leaves a random number behind so that the next theft meets a part-full ring.
        while (rng() % 4 != 0) {
          counted* it = own.pop_ring();
          if (it == nullptr) break;
          consume(it);
        }
      }
      EXPECT_EQ(own.pop_ring(), nullptr);
    });
  }

  std::mt19937_64 rng(s);
  counted* spill[Capacity];
  auto push = [&](counted* it) {
    while (!victim.push_back(it)) {
      const std::size_t n = victim.take_half(spill, Capacity);
      for (std::size_t k = 0; k < n; ++k) consume(spill[k]);
    }
  };
  for (std::uint32_t i = 0; i < count;) {
    const auto choice = rng() % 8;
    if (choice < 3) {
      items[i].payload = i + 1;
      push(&items[i++]);
    } else if (choice < 5) {
      items[i].payload = i + 1;
      if (counted* kicked = victim.set_next(&items[i++])) push(kicked);
    } else if (choice < 7) {
      if (counted* it = victim.pop().item) consume(it);
    } else {
      if (counted* it = victim.pop_ring()) consume(it);
    }
    if (victim.size() > Capacity + 1) ADD_FAILURE() << "size beyond capacity";
  }
  while (counted* it = victim.pop().item) consume(it);
  for (auto& t : threads) t.join();

  EXPECT_TRUE(victim.empty());
  for (std::uint32_t i = 0; i < count; ++i) ASSERT_EQ(items[i].got.load(), 1u) << "item " << i;
}

TEST(RunQueueRace, OneThief) { race<8>(1, 200'000); }
TEST(RunQueueRace, TwoThieves) { race<8>(2, 200'000); }
TEST(RunQueueRace, SmallestRing) { race<2>(2, 100'000); }
TEST(RunQueueRace, FullSizeRing) { race<256>(2, 200'000); }

}  // namespace
}  // namespace tuco::inline v1::queue
