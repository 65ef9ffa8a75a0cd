// SPDX-License-Identifier: Apache-2.0
// run_test.cpp - the life of a run: it opens whole or not at all, ends whatever goes on, and leaves nothing
// behind. The storms of it are in test/stress/fresh_runtime_test.cpp, exit() in test/e2e/exit_test.cpp.
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include <tuco/tuco.hpp>

#include "fixture/runtime_test.hpp"
#include "os/clock.hpp"
#include "os/fault.hpp"
#include "os/proc.hpp"
#include "sched/park.hpp"
#include "sched/scheduler.hpp"

namespace tuco {
namespace {

using namespace tuco::test;
using namespace std::chrono_literals;

class Run : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Processors, Run, ::testing::Values(1, 2, 8));

/// Until the kernel has taken those off its list that have been joined.
void await_threads(int wanted) {
  EXPECT_TRUE(await([&] { return os::thread_count() == wanted; }, "threads to end"));
}

/// What the monitor has to look after was due long before the main goroutine is there.
TEST_P(Run, BeginsWithATimerThatIsDueAndSeesNoDeadlock) {
  for (int i = 0; i < 300; ++i) {
    std::optional<timer> old;
    run([&] { old.emplace(1us); }, {.procs = GetParam()});
    const std::int64_t due = os::steady_now_ns() + 2'000;
    while (os::steady_now_ns() < due) {
    }
    EXPECT_EQ(run([] { return 5; }, {.procs = GetParam()}), 5);
  }
}

TEST_P(Run, ThrowsWhenItsThreadsAreRefusedAndCanBeCalledAgain) {
  if (!os::fault_injection) GTEST_SKIP() << "this build cannot make system calls fail";
  const int threads = os::thread_count();
  int thrown = 0;
  for (const std::uint64_t nth : {1, 2, 3}) {  // the reporter, without which it can do; the monitor; a worker
    bool ran = false;
    {
      os::scoped_fault refuse(os::call::thread_create, EAGAIN, nth);
      try {
        run([&] { ran = true; }, {.procs = GetParam()});
        EXPECT_TRUE(ran);
      } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::error_code(EAGAIN, std::system_category())) << error.what();
        EXPECT_FALSE(ran);
        ++thrown;
      }
      EXPECT_EQ(refuse.hits(), 1u);
    }
    EXPECT_THROW(go([] {}), std::logic_error);
    EXPECT_EQ(count_goroutines().total(), 0u);
    EXPECT_EQ(run([] { return 3; }, {.procs = GetParam()}), 3);
    await_threads(threads);
  }
  EXPECT_EQ(thrown, 2);
}

