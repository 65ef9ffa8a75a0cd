// SPDX-License-Identifier: Apache-2.0
// H21: the program ends while goroutines are alive.
//
// Danger      Static objects are destroyed while workers use them; a worker that is stuck keeps the
//             program from ending.
// Mitigation  run() returns, and exit() goes on, only when no worker is inside the runtime any more; one
//             that is outside blocks at its next entry (sched/lifecycle.cpp). What a goroutine computes
//             between two calls is like what a detached thread does: it goes on until the process ends.
// Other ways to end, and how long that takes: test/e2e/exit_test.cpp.
//
// A value whose moves look at a static object is sent over channels: code of the user's that runs inside
// the runtime. It must not run when that object is gone.
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include <tuco/chan.hpp>
#include <tuco/time.hpp>
#include <tuco/unix.hpp>

#include "fixture/runtime_test.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

constexpr std::uint32_t alive = 0x600dc0de;
constexpr int touched_too_late = 99;

struct watched {
  std::atomic<std::uint32_t> word{alive};
  ~watched() {
    word.store(0);
    ::usleep(3000);  // for those who still look
  }
};
watched the_object;

struct looks_at_it {
  looks_at_it() noexcept = default;
  looks_at_it(looks_at_it&&) noexcept { look(); }
  looks_at_it& operator=(looks_at_it&&) noexcept {
    look();
    return *this;
  }
  ~looks_at_it() = default;
  static void look() noexcept {
    if (the_object.word.load() != alive) ::_exit(touched_too_late);
  }
};

void start_nothing() {}

void start_parked() {
  static const tuco::chan<int> never(0);
  for (int i = 0; i < 100; ++i) tuco::go([] { (void)never.recv(); });
}

void start_traffic() {
  for (int i = 0; i < 10; ++i) {
    const tuco::chan<looks_at_it> c(static_cast<std::size_t>(i % 3));
    tuco::go([=] { for (;;) c.send(looks_at_it()); });
    tuco::go([=] { for (;;) (void)c.recv(); });
  }
}

void start_sleepers() {
  for (int i = 0; i < 50; ++i) {
    tuco::go([i] {
      for (;;) tuco::sleep_for(std::chrono::microseconds(i * 10));
    });
  }
  start_traffic();
}

void start_hogs() {
  for (int i = 0; i < 3; ++i) {
    tuco::go([] {
      for (volatile unsigned n = 0;;) n = n + 1;
    });
  }
  start_traffic();
}

void start_blocked() {
  static int ends[2];
  if (::pipe(ends) != 0) std::abort();
  for (int i = 0; i < 5; ++i) {
    tuco::go([] {
      char c = 0;
      static_cast<void>(!::read(ends[0], &c, 1));
    });
  }
  start_traffic();
}

void start_readers() {
  for (int i = 0; i < 8; ++i) {
    tuco::go([] {
      auto [a, b] = unix_conn::pair();
      for (char c = 0;;) {
        a.write("x");
        (void)b.read_some({&c, 1});
      }
    });
  }
  start_traffic();
}

void start_locked() {
  for (int i = 0; i < 2; ++i) {
    tuco::go([] {
      tuco::lock_thread();
      for (;;) tuco::yield();
    });
  }
  start_traffic();
}

struct state {
  const char* name;
  void (*start)();
};
constexpr state states[] = {
    {"Idle", &start_nothing},      {"Parked", &start_parked}, {"Traffic", &start_traffic},
    {"Sleepers", &start_sleepers}, {"Hogs", &start_hogs},     {"Blocked", &start_blocked},
    {"Readers", &start_readers},   {"Locked", &start_locked},
};

class Exit : public ::testing::TestWithParam<state> {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};
INSTANTIATE_TEST_SUITE_P(With, Exit, ::testing::ValuesIn(states),
                         [](const auto& s) { return std::string(s.param.name); });

int times() {
  const char* sizes = std::getenv("TUCO_STRESS");
  return sizes != nullptr && std::strcmp(sizes, "full") == 0 ? 1000 : 3;
}

constexpr int wanted = 7;
constexpr run_options options{.procs = 4};

void start_and_let_run(void (*start)()) {
  start();
  for (int i = 0; i < 5; ++i) tuco::yield();
}

TEST_P(Exit, ReturnFromRunThenFromMain) {
  for (int i = 0; i < times(); ++i) {
    EXPECT_EXIT(
        {
          const int status = tuco::run(
              [] {
                start_and_let_run(GetParam().start);
                return wanted;
              },
              options);
          std::exit(status);
        },
        ::testing::ExitedWithCode(wanted), "^$");
  }
}

TEST_P(Exit, ExitInAGoroutine) {
  for (int i = 0; i < times(); ++i) {
    EXPECT_EXIT(tuco::run(
                    [] {
                      start_and_let_run(GetParam().start);
                      tuco::go([] { std::exit(wanted); });
                      const tuco::chan<int> never(0);
                      (void)never.recv();
                    },
                    options),
                ::testing::ExitedWithCode(wanted), "^$");
  }
}

TEST_P(Exit, ExitOnAPlainThread) {
  for (int i = 0; i < times(); ++i) {
    EXPECT_EXIT(tuco::run(
                    [] {
                      start_and_let_run(GetParam().start);
                      std::thread([] { std::exit(wanted); }).detach();
                      const tuco::chan<int> never(0);
                      (void)never.recv();
                    },
                    options),
                ::testing::ExitedWithCode(wanted), "^$");
  }
}

}  // namespace
}  // namespace tuco
