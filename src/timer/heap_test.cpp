// SPDX-License-Identifier: Apache-2.0
// The promises of timer/heap.hpp: order, never early, synchronous removal, no entry lost. Time is an
// argument here, so that these tests own it; what needs the real clock reads it.
#include "timer/heap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/pause.hpp"
#include "os/clock.hpp"
#include "task/claim.hpp"

namespace tuco::inline v1::timers {
namespace {

constexpr std::int64_t never = INT64_MAX;

// Kind B that writes down when it fired.
struct recorder : entry {
  explicit recorder(std::int64_t when = 0, std::vector<int>* log_to = nullptr, int my_id = 0)
      : log(log_to), id(my_id) {
    when_ns = when;
    fire = [](entry* self, std::int64_t now, task::ready_list&) noexcept {
      auto* r = static_cast<recorder*>(self);
      ++r->fired;
      r->fired_at = now;
      if (r->log != nullptr) r->log->push_back(r->id);
      heap::finish(*r);
    };
  }
  std::vector<int>* log;
  int id;
  int fired = 0;
  std::int64_t fired_at = INT64_MIN;
};

// Kind A: a goroutine that waits with a deadline.
struct sleeper : entry {
  explicit sleeper(std::int64_t when = 0) {
    when_ns = when;
    g = &self;
    task::arm_claim(g);
  }
  task::goroutine self;
};

std::size_t run(heap& h, std::int64_t now) {
  task::ready_list out;
  return h.run_due(now, out);
}

std::uint64_t test_seed() {
  const char* given = std::getenv("TUCO_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

// --- order and time ---------------------------------------------------------------------------

TEST(TimerHeap, AnEmptyHeapHasNothingDue) {
  heap h;
  EXPECT_EQ(h.next(), never);
  EXPECT_EQ(h.size(), 0u);
  EXPECT_EQ(run(h, never), 0u);
}

TEST(TimerHeap, ExpiresInTheOrderOfDeadlines) {
  heap h;
  std::vector<int> log;
  std::deque<recorder> entries;
  for (const int when : {50, 10, 40, 20, 30}) {
    (void)h.add(entries.emplace_back(when, &log, when));
  }
  EXPECT_EQ(h.size(), 5u);
  EXPECT_EQ(h.next(), 10);
  EXPECT_EQ(run(h, 100), 5u);
  EXPECT_EQ(log, (std::vector{10, 20, 30, 40, 50}));
  EXPECT_EQ(h.next(), never);
  EXPECT_EQ(h.size(), 0u);
}

TEST(TimerHeap, EqualDeadlinesExpireInTheOrderOfAdding) {
  heap h;
  std::vector<int> log, expected;
  std::deque<recorder> entries;
  for (int i = 0; i < 1000; ++i) {
    (void)h.add(entries.emplace_back(7, &log, i));
    expected.push_back(i);
  }
  // Removals move entries about inside the heap; the order must not notice.
  for (int i = 0; i < 1000; i += 3) {
    ASSERT_EQ(heap::remove(entries[std::size_t(i)]), remove_result::removed);
    std::erase(expected, i);
  }
  run(h, 7);
  EXPECT_EQ(log, expected);
}

TEST(TimerHeap, BothKindsKeepTheirCommonOrder) {
  heap h;
  task::ready_list out;
  // Each B tells how many goroutines were ready before it.
  struct counter : entry {
    std::uint32_t before = 0;
  };
  counter b1, b2;
  sleeper a1(10), a2(30);
  for (counter* b : {&b1, &b2}) {
    b->fire = [](entry* self, std::int64_t, task::ready_list& ready) noexcept {
      static_cast<counter*>(self)->before = ready.count;
      heap::finish(*self);
    };
  }
  b1.when_ns = 20;
  b2.when_ns = 30;
  (void)h.add(b2);
  (void)h.add(a2);
  (void)h.add(b1);
  (void)h.add(a1);
  EXPECT_EQ(h.run_due(30, out), 4u);
  EXPECT_EQ(b1.before, 1u);
  EXPECT_EQ(b2.before, 1u);
  EXPECT_EQ(out.pop_front(), &a1.self);
  EXPECT_EQ(out.pop_front(), &a2.self);
  EXPECT_EQ(out.pop_front(), nullptr);
}

TEST(TimerHeap, NeverExpiresEarlyAndExpiresAtTheDeadlineItself) {
  heap h;
  sleeper first(999), second(1000), third(1001);
  for (sleeper* s : {&third, &second, &first}) (void)h.add(*s);
  task::ready_list out;
  EXPECT_EQ(h.run_due(998, out), 0u);
  EXPECT_EQ(h.run_due(999, out), 1u);
  EXPECT_EQ(h.run_due(1000, out), 1u);
  EXPECT_EQ(out.count, 2u);
  EXPECT_EQ(third.self.claim.load(), task::unclaimed);
  EXPECT_EQ(h.run_due(1001, out), 1u);
}

TEST(TimerHeap, TheEndsOfTheRangeAreDeadlinesLikeOthersButTheLastNeverPasses) {
  heap h;
  recorder lowest(INT64_MIN), negative(-1), zero(0), late(INT64_MAX - 1), none(INT64_MAX);
  for (recorder* e : {&none, &late, &zero, &negative, &lowest}) (void)h.add(*e);
  EXPECT_EQ(h.next(), INT64_MIN);
  EXPECT_EQ(run(h, INT64_MIN), 1u);
  EXPECT_EQ(run(h, -1), 1u);
  EXPECT_EQ(run(h, 0), 1u);
  EXPECT_EQ(h.next(), INT64_MAX - 1);
  EXPECT_EQ(run(h, INT64_MAX - 1), 1u);
  EXPECT_EQ(h.next(), never);
  EXPECT_EQ(run(h, INT64_MAX), 0u);
  EXPECT_EQ(none.fired, 0);
  EXPECT_EQ(h.size(), 1u);
  EXPECT_EQ(heap::remove(none), remove_result::removed);
}

TEST(TimerHeap, AddTellsWhetherTheEntryBecameTheEarliest) {
  heap h;
  recorder a(100), b(200), c(100), d(50), forever(never);
  EXPECT_TRUE(h.add(a));
  EXPECT_FALSE(h.add(b));
  EXPECT_FALSE(h.add(c)) << "somebody wakes at 100 already";
  EXPECT_TRUE(h.add(d));
  EXPECT_FALSE(h.add(forever));
  for (recorder* e : {&a, &b, &c, &d, &forever}) heap::remove(*e);
}

TEST(TimerHeap, LimitLeavesTheRestDue) {
  heap h;
  std::deque<recorder> entries;
  for (int i = 0; i < 100; ++i) (void)h.add(entries.emplace_back(i));
  task::ready_list out;
  EXPECT_EQ(h.run_due(1000, out, 40), 40u);
  EXPECT_EQ(h.next(), 40);
  EXPECT_EQ(h.run_due(1000, out, 0), 0u);
  EXPECT_EQ(h.run_due(1000, out, 1000), 60u);
}

// --- kind A: claims ---------------------------------------------------------------------------

TEST(TimerHeap, ExpiryClaimsTheGoroutineAndHandsItOut) {
  heap h;
  sleeper s(10);
  (void)h.add(s);
  task::ready_list out;
  EXPECT_EQ(h.run_due(10, out), 1u);
  EXPECT_EQ(out.pop_front(), &s.self);
  EXPECT_EQ(s.self.claim.load(), task::claimed_by_deadline);
  EXPECT_EQ(heap::remove(s), remove_result::not_there);
}

TEST(TimerHeap, AGoroutineThatSomebodyElseWokeIsLeftAlone) {
  heap h;
  sleeper s(10);
  (void)h.add(s);
  ASSERT_TRUE(task::try_claim(&s.self, 5));
  task::ready_list out;
  EXPECT_EQ(h.run_due(10, out), 1u);
  EXPECT_EQ(out.count, 0u);
  EXPECT_EQ(s.self.claim.load(), 5u);
}

// --- removal ----------------------------------------------------------------------------------

TEST(TimerHeap, ARemovedEntryDoesNotExpire) {
  heap h;
  recorder a(10), b(20);
  (void)h.add(a);
  (void)h.add(b);
  EXPECT_EQ(heap::remove(a), remove_result::removed);
  EXPECT_EQ(h.next(), 20);
  EXPECT_EQ(heap::remove(a), remove_result::not_there);
  EXPECT_EQ(run(h, 100), 1u);
  EXPECT_EQ(a.fired, 0);
  EXPECT_EQ(heap::remove(b), remove_result::not_there);
}

TEST(TimerHeap, AnEntryThatWasNeverAddedIsNotThere) {
  recorder e;
  EXPECT_EQ(heap::remove(e), remove_result::not_there);
}

// --- kind B: what a fire function may do --------------------------------------------------------

TEST(TimerHeap, RemoveSaysThatTheEntryIsFiring) {
  heap h;
  struct probe : entry {
    remove_result seen_by_other_thread{};
    remove_result after_finish{};
  } e;
  e.fire = [](entry* self, std::int64_t, task::ready_list&) noexcept {
    auto* p = static_cast<probe*>(self);
    // Another thread, because the promise is made to other threads.
    std::thread([p] { p->seen_by_other_thread = heap::remove(*p); }).join();
    heap::finish(*p);
    std::thread([p] { p->after_finish = heap::remove(*p); }).join();
  };
  (void)h.add(e);
  EXPECT_EQ(run(h, 1), 1u);
  EXPECT_EQ(e.seen_by_other_thread, remove_result::firing);
  EXPECT_EQ(e.after_finish, remove_result::not_there);
}

TEST(TimerHeap, FireMayAddItselfAgain) {
  heap h;
  struct ticker : entry {
    heap* home = nullptr;
    int ticks = 0;
  } e;
  e.home = &h;
  e.fire = [](entry* self, std::int64_t now, task::ready_list&) noexcept {
    auto* t = static_cast<ticker*>(self);
    ++t->ticks;
    t->when_ns = now + 10;
    (void)t->home->add(*t);
  };
  (void)h.add(e);
  for (int now = 0; now < 100; now += 10) EXPECT_EQ(run(h, now), 1u) << now;
  EXPECT_EQ(e.ticks, 10);
  EXPECT_EQ(heap::remove(e), remove_result::removed);
}

TEST(TimerHeap, FinishDoesNotUndoAnAddThatCameBetween) {
  heap h;
  recorder e(1);
  e.fire = [](entry*, std::int64_t, task::ready_list&) noexcept {};
  (void)h.add(e);
  EXPECT_EQ(run(h, 1), 1u);
  EXPECT_EQ(heap::remove(e), remove_result::firing) << "fire did not finish";
  e.when_ns = 50;
  (void)h.add(e);  // the owner's right in this state
  heap::finish(e);
  EXPECT_EQ(h.size(), 1u);
  EXPECT_EQ(heap::remove(e), remove_result::removed);
}

TEST(TimerHeap, FireMayFreeTheEntry) {
  heap h;
  static int freed;
  freed = 0;
  struct owned : entry {
    ~owned() { ++freed; }
  };
  for (int i = 0; i < 100; ++i) {
    auto* e = new owned;
    e->when_ns = i;
    e->fire = [](entry* self, std::int64_t, task::ready_list&) noexcept {
      delete static_cast<owned*>(self);
    };
    (void)h.add(*e);
  }
  EXPECT_EQ(run(h, 1000), 100u);
  EXPECT_EQ(freed, 100);
}

TEST(TimerHeap, FireMayRemoveOthersAndReadyGoroutines) {
  heap h;
  struct killer : entry {
    entry* victim = nullptr;
    remove_result result{};
    task::goroutine* wakes = nullptr;
  } k;
  recorder victim(10);
  task::goroutine woken;
  k.when_ns = 5;
  k.victim = &victim;
  k.wakes = &woken;
  k.fire = [](entry* self, std::int64_t, task::ready_list& out) noexcept {
    auto* me = static_cast<killer*>(self);
    me->result = heap::remove(*me->victim);
    out.push_back(me->wakes);
    heap::finish(*me);
  };
  (void)h.add(k);
  (void)h.add(victim);
  task::ready_list out;
  EXPECT_EQ(h.run_due(100, out), 1u);
  EXPECT_EQ(k.result, remove_result::removed);
  EXPECT_EQ(victim.fired, 0);
  EXPECT_EQ(out.pop_front(), &woken);
}

// --- merging ----------------------------------------------------------------------------------

TEST(TimerHeap, MergingMovesEverythingAndKeepsTheOrder) {
  heap from, to;
  std::vector<int> log;
  std::deque<recorder> entries;
  for (int i = 0; i < 200; ++i) (void)from.add(entries.emplace_back(10, &log, i));
  recorder early(5, &log, -1), late(20, &log, -2);
  (void)to.add(late);
  EXPECT_TRUE(from.merge_into(to));
  EXPECT_EQ(from.size(), 0u);
  EXPECT_EQ(from.next(), never);
  EXPECT_EQ(from.memory(), 0u);
  EXPECT_EQ(to.size(), 201u);
  (void)to.add(early);

  heap third;
  (void)third.add(entries.emplace_back(1, &log, -3));
  EXPECT_FALSE(to.merge_into(third)) << "1 is earlier than all of them";

  // A remover finds the entry where it is now.
  EXPECT_EQ(heap::remove(entries[100]), remove_result::removed);
  std::vector<int> expected{-3, -1};
  for (int i = 0; i < 200; ++i) {
    if (i != 100) expected.push_back(i);
  }
  expected.push_back(-2);
  run(third, 100);
  EXPECT_EQ(log, expected);
}

TEST(TimerHeap, MovedEntriesStayBeforeThoseAddedLater) {
  heap from, to;
  std::vector<int> log;
  std::deque<recorder> entries;
  for (int i = 0; i < 50; ++i) (void)from.add(entries.emplace_back(10, &log, i));
  (void)from.merge_into(to);
  for (int i = 50; i < 100; ++i) (void)to.add(entries.emplace_back(10, &log, i));
  run(to, 10);
  EXPECT_TRUE(std::is_sorted(log.begin(), log.end()));
  EXPECT_EQ(log.size(), 100u);
}

// --- the end of a run ---

class TimerHeapDrop : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(ArrayLimits, TimerHeapDrop, ::testing::Values(heap::no_limit, 0, 30));

TEST_P(TimerHeapDrop, DropsSleepersAndKeepsTheRestInOrder) {
  heap h(GetParam());
  std::vector<int> log;
  std::deque<recorder> timers;
  std::deque<sleeper> sleepers;
  for (int i = 0; i < 100; ++i) {
    (void)h.add(sleepers.emplace_back(i));
    if (i % 2 == 0) (void)h.add(timers.emplace_back(1000 - i, &log, 1000 - i));
  }
  h.drop_sleepers();
  EXPECT_EQ(h.size(), 50u);
  EXPECT_EQ(h.next(), 902);
  for (sleeper& s : sleepers) EXPECT_EQ(heap::remove(s), remove_result::not_there);
  EXPECT_EQ(heap::remove(timers[10]), remove_result::removed);
  task::ready_list out;
  EXPECT_EQ(h.run_due(1000, out), 49u);
  EXPECT_EQ(out.count, 0u);
  EXPECT_TRUE(std::is_sorted(log.begin(), log.end()));
  h.drop_sleepers();
  EXPECT_EQ(h.next(), never);
}

// --- memory -----------------------------------------------------------------------------------

TEST(TimerHeap, MemoryOfASpikeIsGivenBack) {
  heap h;
  std::deque<recorder> entries;
  for (int i = 0; i < 200'000; ++i) (void)h.add(entries.emplace_back(i));
  const std::size_t spike = h.memory();
  EXPECT_GE(spike, 200'000 * 16u);
  run(h, 199'900);
  EXPECT_EQ(h.size(), 99u);
  EXPECT_LT(h.memory(), spike / 64);
  run(h, 200'000);
}

// --- against the obvious implementation -------------------------------------------------------

// Random operations on two heaps against multimaps (which keep equal keys in insertion order). The
// array limit makes the list of the out-of-memory case a common place. The seed is printed on
// failure; rerun it with TUCO_TEST_SEED.
class TimerHeapModel : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(ArrayLimits, TimerHeapModel,
                         ::testing::Values(heap::no_limit, 0, 1, 5, 100));

TEST_P(TimerHeapModel, AgreesWithAMultimap) {
  const std::uint64_t seed = test_seed();
  SCOPED_TRACE("TUCO_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const std::size_t limit = GetParam();
  const int entry_count = limit == heap::no_limit ? 3000 : 300;
  const int steps = limit == heap::no_limit ? 200'000 : 30'000;

  heap heaps[2] = {heap(limit), heap(limit)};
  std::multimap<std::int64_t, int> models[2];
  std::vector<int> where(std::size_t(entry_count), -1);

  // Every other entry is a goroutine. Before a fire function writes itself down it does so for the
  // goroutines that became ready before it, which makes one log of both kinds.
  static std::vector<int> log;
  static constexpr auto drain = [](task::ready_list& out) {
    while (task::goroutine* g = out.pop_front()) log.push_back(int(g->slab_index));
  };
  struct either : entry {
    task::goroutine self;
  };
  std::vector<std::unique_ptr<either>> entries;
  for (int i = 0; i < entry_count; ++i) {
    auto& e = *entries.emplace_back(std::make_unique<either>());
    e.self.slab_index = unsigned(i);
    if (i % 2 == 0) e.g = &e.self;
    e.fire = [](entry* self, std::int64_t, task::ready_list& out) noexcept {
      drain(out);
      log.push_back(int(static_cast<either*>(self)->self.slab_index));
      heap::finish(*self);
    };
  }
  std::int64_t now = 0;

  for (int step = 0; step < steps; ++step) {
    const int which = int(random() % 2);
    heap& h = heaps[which];
    auto& model = models[which];
    const int i = int(random() % unsigned(entry_count));
    either& e = *entries[std::size_t(i)];
    int& at = where[std::size_t(i)];
    const unsigned choice = unsigned(random() % 100);

    if (choice < 60) {
      if (at != -1) continue;
      e.when_ns = now + std::int64_t(random() % 64) - 4;  // many equal ones, some in the past
      task::arm_claim(&e.self);
      const std::int64_t before = h.next();
      const bool earliest = h.add(e);
      ASSERT_EQ(earliest, e.when_ns < before) << "step " << step;
      model.emplace(e.when_ns, i);
      at = which;
    } else if (choice < 85) {
      const remove_result result = heap::remove(e);
      ASSERT_EQ(result, at == -1 ? remove_result::not_there : remove_result::removed)
          << "step " << step;
      if (at != -1) {
        auto& owner = models[at];
        auto range = owner.equal_range(e.when_ns);
        auto found = std::find_if(range.first, range.second, [&](auto& p) { return p.second == i; });
        ASSERT_NE(found, range.second);
        owner.erase(found);
        at = -1;
      }
    } else {
      now += std::int64_t(random() % 8);
      log.clear();
      std::vector<int> expected;
      while (!model.empty() && model.begin()->first <= now) {
        expected.push_back(model.begin()->second);
        where[std::size_t(expected.back())] = -1;
        model.erase(model.begin());
      }
      task::ready_list out;
      ASSERT_EQ(h.run_due(now, out), expected.size()) << "step " << step;
      drain(out);
      ASSERT_EQ(log, expected) << "step " << step;
    }
    ASSERT_EQ(h.size(), model.size()) << "step " << step;
    ASSERT_EQ(h.next(), model.empty() ? never : model.begin()->first) << "step " << step;
  }
  for (auto& e : entries) heap::remove(*e);
  EXPECT_EQ(heaps[0].size() + heaps[1].size(), 0u);
}

TEST(TimerHeap, EntriesOfTheListMoveIntoTheArrayWhenThereIsRoom) {
  heap h(4);
  std::vector<int> log;
  std::deque<recorder> entries;
  for (int i = 0; i < 12; ++i) (void)h.add(entries.emplace_back(100 - i, &log, i));
  EXPECT_EQ(h.size(), 12u);
  EXPECT_EQ(h.next(), 89) << "it lies in the list";
  for (int i = 0; i < 12; i += 2) {
    ASSERT_EQ(heap::remove(entries[std::size_t(i)]), remove_result::removed);
  }
  run(h, 100);
  EXPECT_EQ(log, (std::vector{11, 9, 7, 5, 3, 1}));
}

TEST(TimerHeap, AMillionTimersExpireInOrderAndNoneEarly) {
  constexpr int n = 1'000'000;
  static std::int64_t last, clock;
  static int early, unordered;
  last = INT64_MIN;
  early = unordered = 0;
  struct timer_entry : entry {};
  std::vector<timer_entry> entries(n);
  std::mt19937_64 random(20'260'101);
  heap h;
  for (auto& e : entries) {
    e.when_ns = std::int64_t(random() % 1'000'000'000);
    e.fire = [](entry* self, std::int64_t now, task::ready_list&) noexcept {
      early += now < self->when_ns || now != clock;
      unordered += self->when_ns < last;
      last = self->when_ns;
      heap::finish(*self);
    };
    (void)h.add(e);
  }
  EXPECT_EQ(h.size(), std::size_t{n});
  std::size_t expired = 0;
  for (clock = 0; h.size() != 0; clock += 10'000'000) expired += run(h, clock);
  EXPECT_EQ(expired, std::size_t{n});
  EXPECT_EQ(early, 0);
  EXPECT_EQ(unordered, 0);
}

// The clock of the machine, deadlines within the next 50 ms: reads of the clock after the expiry
// must never show less than the deadline.
TEST(TimerHeap, ManyTimersAreNeverEarlyByTheSteadyClock) {
  constexpr int n = 200'000;
  static int early;
  early = 0;
  std::vector<entry> entries(n);
  std::mt19937_64 random(test_seed());
  heap h;
  const std::int64_t start = os::steady_now_ns();
  for (auto& e : entries) {
    e.when_ns = start + std::int64_t(random() % 50'000'000);
    e.fire = [](entry* self, std::int64_t, task::ready_list&) noexcept {
      early += os::steady_now_ns() < self->when_ns;
      heap::finish(*self);
    };
    (void)h.add(e);
  }
  std::size_t expired = 0;
  while (h.size() != 0) expired += run(h, os::steady_now_ns());
  EXPECT_EQ(expired, std::size_t{n});
  EXPECT_EQ(early, 0);
}

// --- several threads --------------------------------------------------------------------------

// Each thread owns entries and adds them to any heap, removes them from wherever they are by then,
// runs any heap and merges heaps into each other. Every add must end exactly once: by a removal that
// said so, or by a call of fire.
class TimerHeapThreads : public ::testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(ArrayLimits, TimerHeapThreads, ::testing::Values(heap::no_limit, 16));

TEST_P(TimerHeapThreads, EveryAddEndsExactlyOnce) {
  constexpr int thread_count = 4, heap_count = 3, own = 64, rounds = 200'000;
  struct counted : entry {
    std::atomic<std::uint64_t> fired{0};
    std::uint64_t added = 0, removed = 0;
  };
  std::deque<heap> heaps;
  for (int i = 0; i < heap_count; ++i) heaps.emplace_back(GetParam());
  std::atomic<std::int64_t> now{0};
  std::atomic<int> wrong{0};
  const std::uint64_t seed = test_seed();
  SCOPED_TRACE("TUCO_TEST_SEED=" + std::to_string(seed));

  auto worker = [&](int number) {
    std::mt19937_64 random(seed + std::uint64_t(number));
    auto mine = std::make_unique<counted[]>(own);
    for (int i = 0; i < own; ++i) {
      mine[i].fire = [](entry* self, std::int64_t, task::ready_list&) noexcept {
        static_cast<counted*>(self)->fired.fetch_add(1, std::memory_order_relaxed);
        heap::finish(*self);
      };
    }
    auto end_now = [&](counted& e) {
      // Out of the heaps, whatever it takes; then the books must balance.
      remove_result result;
      while ((result = heap::remove(e)) == remove_result::firing) std::this_thread::yield();
      e.removed += result == remove_result::removed;
      if (e.removed + e.fired.load() != e.added) ++wrong;
    };
    for (int round = 0; round < rounds; ++round) {
      counted& e = mine[random() % own];
      heap& h = heaps[random() % heap_count];
      const unsigned choice = unsigned(random() % 100);
      if (choice < 60) {
        end_now(e);
        e.when_ns = now.load() + std::int64_t(random() % 100) - 10;
        ++e.added;
        (void)h.add(e);
      } else if (choice < 80) {
        end_now(e);
      } else if (choice < 98) {
        const std::int64_t at = now.fetch_add(std::int64_t(random() % 10));
        task::ready_list out;
        h.run_due(at, out, 1 + random() % 50);
      } else {
        heap& other = heaps[random() % heap_count];
        if (&h != &other) (void)h.merge_into(other);
      }
    }
    for (int i = 0; i < own; ++i) end_now(mine[i]);
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < thread_count; ++i) threads.emplace_back(worker, i);
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong.load(), 0);
  for (auto& h : heaps) {
    EXPECT_EQ(h.size(), 0u);
    EXPECT_EQ(h.next(), never);
  }
}

// Hazards H31: a goroutine that was woken by somebody else, removed its deadline and waits again must
// not be woken by the old deadline. Waiters race their own claim against expiring threads; after
// remove() a fresh claim must stay untouched, and the entry's storage is overwritten.
TEST(TimerHeapRace, NoClaimByDeadlineComesAfterRemove) {
  constexpr int rounds = 60'000, waiters = 2;
  struct waiter {
    task::goroutine g;
    std::atomic<std::uint32_t> readied{0};
  };
  heap h;
  std::deque<waiter> all(waiters);
  std::atomic<int> running{waiters};
  std::atomic<int> late_claims{0}, double_wakes{0};
  std::atomic<std::uint64_t> by_deadline{0}, by_other{0};

  auto wait_in_a_loop = [&](waiter& w) {
    alignas(entry) std::byte storage[sizeof(entry)];
    std::uint32_t wakes = 0;
    for (int i = 0; i < rounds; ++i) {
      auto* e = new (storage) entry;
      e->g = &w.g;
      e->when_ns = i;
      task::arm_claim(&w.g);
      (void)h.add(*e);
      for (int spin = i % 64; spin > 0; --spin) base::pause();
      if (task::try_claim(&w.g, 1)) {
        by_other.fetch_add(1, std::memory_order_relaxed);
      } else {
        by_deadline.fetch_add(1, std::memory_order_relaxed);
        while (w.readied.load(std::memory_order_acquire) == wakes) std::this_thread::yield();
        ++wakes;
      }
      heap::remove(*e);
      e->~entry();
      std::fill(std::begin(storage), std::end(storage), std::byte{0xa5});
      task::arm_claim(&w.g);
      for (int spin = i % 32; spin > 0; --spin) base::pause();
      if (w.g.claim.load(std::memory_order_acquire) != task::unclaimed) ++late_claims;
      if (w.readied.load(std::memory_order_acquire) != wakes) ++double_wakes;
    }
    --running;
  };
  auto expire_in_a_loop = [&] {
    while (running.load() != 0) {
      task::ready_list out;
      h.run_due(rounds, out);
      while (task::goroutine* g = out.pop_front()) {
        for (waiter& w : all) {
          if (&w.g == g) w.readied.fetch_add(1, std::memory_order_release);
        }
      }
      std::this_thread::yield();
    }
  };
  std::vector<std::thread> threads;
  for (waiter& w : all) threads.emplace_back(wait_in_a_loop, std::ref(w));
  for (int i = 0; i < 2; ++i) threads.emplace_back(expire_in_a_loop);
  for (auto& t : threads) t.join();
  EXPECT_EQ(late_claims.load(), 0);
  EXPECT_EQ(double_wakes.load(), 0);
  EXPECT_GT(by_deadline.load(), 0u) << "the race did not happen";
  EXPECT_GT(by_other.load(), 0u) << "the race did not happen";
}

}  // namespace
}  // namespace tuco::inline v1::timers
