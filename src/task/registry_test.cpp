// SPDX-License-Identifier: Apache-2.0
// registry_test.cpp - the promises of task/registry.hpp.
#include "task/registry.hpp"

#include <gtest/gtest.h>

#include <set>
#include <thread>
#include <vector>

#include "os/fault.hpp"
#include "os/proc.hpp"

namespace tuco::inline v1::task {
namespace {

goroutine* begin(registry& r, std::uint64_t id) {
  goroutine* g = r.allocate();
  if (g == nullptr) return nullptr;
  g->status.store(goroutine_status::runnable);
  g->id.store(id);
  return g;
}

// What the scheduler does at the end of a goroutine.
goroutine* ended(goroutine* g) {
  g->status.store(goroutine_status::dead, std::memory_order_relaxed);
  g->id.store(0, std::memory_order_release);
  return g;
}

std::set<std::uint64_t> ids_of(registry& r) {
  std::set<std::uint64_t> ids;
  r.for_each([&](goroutine& g) { EXPECT_TRUE(ids.insert(g.id.load()).second) << "visited twice"; });
  return ids;
}

TEST(RegistryTest, IsEmptyAtFirst) {
  registry r;
  EXPECT_TRUE(ids_of(r).empty());
  EXPECT_EQ(r.find(1), nullptr);
  EXPECT_EQ(r.roots().segment_count.load(), 0u);
}

TEST(RegistryTest, ARecordIsHandedOutAtRest) {
  registry r;
  for (int i = 0; i < 1000; ++i) {
    goroutine* g = r.allocate();
    ASSERT_NE(g, nullptr);
    ASSERT_EQ(g->id.load(), 0u);
    ASSERT_TRUE(g->status.load() == goroutine_status::idle ||
                g->status.load() == goroutine_status::dead);
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(g) % 64, 0u);
    g->id.store(7);
    g->status.store(goroutine_status::waiting);
    if (i % 2 == 0) r.release(ended(g));
  }
}

TEST(RegistryTest, VisitsEveryGoroutineOnceAndNoOther) {
  registry r;
  std::vector<goroutine*> all;
  std::set<std::uint64_t> expected;
  for (std::uint64_t id = 1; id <= 20'000; ++id) {
    all.push_back(begin(r, id));
    expected.insert(id);
  }
  EXPECT_EQ(ids_of(r), expected);
  for (std::size_t i = 0; i < all.size(); i += 3) {
    expected.erase(all[i]->id.load());
    r.release(ended(all[i]));
  }
  EXPECT_EQ(ids_of(r), expected);
}

TEST(RegistryTest, AWalkEndsWhenTheVisitorSaysSo) {
  registry r;
  for (std::uint64_t id = 1; id <= 100; ++id) begin(r, id);
  int visits = 0;
  r.for_each([&](goroutine&) { return ++visits < 10; });
  EXPECT_EQ(visits, 10);
}

TEST(RegistryTest, FindsById) {
  registry r;
  goroutine* wanted = nullptr;
  for (std::uint64_t id = 1; id <= 5000; ++id) {
    goroutine* g = begin(r, id);
    if (id == 4321) wanted = g;
  }
  EXPECT_EQ(r.find(4321), wanted);
  EXPECT_EQ(r.find(5001), nullptr);
  EXPECT_EQ(r.find(0), nullptr);
  r.release(ended(wanted));
  EXPECT_EQ(r.find(4321), nullptr);
}

TEST(RegistryTest, CountsByStatus) {
  registry r;
  for (std::uint64_t id = 1; id <= 300; ++id) {
    goroutine* g = begin(r, id);
    if (id <= 100) g->status.store(goroutine_status::waiting);
    if (id > 290) g->status.store(goroutine_status::running);
  }
  const auto counts = r.count_by_status();
  EXPECT_EQ(counts[static_cast<int>(goroutine_status::waiting)], 100u);
  EXPECT_EQ(counts[static_cast<int>(goroutine_status::running)], 10u);
  EXPECT_EQ(counts[static_cast<int>(goroutine_status::runnable)], 190u);
  EXPECT_EQ(counts[static_cast<int>(goroutine_status::idle)], 0u);
}

// What a reader of another process does: nothing but the roots.
TEST(RegistryTest, TheRootsLeadToEveryGoroutine) {
  registry r;
  std::set<std::uint64_t> expected;
  for (std::uint64_t id = 1; id <= 10'000; ++id) {
    begin(r, id);
    expected.insert(id);
  }
  std::set<std::uint64_t> seen;
  const registry_roots& roots = r.roots();
  for (std::uint64_t s = 0; s < roots.segment_count.load(); ++s) {
    const std::byte* segment = roots.segments.load()[s].load();
    for (std::uint64_t slab = 0; slab < roots.segment_bytes; slab += roots.slab_bytes) {
      for (std::uint64_t i = 0; i < roots.records_per_slab; ++i) {
        const auto* g =
            reinterpret_cast<const goroutine*>(segment + slab + i * roots.record_bytes);
        if (g->id.load() != 0) seen.insert(g->id.load());
      }
    }
  }
  EXPECT_EQ(seen, expected);
}

TEST(RegistryTest, MemoryOfASpikeGoesBack) {
  registry r;
  constexpr std::size_t spike = 200'000;
  constexpr std::uint64_t spike_bytes = spike * sizeof(goroutine);
  std::vector<goroutine*> all(spike);
  const std::uint64_t before = os::resident_bytes();
  for (std::size_t i = 0; i < spike; ++i) all[i] = begin(r, i + 1);
  ASSERT_NE(all.back(), nullptr);
  const std::uint64_t during = os::resident_bytes();
  EXPECT_GT(during - before, spike_bytes * 9 / 10);
  const std::size_t untouched = r.statistics().returned_slabs;

  for (goroutine* g : all) r.release(ended(g));
  r.tidy();
  EXPECT_EQ(r.statistics().returned_slabs, untouched) << "they were needed since the last time";
  r.tidy();
  const std::uint64_t after = os::resident_bytes();
  EXPECT_LT(after < before ? 0 : after - before, spike_bytes / 10);
  const auto statistics = r.statistics();
  EXPECT_EQ(statistics.free_records, statistics.slabs * records_per_slab);
  EXPECT_GT(statistics.returned_slabs, statistics.slabs * 9 / 10);
}

TEST(RegistryTest, TrimGivesBackTheRest) {
  registry r;
  std::vector<goroutine*> all;
  for (std::uint64_t id = 1; id <= 2000; ++id) all.push_back(begin(r, id));
  for (goroutine* g : all) r.release(ended(g));
  EXPECT_GT(r.statistics().idle_slabs, 0u);
  r.trim();
  EXPECT_EQ(r.statistics().idle_slabs, 0u);
}

TEST(RegistryTest, AReturnedSlabReadsAsIdleAndServesAgain) {
  registry r;
  std::vector<goroutine*> all;
  for (std::uint64_t id = 1; id <= 2000; ++id) {
    all.push_back(begin(r, id));
    all.back()->parent = 99;
  }
  for (goroutine* g : all) r.release(ended(g));
  r.trim();
  for (goroutine* g : all) {
    ASSERT_EQ(g->id.load(), 0u);
    ASSERT_EQ(g->status.load(), goroutine_status::idle);
    ASSERT_EQ(g->parent, 0u) << "pages were not given back";
  }
  std::set<goroutine*> again;
  for (std::uint64_t id = 1; id <= 2000; ++id) again.insert(begin(r, id));
  EXPECT_EQ(again, std::set<goroutine*>(all.begin(), all.end()));
}

// A record in a cache is neither in use nor free: its slab must stay.
TEST(RegistryTest, ASlabStaysWhileARecordOfItIsInACache) {
  registry r;
  goroutine_cache cache(r);
  goroutine* g = cache.allocate();
  cache.release(ended(g));
  g->parent = 42;
  r.trim();
  EXPECT_EQ(g->parent, 42u);
  cache.drain();
  r.trim();
  EXPECT_EQ(g->parent, 0u);
}

TEST(RegistryTest, PinsSurviveThatSlabsAreGivenBack) {
  registry r;
  goroutine* g = begin(r, 1);
  {
    const registry::reading section(r);
    g->pins.fetch_add(1);
    r.release(ended(g));  // ends while it is looked at
    r.trim();
    EXPECT_EQ(g->pins.load(), 1u) << "given back under a reader";
    g->pins.fetch_sub(1);
  }
  EXPECT_EQ(g->pins.load(), 0u);
  r.trim();
  EXPECT_EQ(r.statistics().idle_slabs, 0u);
  EXPECT_EQ(g->pins.load(), 0u);
}

TEST(RegistryCacheTest, HandsOutLastInFirstOut) {
  registry r;
  goroutine_cache cache(r);
  goroutine* a = cache.allocate();
  goroutine* b = cache.allocate();
  cache.release(ended(a));
  cache.release(ended(b));
  EXPECT_EQ(cache.allocate(), b);
  EXPECT_EQ(cache.allocate(), a);
}

TEST(RegistryCacheTest, HoldsNoMoreThanItsCapacity) {
  registry r;
  std::vector<goroutine*> all;
  {
    goroutine_cache cache(r);
    for (int i = 0; i < 1000; ++i) all.push_back(cache.allocate());
    for (goroutine* g : all) cache.release(ended(g));
    const auto s = r.statistics();
    EXPECT_LE(s.slabs * records_per_slab - s.free_records, goroutine_cache::capacity);
  }
  const auto s = r.statistics();
  EXPECT_EQ(s.slabs * records_per_slab, s.free_records) << "the cache's end lost records";
}

TEST(RegistryTest, OutOfMemoryIsANullRecordAndNoHarm) {
  if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  registry r;
  {
    const os::scoped_fault fault(os::call::mmap, ENOMEM);
    EXPECT_EQ(r.allocate(), nullptr);
    EXPECT_GE(fault.hits(), 1u);
  }
  EXPECT_NE(begin(r, 1), nullptr);
  EXPECT_EQ(ids_of(r), std::set<std::uint64_t>{1});
}

// The directory is there, the segment is refused.
TEST(RegistryTest, ARefusedSegmentIsANullRecordAndNoHarm) {
  if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  registry r;
  {
    const os::scoped_fault fault(os::call::mmap, ENOMEM, 2);
    EXPECT_EQ(r.allocate(), nullptr);
    EXPECT_EQ(fault.hits(), 1u);
  }
  EXPECT_NE(r.allocate(), nullptr);
}

TEST(RegistryTest, MemoryThatCannotBeGivenBackStaysUsable) {
  if (!os::fault_injection) GTEST_SKIP() << "built without TUCO_FAULT_INJECTION";
  registry r;
  std::vector<goroutine*> all;
  for (std::uint64_t id = 1; id <= 10'000; ++id) all.push_back(begin(r, id));
  {
    const os::scoped_fault fault(os::call::madvise, EINVAL);
    for (goroutine* g : all) r.release(ended(g));
    r.tidy();
    r.tidy();
    EXPECT_GE(fault.hits(), 1u);
  }
  EXPECT_TRUE(ids_of(r).empty());
  for (std::uint64_t id = 1; id <= 10'000; ++id) ASSERT_NE(begin(r, id), nullptr);
  EXPECT_EQ(ids_of(r).size(), 10'000u);
}

// Writers begin and end goroutines while a reader walks, pins and unpins. The reader must meet no id
// that was never given, see all the goroutines that live throughout, and leave no pin behind.
TEST(RegistryStressTest, ReadersWalkWhileAMillionBeginAndEnd) {
  registry r;
  constexpr std::uint64_t permanent = 1000;
  for (std::uint64_t id = 1; id <= permanent; ++id) begin(r, id);

  constexpr std::uint64_t per_writer = 350'000;  // at least; and until the reader has met many
  constexpr std::uint64_t range = 1'000'000'000'000;
  std::atomic<std::uint64_t> met{0};  // of those that come and go
  std::atomic<int> writing{3};
  std::vector<std::thread> writers;
  for (std::uint64_t w = 0; w < 3; ++w) {
    writers.emplace_back([&, w] {
      goroutine_cache cache(r);
      std::vector<goroutine*> mine;
      std::uint64_t next = permanent + 1 + w * range;
      const std::uint64_t enough = next + per_writer;
      std::uint64_t state = w + 1;
      while (next < enough || met.load() < 100'000) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const std::uint64_t burst = state >> 54;  // up to 1023
        for (std::uint64_t i = 0; i < burst; ++i) {
          goroutine* g = cache.allocate();
          ASSERT_NE(g, nullptr);
          ASSERT_EQ(g->id.load(), 0u);
          g->parent = next;
          g->status.store(goroutine_status::runnable, std::memory_order_release);
          g->id.store(next++, std::memory_order_release);
          mine.push_back(g);
        }
        const std::size_t keep = (state >> 30) % 3 == 0 ? 0 : mine.size() / 2;
        while (mine.size() > keep) {
          cache.release(ended(mine.back()));
          mine.pop_back();
        }
      }
      for (goroutine* g : mine) cache.release(ended(g));
      writing.fetch_sub(1);
    });
  }

  do {
    std::uint64_t seen_permanent = 0;
    std::uint64_t others = 0;
    r.for_each([&](goroutine& g) {
      const std::uint64_t id = g.id.load(std::memory_order_acquire);
      if (id == 0) return;
      ++(id <= permanent ? seen_permanent : others);
      ASSERT_LE(id, permanent + 3 * range);
      g.pins.fetch_add(1);
      g.pins.fetch_sub(1);
    });
    ASSERT_EQ(seen_permanent, permanent);
    met.fetch_add(others);
  } while (writing.load() != 0);
  for (auto& t : writers) t.join();

  EXPECT_EQ(ids_of(r).size(), permanent);
  r.trim();
  const registry_roots& roots = r.roots();
  for (std::uint64_t s = 0; s < roots.segment_count.load(); ++s) {
    for (std::uint64_t slab = 0; slab < segment_bytes; slab += slab_bytes) {
      auto* records = reinterpret_cast<goroutine*>(roots.segments.load()[s].load() + slab);
      for (std::size_t i = 0; i < records_per_slab; ++i) ASSERT_EQ(records[i].pins.load(), 0u);
    }
  }
}

}  // namespace
}  // namespace tuco::inline v1::task
