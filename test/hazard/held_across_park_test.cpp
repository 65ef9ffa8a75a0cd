// SPDX-License-Identifier: Apache-2.0
// H7, H8, H20: what is held while a goroutine parks, blocks or computes.
//
// H7          A std::mutex held across a park is undefined once the goroutine moves. tuco::mutex belongs
//             to the goroutine, not to the thread, and may be held across anything.
// H8          The initialiser of a function-local static parks. Whoever comes next blocks its whole thread
//             in __cxa_guard_acquire, in the kernel, where no runtime can see why.
// H20         A goroutine computes, or blocks in a call that nobody knows of, and everybody that waits
//             for its processor starves.
// Mitigation  H8, H20: the processor is taken from a thread that is outside the runtime for too long
//             (sched/monitor.cpp); the thread keeps what it holds, others run on.
#include <unistd.h>

#include <array>
#include <functional>
#include <mutex>
#include <utility>

#include <tuco/chan.hpp>
#include <tuco/mutex.hpp>
#include <tuco/time.hpp>

#include "hazard/away.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class HeldAcrossPark : public runtime_test {};
TUCO_PROCESSORS(HeldAcrossPark);

// A lock that belongs to the thread lets the next goroutine in that comes there, and is unlocked by another
// thread, or never.
TUCO_TEST(HeldAcrossPark, OurMutexGoesWithTheGoroutine) {
  tuco::mutex m;
  int guarded = 0;
  std::vector<spawned<void>> all;
  for (int i = 0; i < 4; ++i) {
    all.push_back(spawn([&] {
      for (int round = 0; round < 3; ++round) {
        const std::scoped_lock lock(m);
        const int before = guarded;
        EXPECT_EQ(m.owner(), this_goroutine::id());
        const away trip;
        EXPECT_EQ(m.owner(), this_goroutine::id());
        EXPECT_EQ(guarded, before) << "somebody else was inside";
        guarded = before + 1;
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(guarded, 12);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

TUCO_TEST(HeldAcrossPark, TwoOfOursAreTakenTogetherAndHeldAcrossAPark) {
  tuco::mutex a, b;
  int guarded = 0;
  auto work = [&](tuco::mutex& first, tuco::mutex& second) {
    for (int round = 0; round < 50; ++round) {
      const std::scoped_lock lock(first, second);
      const int before = guarded;
      tuco::yield();
      guarded = before + 1;
    }
  };
  auto one = spawn([&] { work(a, b); });
  auto two = spawn([&] { work(b, a); });
  one.join();
  two.join();
  EXPECT_EQ(guarded, 100);
}

// Two goroutines play ping-pong; with one processor they can only while others do not hold it.
void play(int rounds) {
  chan<int> ping(0), pong(0);
  auto partner = spawn([=] {
    for (int n : ping) pong.send(n);
  });
  for (int i = 0; i < rounds; ++i) {
    ping.send(i);
    ASSERT_EQ(pong.recv(), i);
  }
  ping.close();
  partner.join();
}

// A process initialises a static once, and the test runs several times: a function of its own for each.
std::atomic<int> initialised{0};
using reach_static = int (*)(const std::function<void()>& park);
template <std::size_t N>
int reach_numbered(const std::function<void()>& park) {
  static const int value = [&] {
    park();
    return ++initialised;
  }();
  return value;
}
template <std::size_t... N>
constexpr std::array<reach_static, sizeof...(N)> make_statics(std::index_sequence<N...>) {
  return {&reach_numbered<N>...};
}
constexpr auto statics = make_statics(std::make_index_sequence<300>());

TUCO_TEST(HeldAcrossPark, AStaticWhoseInitialiserParksStopsNobodyElse) {
  static std::size_t used = 0;
  if (used == statics.size()) GTEST_SKIP() << "repeated so often that no static is left";
  const reach_static function = statics[used++];
  chan<int> inside(1), go_on(0);
  const auto reach = [&] {
    return function([=] {
      inside.send(1);
      (void)go_on.recv();
    });
  };
  initialised.store(0);
  auto first = spawn(reach);
  (void)inside.recv();
  std::atomic<int> at_the_door{0};
  std::vector<spawned<int>> others;
  for (int i = 0; i < 3; ++i) {
    others.push_back(spawn([&] {
      ++at_the_door;
      return reach();
    }));
  }
  await([&] { return at_the_door.load() == 3; }, "the others to come");
  play(200);
  EXPECT_EQ(initialised.load(), 0);
  go_on.send(1);
  EXPECT_EQ(first.join(), 1);
  for (auto& g : others) EXPECT_EQ(g.join(), 1);
}

TUCO_TEST(HeldAcrossPark, AHogStopsNobodyElse) {
  std::atomic<bool> stop{false};
  std::vector<spawned<void>> hogs;
  for (int i = 0; i < tuco::procs(); ++i) {
    hogs.push_back(spawn([&] {
      while (!stop.load(std::memory_order_relaxed)) {
      }
    }));
  }
  play(50);
  sleep_for(std::chrono::milliseconds(1));
  stop.store(true);
  for (auto& g : hogs) g.join();
}

TUCO_TEST(HeldAcrossPark, ABlockingCallStopsNobodyElse) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  std::vector<spawned<void>> blocked;
  for (int i = 0; i < 2 * tuco::procs(); ++i) {
    blocked.push_back(spawn([&] {
      char c = 0;
      EXPECT_EQ(::read(ends[0], &c, 1), 1);
    }));
  }
  play(50);
  sleep_for(std::chrono::milliseconds(1));
  for (std::size_t i = 0; i < blocked.size(); ++i) EXPECT_EQ(::write(ends[1], "", 1), 1);
  for (auto& g : blocked) g.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace tuco
