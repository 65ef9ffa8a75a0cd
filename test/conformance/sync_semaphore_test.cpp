// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/semaphore.hpp.
#include <tuco/semaphore.hpp>

#include <array>
#include <chrono>
#include <thread>

#include "conformance/lifetime.hpp"
#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_waiting;
using test::spawn;

class SemaphoreTest : public test::runtime_test {};
TUCO_PROCESSORS(SemaphoreTest);

// Whoever calls it must see exactly this text of a misuse_error.
template <class F>
void expect_misuse(const char* text, F f) {
  try {
    f();
    ADD_FAILURE() << "nothing was thrown for: " << text;
  } catch (const misuse_error& e) {
    EXPECT_EQ(e.text(), text);
  }
}

TUCO_TEST(SemaphoreTest, NeverLetsInMoreThanItsSize) {
  semaphore s(5);
  std::atomic<std::int64_t> inside{0};
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 8; ++g) {
    all.push_back(spawn([&, g] {
      for (int i = 0; i < 500; ++i) {
        const std::int64_t n = 1 + (g + i) % 5;
        s.acquire(n);
        EXPECT_LE(inside += n, 5);
        if (i % 8 == 0) tuco::yield();
        inside -= n;
        s.release(n);
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(s.available(), 5);
  EXPECT_EQ(s.size(), 5);
}

TUCO_TEST(SemaphoreTest, AcquireParksUntilReleased) {
  semaphore s(1);
  s.acquire();
  auto waiter = spawn([&] { s.acquire(); });
  await_waiting(waiter.id(), wait_reason::semaphore_acquire);
  EXPECT_EQ(test::look_at(waiter.id())->wait_object, &s);
  EXPECT_EQ(to_string(wait_reason::semaphore_acquire), "semaphore acquire");
  s.release();
  waiter.join();
  EXPECT_EQ(s.available(), 0);
  s.release();
}

TUCO_TEST(SemaphoreTest, TryAcquireNeverParksAndNeverOvertakes) {
  semaphore s(4);
  EXPECT_TRUE(s.try_acquire(3));
  EXPECT_FALSE(s.try_acquire(2));
  auto large = spawn([&] {
    s.acquire(4);
    s.release(4);
  });
  await_waiting(large.id(), wait_reason::semaphore_acquire);
  EXPECT_EQ(s.available(), 1);
  EXPECT_FALSE(s.try_acquire(1)) << "there is one, but somebody waits";
  s.release(3);
  large.join();
  EXPECT_TRUE(s.try_acquire(4));
  s.release(4);
}

TUCO_TEST(SemaphoreTest, OneThatAsksForMuchIsNotOvertaken) {
  semaphore s(3);
  s.acquire(2);
  std::atomic<int> come{0};
  std::array<std::atomic<int>, 4> place{};
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(spawn([&, i] {
      const int n = std::array{3, 1, 2, 1}[i];
      s.acquire(n);
      place[i] = ++come;
      s.release(n);
    }));
    await_waiting(all.back().id(), wait_reason::semaphore_acquire);
  }
  s.release(2);
  for (auto& g : all) g.join();
  EXPECT_EQ(place[0], 1) << "those behind the first, which asks for all, would have fitted";
}

TUCO_TEST(SemaphoreTest, OneReleaseLetsInAllThatFit) {
  semaphore s(4);
  s.acquire(4);
  std::atomic<int> in{0};
  std::vector<test::spawned<void>> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(spawn([&] {
      s.acquire();
      ++in;
    }));
    await_waiting(all.back().id(), wait_reason::semaphore_acquire);
  }
  s.release(3);
  ASSERT_TRUE(test::await([&] { return in == 3; }));
  EXPECT_EQ(test::look_at(all[3].id())->reason, wait_reason::semaphore_acquire);
  s.release(1);
  for (auto& g : all) g.join();
  s.release(4);
}

TUCO_TEST(SemaphoreTest, TimedAcquireTimesOutNeverEarly) {
  semaphore s(1);
  s.acquire();
  for (const auto timeout : {0us, 200us, 3'000us}) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(s.try_acquire_for(timeout));
    EXPECT_GE(std::chrono::steady_clock::now() - start, timeout);
  }
  EXPECT_FALSE(s.try_acquire_until(std::chrono::steady_clock::now() - 1h));
  auto waiter = spawn([&] { return s.try_acquire_for(1h); });
  await_waiting(waiter.id(), wait_reason::semaphore_acquire);
  s.release();
  EXPECT_TRUE(waiter.join());
  s.release();
}

TUCO_TEST(SemaphoreTest, OneThatGivesUpLetsThoseBehindItIn) {
  semaphore s(2);
  s.acquire(1);
  std::atomic<bool> small_waits{false};
  auto large = spawn([&] {
    // As long as it takes until the small one waits behind us.
    while (!small_waits) {
      if (s.try_acquire_for(1ms, 2)) {
        ADD_FAILURE() << "two of one";
        s.release(2);
      }
    }
  });
  auto small = spawn([&] {
    while (s.try_acquire()) {  // it fits, and the large one did not wait just now
      s.release();
      tuco::yield();
    }
    small_waits = true;
    s.acquire();
    s.release();
  });
  small.join();
  large.join();
  s.release();
  EXPECT_EQ(s.available(), 2);
}

TUCO_TEST(SemaphoreTest, StormOfTimedAttempts) {
  semaphore s(3);
  std::atomic<std::int64_t> inside{0};
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 8; ++g) {
    all.push_back(spawn([&, g] {
      for (int i = 0; i < 300; ++i) {
        const std::int64_t n = 1 + (g + i) % 3;
        if (!s.try_acquire_for(std::chrono::microseconds((g * 37 + i * 11) % 150), n)) continue;
        EXPECT_LE(inside += n, 3);
        if (i % 4 == 0) tuco::yield();
        inside -= n;
        s.release(n);
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(s.available(), 3);
}

TUCO_TEST(SemaphoreTest, MisuseThrowsAndChangesNothing) {
  semaphore s(2);
  expect_misuse("semaphore: released more than held", [&] { s.release(); });
  expect_misuse("semaphore: acquire of more than its size", [&] { s.acquire(3); });
  expect_misuse("semaphore: negative number", [&] { s.acquire(-1); });
  expect_misuse("semaphore: negative number", [&] { s.release(-1); });
  expect_misuse("semaphore: negative number", [&] { static_cast<void>(s.try_acquire(-1)); });
  expect_misuse("semaphore: size out of range", [] { semaphore(-1); });
  expect_misuse("semaphore: size out of range", [] { semaphore(INT64_MAX); });
  EXPECT_FALSE(s.try_acquire(3));
  EXPECT_EQ(s.available(), 2);
  s.acquire(0);
  s.release(0);
  EXPECT_EQ(s.available(), 2);
}

TUCO_TEST(SemaphoreTest, PermitGivesBackOnce) {
  semaphore s(3);
  {
    semaphore::permit a(s, 2);
    EXPECT_EQ(s.available(), 1);
    semaphore::permit b(std::move(a));
    EXPECT_FALSE(a);
    EXPECT_TRUE(b);
    semaphore::permit c(s);
    c = std::move(b);  // gives its one back
    EXPECT_EQ(s.available(), 1);
    c.release();
    EXPECT_EQ(s.available(), 3);
  }
  EXPECT_EQ(s.available(), 3);
}

TUCO_TEST(SemaphoreTest, PlainThreadsTakePart) {
  semaphore s(2);
  std::atomic<int> inside{0};
  const auto work = [&] {
    for (int i = 0; i < 300; ++i) {
      semaphore::permit one(s);
      EXPECT_LE(++inside, 2);
      --inside;
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) threads.emplace_back(work);
  auto a = spawn(work);
  auto b = spawn(work);
  a.join();
  b.join();
  for (auto& t : threads) t.join();
}

TUCO_TEST(SemaphoreTest, MayBeDestroyedByWhoeverHadItLast) {
  test::last_holder_destroys<semaphore>([] { return semaphore(1); },
                                        [](semaphore& s, auto time) { if (s.try_acquire_for(time)) s.release(); },
                                        [](semaphore& s) { s.acquire(); }, [](semaphore& s) { s.release(); });
}

}  // namespace
}  // namespace tuco
