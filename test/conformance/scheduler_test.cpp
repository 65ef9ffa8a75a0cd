// SPDX-License-Identifier: Apache-2.0
// scheduler_test.cpp - the promises of tuco/run.hpp and tuco/go.hpp, with 1, 2 and 8 processors, and
// that no processor is held by code that has left the runtime.
#include <gtest/gtest.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include <tuco/chan.hpp>
#include <tuco/go.hpp>
#include <tuco/goroutines.hpp>
#include <tuco/run.hpp>
#include <tuco/wait_group.hpp>

#include "os/membarrier.hpp"
#include "sched/scheduler.hpp"

namespace tuco {
namespace {

class Scheduler : public ::testing::TestWithParam<int> {
 protected:
  template <class F>
  int in_runtime(F f) {
    return run(f, {.procs = GetParam()});
  }
};
INSTANTIATE_TEST_SUITE_P(Processors, Scheduler, ::testing::Values(1, 2, 8));

TEST_P(Scheduler, RunReturnsWhatTheMainGoroutineReturns) {
  EXPECT_EQ(in_runtime([] { return 42; }), 42);
  EXPECT_EQ(in_runtime([] {}), 0);
}

TEST_P(Scheduler, MainIsGoroutineWithAnIdAndANameAndItsStatusIsRunning) {
  in_runtime([] {
    const auto id = this_goroutine::id();
    EXPECT_NE(id, 0u);
    EXPECT_EQ(this_goroutine::name(), "main");
    bool found = false;
    for (const auto& g : goroutines()) {
      if (g.id != id) continue;
      found = true;
      EXPECT_EQ(g.status, goroutine_status::running);
    }
    EXPECT_TRUE(found);
  });
}

TEST_P(Scheduler, AHundredRuntimesOneAfterTheOther) {
  for (int i = 0; i < 100; ++i) {
    std::atomic<int> ran{0};
    in_runtime([&] {
      wait_group wg;
      wg.add(10);
      for (int k = 0; k < 10; ++k) {
        go([&] {
          ++ran;
          wg.done();
        });
      }
      wg.wait();
    });
    ASSERT_EQ(ran, 10);
  }
}

TEST_P(Scheduler, EverySpawnedGoroutineRunsOnce) {
  in_runtime([] {
    constexpr int count = 100'000;
    std::vector<std::atomic<int>> runs(count);
    wait_group wg;
    wg.add(count);
    for (int i = 0; i < count; ++i) {
      go([&, i] {
        ++runs[static_cast<std::size_t>(i)];
        wg.done();
      });
    }
    wg.wait();
    for (const auto& n : runs) ASSERT_EQ(n, 1);
  });
}

TEST_P(Scheduler, GoroutinesMayBeStartedFromPlainThreads) {
  in_runtime([] {
    constexpr int count = 1000;
    std::atomic<int> ran{0};
    chan<int> done(count);
    std::thread outside([&] {
      for (int i = 0; i < count; ++i) go([&ran, done] { ++ran; done.send(1); });
    });
    for (int i = 0; i < count; ++i) ASSERT_TRUE(done.recv());
    outside.join();
    EXPECT_EQ(ran, count);
  });
}

TEST_P(Scheduler, LargeClosuresLieOnTheHeapAndAreDestroyedOnce) {
  struct probe {
    std::atomic<int>* alive;
    std::array<char, 200> padding{};
    explicit probe(std::atomic<int>* n) : alive(n) { ++*alive; }
    probe(const probe& o) : alive(o.alive) { ++*alive; }
    ~probe() { --*alive; }
  };
  std::atomic<int> alive{0};
  in_runtime([&] {
    wait_group wg;
    wg.add(1);
    go([p = probe(&alive), &wg] { wg.done(); });
    wg.wait();
    while (alive != 0) yield();  // the closure dies after its function has returned
  });
  EXPECT_EQ(alive, 0);
}

TEST_P(Scheduler, GoexitRunsDestructorsAndEndsOnlyThisGoroutine) {
  in_runtime([] {
    std::atomic<bool> destroyed{false}, after{false};
    wait_group wg;
    wg.add(1);
    go([&] {
      struct guard {
        std::atomic<bool>& flag;
        wait_group& group;
        ~guard() {
          flag = true;
          group.done();
        }
      } g{destroyed, wg};
      goexit();
      after = true;
    });
    wg.wait();
    EXPECT_TRUE(destroyed);
    EXPECT_FALSE(after);
  });
}

TEST_P(Scheduler, AnExceptionInACopyOfTheClosureStartsNothing) {
  struct throws_on_copy {
    throws_on_copy() = default;
    throws_on_copy(const throws_on_copy&) { throw std::runtime_error("copy"); }
    void operator()() const {}
  };
  in_runtime([] {
    const throws_on_copy f;
    EXPECT_THROW(go(f), std::runtime_error);
    EXPECT_EQ(count_goroutines().total(), 1u);
  });
}

TEST_P(Scheduler, ALockedGoroutineKeepsItsThreadAndNobodyElseRunsThere) {
  in_runtime([] {
    wait_group wg;
    std::atomic<int> locked_thread{0};
    std::atomic<bool> stop{false};
    wg.add(2);
    go([&] {
      lock_thread();
      locked_thread = static_cast<int>(::syscall(SYS_gettid));
      for (int i = 0; i < 200; ++i) {
        yield();
        EXPECT_EQ(static_cast<int>(::syscall(SYS_gettid)), locked_thread);
      }
      unlock_thread();
      stop = true;
      wg.done();
    });
    go([&] {
      while (!stop) {
        if (locked_thread != 0 && !stop) {
          const int here = static_cast<int>(::syscall(SYS_gettid));
          if (!stop) {
            EXPECT_NE(here, locked_thread);
          }
        }
        yield();
      }
      wg.done();
    });
    wg.wait();
  });
}

TEST_P(Scheduler, BlockingSystemCallsHoldNoProcessor) {
  in_runtime([] {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const int readers = 2 * procs() + 1;
    wait_group wg;
    wg.add(readers);
    std::atomic<int> blocked{0};
    for (int i = 0; i < readers; ++i) {
      go([&] {
        char byte;
        ++blocked;
        EXPECT_EQ(::read(ends[0], &byte, 1), 1);  // a raw call, of which the runtime knows nothing
        wg.done();
      });
    }
    // More of them than processors: this goroutine gets here again only if they were taken away.
    while (blocked < readers) yield();
    const std::vector<char> bytes(static_cast<std::size_t>(readers));
    ASSERT_EQ(::write(ends[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    wg.wait();
    ::close(ends[0]);
    ::close(ends[1]);
  });
}

TEST_P(Scheduler, ComputingGoroutinesHoldNoProcessor) {
  in_runtime([] {
    std::atomic<bool> stop{false};
    const int hogs = procs() + 1;
    wait_group wg;
    wg.add(hogs);
    std::atomic<int> started{0};
    for (int i = 0; i < hogs; ++i) {
      go([&] {
        ++started;
        while (!stop) {
        }
        wg.done();
      });
    }
    // Only this goroutine can stop them, and it needs a processor for it.
    while (started < hogs) yield();
    stop = true;
    wg.wait();
  });
}

TEST_P(Scheduler, SetProcsWhileGoroutinesRun) {
  in_runtime([] {
    std::atomic<bool> stop{false};
    std::atomic<long> ran{0};
    wait_group wg;
    constexpr int workers = 8;
    wg.add(workers);
    for (int i = 0; i < workers; ++i) {
      go([&] {
        while (!stop) {
          wait_group inner;
          inner.add(1);
          go([&] {
            ++ran;
            inner.done();
          });
          inner.wait();
        }
        wg.done();
      });
    }
    for (int i = 0; i < 200; ++i) {
      set_procs(i % 2 == 0 ? 16 : 1);
      const long before = ran;
      while (ran < before + 10) yield();
    }
    stop = true;
    wg.wait();
    EXPECT_EQ(set_procs(GetParam()), 1);
  });
}

TEST_P(Scheduler, ReturningFromRunAbandonsWhatIsLeft) {
  in_runtime([] {
    for (int i = 0; i < 50; ++i) {
      go([] {
        for (;;) yield();
      });
    }
    chan<int> never(0);
    for (int i = 0; i < 50; ++i) go([never] { (void)never.recv(); });
    yield();
  });
  in_runtime([] { EXPECT_EQ(count_goroutines().total(), 1u); });
}

TEST_P(Scheduler, AMillionYieldsOfTwoGoroutinesAlternate) {
  in_runtime([] {
    wait_group wg;
    wg.add(2);
    for (int g = 0; g < 2; ++g) {
      go([&] {
        for (int i = 0; i < 500'000; ++i) yield();
        wg.done();
      });
    }
    wg.wait();
  });
}

/// Two pairs over one channel: one of them is always next and inherits the slice. What they do between two
/// turns of somebody else is limited by slices, of which the monitor ends each after ten milliseconds.
TEST_P(Scheduler, AGroupThatKeepsWakingItselfDoesNotKeepOthersOut) {
  in_runtime([] {
    const chan<int> values(3);
    std::atomic<bool> stop{false};
    wait_group all;
    for (int i = 0; i < 4; ++i) {
      all.add();
      go([&, i] {
        while (!stop) {
          if (i % 2 == 0) {
            try {
              values.send(1);
            } catch (const closed_error&) {
            }
          } else {
            static_cast<void>(values.recv());
          }
        }
        all.done();
      });
    }
    // Each time to the end of the queue, and back.
    for (int i = 0; i < 20; ++i) yield();
    stop = true;
    values.close();
    all.wait();
  });
}

/// In CI also where it is refused (cmake/tests.cmake).
TEST(Membarrier, IsUsedWhereTheKernelGrantsItAndNowhereElse) {
  run([] {
    const bool granted = ::syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
    EXPECT_EQ(os::membarrier_works(), granted);
  });
}

TEST(SchedulerOutside, GoOutsideOfRunThrows) { EXPECT_THROW(go([] {}), std::logic_error); }

TEST(SchedulerOutside, RunInsideRunThrows) {
  run([] { EXPECT_THROW(run([] {}), std::logic_error); });
}

TEST(SchedulerDeath, GoOfANilFunctionIsGoText) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run([] { go(std::function<void()>{}); }), ::testing::ExitedWithCode(2),
              "fatal error: go of nil func value");
}

TEST(SchedulerDeath, DeadlockIsGoTextAndShowsTheGoroutine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run([] {
                chan<int> c(0);
                (void)c.recv();
              }),
              ::testing::ExitedWithCode(2),
              "fatal error: all goroutines are asleep - deadlock!(.|\n)*goroutine [0-9]+ \\[chan receive\\]:");
}

TEST(SchedulerDeath, GoexitOfMainThenNothingLeftIsADeadlockOfItsOwnText) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run([] { goexit(); }), ::testing::ExitedWithCode(2),
              "fatal error: no goroutines \\(main called runtime.Goexit\\) - deadlock!");
}

TEST(SchedulerDeath, AnUncaughtExceptionIsAPanic) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run([] { throw std::runtime_error("boom"); }), ::testing::ExitedWithCode(2),
              "panic: std::runtime_error: boom\n\ngoroutine [0-9]+ \\[running\\]:");
}

TEST(SchedulerDeath, EndingTheThreadOfAGoroutineIsNamed) {
#ifdef TUCO_TSAN_FIBERS
  GTEST_SKIP() << "ThreadSanitizer ends the program first: pthread_exit on a fiber is a failed check of its own";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run([] { pthread_exit(nullptr); }), ::testing::ExitedWithCode(2),
              "goroutine ended its thread");
}

}  // namespace
}  // namespace tuco
