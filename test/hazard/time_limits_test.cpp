// SPDX-License-Identifier: Apache-2.0
// H33: the ends of time.
//
// Danger      now() + max() is a moment long ago; a duration that is rounded down ends early; a clock that
//             is set changes how long a wait lasts.
// Mitigation  tuco/detail/deadline.hpp rounds up and saturates; INT64_MAX never passes; all waits are
//             absolute times of CLOCK_MONOTONIC (os/clock.hpp).
// Below: src/sync/deadline_test.cpp, src/timer/heap_test.cpp, src/os/clock_test.cpp.
#include <chrono>
#include <functional>
#include <limits>
#include <mutex>
#include <string>

#include <tuco/chan.hpp>
#include <tuco/condition_variable.hpp>
#include <tuco/mutex.hpp>
#include <tuco/select.hpp>
#include <tuco/time.hpp>
#include <tuco/unix.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace tuco::test;
using namespace std::chrono;

class TimeLimits : public runtime_test {};
TUCO_PROCESSORS(TimeLimits);

/// Everything that takes a duration; each returns true when it was the time that ended it. `release` ends
/// the wait of each otherwise.
struct timed_wait {
  const char* name;
  std::function<bool(nanoseconds)> wait;
  std::function<void()> release;
};

struct scene {
  chan<int> received{0};
  chan<int> sent{0};
  chan<int> selected{0};
  tuco::mutex held;
  tuco::mutex of_condition;
  tuco::condition_variable condition;
  bool notified = false;
  std::pair<unix_conn, unix_conn> conn = unix_conn::pair();

  std::vector<timed_wait> waits() {
    return {
        {"recv_for",
         [this](nanoseconds d) {
           int v = 0;
           return received.recv_for(v, d) == chan_status::timed_out;
         },
         [this] { received.send(1); }},
        {"send_for", [this](nanoseconds d) { return sent.send_for(1, d) == chan_status::timed_out; },
         [this] { (void)sent.recv(); }},
        {"select",
         [this](nanoseconds d) {
           bool late = false;
           tuco::select(on_recv(selected, [](auto) {}), on_timeout(d, [&] { late = true; }));
           return late;
         },
         [this] { selected.send(1); }},
        {"mutex",
         [this](nanoseconds d) {
           const bool got = held.try_lock_for(d);
           if (got) held.unlock();
           return !got;
         },
         [this] {
           held.unlock();
         }},
        {"condition_variable",
         [this](nanoseconds d) {
           std::unique_lock lock(of_condition);
           return !condition.wait_for(lock, d, [this] { return notified; });
         },
         [this] {
           const std::scoped_lock lock(of_condition);
           notified = true;
           condition.notify_all();
         }},
        {"read",
         [this](nanoseconds d) {
           const auto now = steady_clock::now();
           const auto until = d > steady_clock::time_point::max() - now ? steady_clock::time_point::max() : now + d;
           conn.first.set_read_deadline(until);
           char c = 0;
           std::error_code ec;
           (void)conn.first.read_some({&c, 1}, ec);
           return ec == std::errc::timed_out;
         },
         [this] { conn.second.write("x"); }},
    };
  }
};

constexpr nanoseconds gone_by[] = {nanoseconds(0), nanoseconds(-1), seconds(-1), nanoseconds::min(),
                                   nanoseconds::min() + nanoseconds(1)};
constexpr nanoseconds too_far[] = {nanoseconds::max(), nanoseconds::max() - nanoseconds(1), hours(24 * 365 * 200)};

TUCO_TEST(TimeLimits, WhatIsGoneByEndsAtOnce) {
  scene s;
  s.held.lock();
  for (const timed_wait& w : s.waits()) {
    for (const nanoseconds d : gone_by) EXPECT_TRUE(w.wait(d)) << w.name << ' ' << d.count();
  }
  for (const nanoseconds d : gone_by) {
    sleep_for(d);
    EXPECT_TRUE(after(d).recv().has_value());
    sleep_until(steady_clock::time_point(d));
  }
  sleep_for(hours::min());
  sleep_for(duration<double>(-std::numeric_limits<double>::infinity()));
  s.held.unlock();
}

TUCO_TEST(TimeLimits, WhatIsTooFarAwayNeverEnds) {
  for (const nanoseconds d : too_far) {
    scene s;
    s.held.lock();
    for (const timed_wait& w : s.waits()) {
      auto waiter = spawn([&] { return w.wait(d); });
      await([&] {
        const auto g = look_at(waiter.id());
        return !g || g->status == goroutine_status::waiting;
      }, w.name);
      // A wait that wrapped around is over by now, or at the next look at the timers.
      for (int i = 0; i < 50; ++i) tuco::yield();
      sleep_for(microseconds(50));
      ASSERT_FALSE(waiter.done()) << w.name << ' ' << d.count();
      w.release();
      EXPECT_FALSE(waiter.join()) << w.name << ' ' << d.count();
    }
  }
}

TUCO_TEST(TimeLimits, ASleepForEverSleeps) {
  const std::function<void()> sleeps[] = {
      [] { sleep_for(nanoseconds::max()); },
      [] { sleep_for(hours::max()); },
      [] { sleep_for(duration<double>(std::numeric_limits<double>::infinity())); },
      [] { sleep_until(steady_clock::time_point::max()); },
      [] { (void)after(hours::max()).recv(); },
      [] { (void)after(nanoseconds::max()).recv(); },
  };
  std::vector<goroutine_id> ids;
  for (const auto& f : sleeps) ids.push_back(tuco::go(f));
  await_parked(std::size(sleeps));
  sleep_for(milliseconds(1));
  for (const goroutine_id id : ids) {
    const auto g = look_at(id);
    EXPECT_TRUE(g && g->status == goroutine_status::waiting);
  }
  leaves_behind(std::size(sleeps));
}

// Fractions of a nanosecond, and of the kernel's own units, round up.
TUCO_TEST(TimeLimits, NothingEndsEarly) {
  using femtoseconds = duration<std::int64_t, std::femto>;
  using thirds = duration<std::int64_t, std::ratio<1, 3'000'000>>;
  std::vector<spawned<void>> all;
  std::atomic<int> early{0};
  for (int i = 0; i < 100; ++i) {
    all.push_back(spawn([&, i] {
      for (int k = 0; k < 20; ++k) {
        const auto from = steady_clock::now();
        if ((i + k) % 3 == 0) {
          const femtoseconds d(100'000'000'001 + i * 1'000'000'007L);
          sleep_for(d);
          early += steady_clock::now() - from < d;
        } else if ((i + k) % 3 == 1) {
          const thirds d(301 + i);
          sleep_for(d);
          early += steady_clock::now() - from < d;
        } else {
          const auto d = nanoseconds(100'001 + i * 997);
          chan<int> nothing(0);
          int v = 0;
          EXPECT_EQ(nothing.recv_for(v, d), chan_status::timed_out);
          early += steady_clock::now() - from < d;
        }
      }
    }));
  }
  for (auto& g : all) g.join();
  EXPECT_EQ(early.load(), 0);
}

}  // namespace
}  // namespace tuco