TEST_P(Run, GoesOnWithTheThreadsThatItHasAndTriesAgain) {
  if (!os::fault_injection) GTEST_SKIP() << "this build cannot make system calls fail";
  run(
      [] {
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        std::optional<os::scoped_fault> refuse;
        refuse.emplace(os::call::thread_create, EAGAIN);
        const int readers = procs() + 2;
        wait_group all;
        all.add(readers);
        std::atomic<int> blocked{0};
        for (int i = 0; i < readers; ++i) {
          go([&] {
            ++blocked;
            char byte = 0;
            EXPECT_EQ(::read(ends[0], &byte, 1), 1);
            all.done();
          });
        }
        // Each of us sits in the kernel in turn, and nobody can take our place. Comes back by itself.
        const timespec little{0, 30'000'000};
        ::nanosleep(&little, nullptr);
        EXPECT_GT(refuse->hits(), 0u);
        refuse.reset();
        await([&] { return blocked == readers; }, "threads, now that they can be had");
        const std::vector<char> bytes(static_cast<std::size_t>(readers));
        EXPECT_EQ(::write(ends[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
        all.wait();
        ::close(ends[0]);
        ::close(ends[1]);
      },
      {.procs = GetParam()});
}

TEST_P(Run, TheDestructorsOfThreadLocalsHaveRunWhenItReturns) {
  static std::atomic<int> made{0};
  static std::atomic<int> destroyed{0};
  struct slow {
    slow() { ++made; }
    ~slow() {
      const timespec little{0, 2'000'000};
      ::nanosleep(&little, nullptr);
      ++destroyed;
    }
    int uses = 0;
  };
  const int threads = os::thread_count();
  for (int i = 0; i < 5; ++i) {
    run(
        [] {
          wait_group all;
          for (int k = 0; k < 8; ++k) {
            all.add();
            go([&, k] {
              static thread_local slow of_this_thread;
              ++of_this_thread.uses;
              if (k % 2 == 0) lock_thread();  // its thread ends with it, in the middle of the run
              const timespec little{0, 200'000};
              ::nanosleep(&little, nullptr);
              all.done();
            });
          }
          all.wait();
        },
        {.procs = GetParam()});
    EXPECT_GT(made, 0);
    EXPECT_EQ(destroyed, made);
  }
  await_threads(threads);
}

/// A thousand threads end one after the other, and none waits to be joined.
TEST_P(Run, ThreadsThatEndWithTheirGoroutinesLeaveNoStackBehind) {
  run(
      [] {
        const auto in_turn = [](int n) {
          for (int i = 0; i < n; ++i) {
            wait_group one;
            one.add();
            go([&] {
              lock_thread();
              one.done();
            });
            one.wait();
          }
        };
        in_turn(50);
        const std::size_t before = os::mapping_count();
        in_turn(300);
        await([=] { return os::mapping_count() < before + 50; }, "threads to be joined");
      },
      {.procs = GetParam()});
}

/// One comes in again exactly as the run ends; it is inside and ends, or it is outside and kept out.
TEST_P(Run, EndsAtOnceWhileWorkersComeBackFromTheKernel) {
  const int abandoned = sched::the_scheduler.other_threads;
  const auto begin = std::chrono::steady_clock::now();
  constexpr int rounds = 200;
  for (int i = 0; i < rounds; ++i) {
    run(
        [i] {
          for (int k = 0; k < 4; ++k) {
            go([i, k] {
              const timespec little{0, 20'000 + 1'000 * ((7 * i + k) % 60)};
              for (;;) {
                ::nanosleep(&little, nullptr);
                yield();
              }
            });
          }
          sleep_for(100us);
        },
        {.procs = GetParam()});
  }
  // A worker that nobody waits for, or that waits for nobody, would cost a second each time.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 1s * rounds / 2);
  EXPECT_LE(sched::the_scheduler.other_threads - abandoned, 4 * rounds);
}

/// What plain threads bring when the run is over belongs to no other run: a goroutine runs in the run in which
/// its go() returned, or in one that it was called in.
TEST_P(Run, NothingOfAnEndedRunRunsInTheNext) {
  struct note {
    int returned_in = 0;
    std::atomic<int> ran_in{0};
  };
  std::atomic<int> now{0};
  std::atomic<bool> stop{false};
  std::vector<std::vector<std::shared_ptr<note>>> notes(2);
  std::vector<std::thread> threads;
  for (auto& mine : notes) {
    threads.emplace_back([&] {
      while (!stop) {
        auto n = std::make_shared<note>();
        try {
          go([&, n] { n->ran_in = now.load(); });
        } catch (const std::logic_error&) {  // between two runs
          continue;
        }
        n->returned_in = now;
        mine.push_back(std::move(n));
      }
    });
  }
  for (int i = 0; i < 200; ++i) {
    ++now;
    run(
        [] {
          for (int k = 0; k < 20; ++k) yield();
        },
        {.procs = GetParam()});
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  for (const auto& mine : notes) {
    for (const auto& n : mine) ASSERT_LE(n->ran_in, n->returned_in);
  }
}

/// A channel outlives its run; who waited in it does not.
TEST_P(Run, AWaiterOfAnEndedRunIsNotWokenInTheNext) {
  for (int i = 0; i < 30; ++i) {
    auto c = std::make_unique<chan<int>>(0);
    std::atomic<int> woken{0};
    std::atomic<bool> parked{false};
    std::thread sender;
    run(
        [&] {
          go([&] {
            static_cast<void>(c->recv());
            ++woken;
          });
          await_parked(1);
          sender = std::thread([&] { static_cast<void>(c->try_send(1)); });
        },
        {.procs = GetParam()});
    const int by_end = woken;
    run([] { for (int k = 0; k < 5; ++k) yield(); }, {.procs = GetParam()});
    sender.join();
    run([] { for (int k = 0; k < 5; ++k) yield(); }, {.procs = GetParam()});
    EXPECT_EQ(woken, by_end);
  }
}

TEST(RunClaim, OfManyCallsAtOnceOneRunsAndTheOthersTouchNothing) {
  std::atomic<int> inside{0};
  std::atomic<int> ran{0};
  std::atomic<int> refused{0};
  std::atomic<bool> handler_lost{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) {
        try {
          run([&] {
            EXPECT_EQ(++inside, 1);
            for (int k = 0; k < 20; ++k) yield();
            // Dumps on SIGQUIT: a refused call must not take the handler away from us.
            struct sigaction now {};
            sigaction(SIGQUIT, nullptr, &now);
            if (now.sa_handler == SIG_DFL) handler_lost = true;
            --inside;
            ++ran;
          });
        } catch (const std::logic_error&) {
          ++refused;
        }
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_GT(ran, 0);
  EXPECT_EQ(ran + refused, 400);
  EXPECT_FALSE(handler_lost);
}

/// The poller's commit action refuses when the descriptor became ready meanwhile. From then on the deadline
/// must not end this wait, or the goroutine would be made runnable while it runs.
TEST_P(Run, AWaitThatItsCommitActionRefusesIsClosedToTheDeadline) {
  run(
      [] {
        for (int i = 0; i < 2'000; ++i) {
          const sched::runtime_section section;
          sched::arm_claim(section.self());
          // Due at about the moment at which the action is run.
          const std::int64_t deadline = os::steady_now_ns() + i;
          const std::uint32_t by = sched::park_until(
              deadline, [](sched::goroutine*, void*) noexcept { return false; }, nullptr, wait_reason::sleep, nullptr);
          ASSERT_TRUE(by == sched::claimed_by_commit || by == sched::claimed_by_deadline) << by;
          ASSERT_FALSE(sched::try_claim(section.self(), sched::claimed_by_deadline));
        }
      },
      {.procs = GetParam()});
}

TEST(RunDeath, AProgramThatStandsStillForWantOfAThreadSaysSo) {
  if (!os::fault_injection) GTEST_SKIP() << "this build cannot make system calls fail";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        run(
            [] {
              sched::the_scheduler.shortage_limit_ns = 200'000'000;
              const os::scoped_fault refuse(os::call::thread_create, EAGAIN);
              go([] {});
              for (;;) ::pause();  // the only thread, and its processor has been taken
            },
            {.procs = 1});
      },
      ::testing::ExitedWithCode(2), "runtime: failed to create new OS thread \\(have [0-9]+ already; errno=11\\)\n"
                                    "(.|\n)*fatal error: newosproc");
}

TEST(RunDeath, AProgramThatStandsStillForWantOfAStackSaysSo) {
  if (!os::fault_injection) GTEST_SKIP() << "this build cannot make system calls fail";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        run(
            [] {
              sched::the_scheduler.shortage_limit_ns = 200'000'000;
              const os::scoped_fault refuse(os::call::mmap, ENOMEM);
              // Of a size of which there is none yet.
              go({.stack_size = 4 << 20}, [] {});
              static_cast<void>(chan<int>(0).recv());
            },
            {.procs = 2});
      },
      ::testing::ExitedWithCode(2), "fatal error: out of memory for goroutine stacks");
}

TEST_P(Run, GoSaysWhyThereIsNoStack) {
  if (!os::fault_injection) GTEST_SKIP() << "this build cannot make system calls fail";
  run(
      [] {
        const std::size_t size = std::size_t{2} << 20 << (procs() == 8 ? 3 : procs());  // of which there is none yet
        std::optional<os::scoped_fault> refuse;
        refuse.emplace(os::call::mmap, ENOMEM);
        std::atomic<bool> ran{false};
        go({.stack_size = size}, [&] { ran = true; });  // nobody knows yet
        const auto refused = [&] {
          try {
            go({.stack_size = size}, [] {});
          } catch (const std::system_error& error) {
            EXPECT_EQ(error.code(), std::error_code(ENOMEM, std::system_category()));
            EXPECT_NE(std::string(error.what()).find("address space for a goroutine's stack"), std::string::npos)
                << error.what();
            return true;
          }
          return false;
        };
        EXPECT_TRUE(await([&] { return refused(); }, "go to be refused"));
        refuse.reset();
        EXPECT_TRUE(await([&] { return ran.load(); }, "a stack, now that it can be had"));
      },
      {.procs = GetParam()});
}

}  // namespace
}  // namespace tuco
