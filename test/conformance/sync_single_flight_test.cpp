// SPDX-License-Identifier: Apache-2.0
// The promises of tuco/once_value.hpp and tuco/single_flight.hpp.
#include <tuco/once_value.hpp>
#include <tuco/single_flight.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <tuco/chan.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace std::chrono_literals;
using test::await_waiting;
using test::spawn;

class OnceValueTest : public test::runtime_test {};
TUCO_PROCESSORS(OnceValueTest);

TUCO_TEST(OnceValueTest, IsMadeOnceForAll) {
  std::atomic<int> made{0};
  once_value value([&] {
    tuco::yield();
    return std::make_unique<int>(++made);
  });
  EXPECT_FALSE(value.made());
  std::vector<test::spawned<int>> all;
  for (int g = 0; g < 8; ++g) all.push_back(spawn([&] { return *value.get(); }));
  for (auto& g : all) EXPECT_EQ(g.join(), 1);
  EXPECT_TRUE(value.made());
  EXPECT_EQ(*value.get(), 1);
}

TUCO_TEST(OnceValueTest, TriesAgainAfterAnException) {
  int tries = 0;
  once_value value([&] {
    if (++tries == 1) throw std::runtime_error("not yet");
    return tries;
  });
  EXPECT_THROW(static_cast<void>(value.get()), std::runtime_error);
  EXPECT_EQ(value.get(), 2);
  EXPECT_EQ(value.get(), 2);
}

TUCO_TEST(OnceValueTest, TheFunctionIsGoneWhenTheValueIsMade) {
  auto captured = std::make_shared<int>(7);
  std::weak_ptr<int> alive = captured;
  once_value value([captured = std::move(captured)] { return *captured; });
  EXPECT_EQ(value.get(), 7);
  EXPECT_TRUE(alive.expired());
}

class SingleFlightTest : public test::runtime_test {};
TUCO_PROCESSORS(SingleFlightTest);

TUCO_TEST(SingleFlightTest, OneDoesTheWorkForAllWhoAskMeanwhile) {
  single_flight<std::string, int> flights;
  chan<int> go_on(0);
  std::atomic<int> runs{0};
  const auto work = [&] {
    ++runs;
    return *go_on.recv();
  };
  auto leader = spawn([&] { return flights.call("k", work); });
  await_waiting(leader.id(), wait_reason::chan_receive);
  std::vector<test::spawned<single_flight<std::string, int>::result>> all;
  for (int g = 0; g < 5; ++g) {
    all.push_back(spawn([&] { return flights.call("k", work); }));
    await_waiting(all.back().id(), wait_reason::latch_wait);
  }
  EXPECT_EQ(flights.call("other", [] { return 1; }).value, 1) << "another key is another piece of work";
  go_on.send(42);
  for (auto& g : all) {
    const auto r = g.join();
    EXPECT_EQ(r.value, 42);
    EXPECT_TRUE(r.shared);
  }
  const auto first = leader.join();
  EXPECT_EQ(first.value, 42);
  EXPECT_TRUE(first.shared);
  EXPECT_EQ(runs, 1);
  const auto alone = flights.call("k", [] { return 7; });
  EXPECT_EQ(alone.value, 7) << "a result is not kept";
  EXPECT_FALSE(alone.shared);
}

TUCO_TEST(SingleFlightTest, AnExceptionReachesAll) {
  single_flight<int, int> flights;
  chan<int> go_on(0);
  const auto failing = [&]() -> int {
    static_cast<void>(go_on.recv());
    throw std::runtime_error("no");
  };
  const auto caught = [&] {
    try {
      flights.call(1, failing);
      return std::string("nothing");
    } catch (const std::runtime_error& e) {
      return std::string(e.what());
    }
  };
  auto leader = spawn(caught);
  await_waiting(leader.id(), wait_reason::chan_receive);
  auto follower = spawn(caught);
  await_waiting(follower.id(), wait_reason::latch_wait);
  go_on.send(0);
  EXPECT_EQ(leader.join(), "no");
  EXPECT_EQ(follower.join(), "no");
  EXPECT_EQ(flights.call(1, [] { return 3; }).value, 3);
}

TUCO_TEST(SingleFlightTest, IfTheWorkersGoroutineEndsAnotherDoesTheWork) {
  single_flight<int, int> flights;
  chan<int> go_on(0);
  auto leader = tuco::go([&] {
    flights.call(1, [&]() -> int {
      static_cast<void>(go_on.recv());
      goexit();
    });
  });
  await_waiting(leader, wait_reason::chan_receive);
  auto follower = spawn([&] { return flights.call(1, [] { return 5; }).value; });
  await_waiting(follower.id(), wait_reason::latch_wait);
  go_on.send(0);
  EXPECT_EQ(follower.join(), 5);
}

TUCO_TEST(SingleFlightTest, ForgottenWorkIsBegunAnew) {
  single_flight<int, int> flights;
  chan<int> go_on(0);
  auto old = spawn([&] { return flights.call(1, [&] { return *go_on.recv(); }).value; });
  await_waiting(old.id(), wait_reason::chan_receive);
  flights.forget(1);
  EXPECT_EQ(flights.call(1, [] { return 2; }).value, 2);
  go_on.send(1);
  EXPECT_EQ(old.join(), 1);
  flights.forget(99);
}

TUCO_TEST(SingleFlightTest, TimedCallGivesUpAndTheWorkGoesOn) {
  single_flight<int, int> flights;
  chan<int> go_on(0);
  EXPECT_FALSE(flights.call_for(1ms, 1, [&] { return *go_on.recv(); }));
  auto follower = spawn([&] { return flights.call(1, [] { return -1; }); });
  await_waiting(follower.id(), wait_reason::latch_wait);
  go_on.send(9);
  EXPECT_EQ(follower.join().value, 9);

  const auto in_time = flights.call_for(std::chrono::hours::max(), 1, [] { return 10; });
  ASSERT_TRUE(in_time);
  EXPECT_EQ(in_time->value, 10);
  EXPECT_FALSE(in_time->shared);
  EXPECT_THROW(flights.call_for(1h, 1, []() -> int { throw std::runtime_error("no"); }), std::runtime_error);
}

TUCO_TEST(SingleFlightTest, ManyKeysManyCallers) {
  single_flight<int, int> flights;
  std::atomic<int> runs{0};
  std::vector<test::spawned<void>> all;
  for (int g = 0; g < 8; ++g) {
    all.push_back(spawn([&, g] {
      for (int i = 0; i < 300; ++i) {
        const int key = (g + i) % 3;
        EXPECT_EQ(flights.call(key, [&] {
          ++runs;
          tuco::yield();
          return key * 10;
        }).value, key * 10);
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_LE(runs, 8 * 300);
  EXPECT_GT(runs, 0);
}

}  // namespace
}  // namespace tuco
