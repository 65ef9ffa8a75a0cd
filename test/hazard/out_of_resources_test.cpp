// SPDX-License-Identifier: Apache-2.0
// H13: no memory for stacks, no more threads.
//
// Danger      A goroutine that is runnable is lost when there is no stack to run it on or no thread to run
//             it; or the program ends where it could have gone on.
// Mitigation  go() throws std::system_error. A goroutine that finds no stack stays in the queue; a processor
//             for which no thread can be had goes back to the idle ones (sched/spawn.cpp, sched/idle.cpp).
// What each failing call does: test/fault.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <system_error>
#include <thread>

#include <tuco/chan.hpp>
#include <tuco/wait_group.hpp>

#include "base/sanitizer.hpp"
#include "fixture/runtime_test.hpp"
#include "os/fault.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class OutOfResources : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    // Limits stay with a process: each in one of its own.
    GTEST_FLAG_SET(death_test_style, "threadsafe");
#if defined(TUCO_BASE_ASAN) || defined(TUCO_TSAN_FIBERS)
    GTEST_SKIP() << "sanitizers need address space and threads of their own";
#endif
  }
};
TUCO_PROCESSORS(OutOfResources);

[[noreturn]] void fail(int line) {
  std::fprintf(stderr, "line %d\n", line);
  ::_exit(1);
}
#define MUST(condition) \
  if (!(condition)) fail(__LINE__)

void limit_address_space(std::size_t more) {
  FILE* statm = std::fopen("/proc/self/statm", "r");
  std::size_t pages = 0;
  MUST(statm != nullptr && std::fscanf(statm, "%zu", &pages) == 1);
  std::fclose(statm);
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  limit.rlim_cur = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + more;
  MUST(::setrlimit(RLIMIT_AS, &limit) == 0);
}

TEST_P(OutOfResources, WithoutMemoryForStacksGoThrowsAndNobodyIsLost) {
  EXPECT_EXIT(
      {
        tuco::run([] {
          const chan<int> end(0);
          std::atomic<std::size_t> ended{0};
          limit_address_space(std::size_t{400} << 20);
          for (int round = 0; round < 3; ++round) {
            std::size_t started = 0;
            int error = 0;
            try {
              for (; started < 100'000; ++started) {
                tuco::go([&] {
                  (void)end.recv();
                  ++ended;
                });
                tuco::yield();
              }
            } catch (const std::system_error& e) {
              error = e.code().value();
            }
            MUST(error == ENOMEM);
            MUST(started > 100);
            ended.store(0);
            while (ended.load() < started) {
              (void)end.try_send(1);
              tuco::yield();
            }
          }
        }, {.procs = GetParam()});
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "^$");
}

/// So that RLIMIT_NPROC holds: root may have as many threads as it likes.
void become_nobody() {
  if (::geteuid() == 0) MUST(::setuid(65534) == 0);
}

void limit_threads(rlim_t n) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NPROC, &limit);
  limit.rlim_cur = n;
  MUST(::setrlimit(RLIMIT_NPROC, &limit) == 0);
}

TEST_P(OutOfResources, WithoutThreadsRunThrowsAndMayBeTriedAgain) {
  EXPECT_EXIT(
      {
        become_nobody();
        rlimit before{};
        ::getrlimit(RLIMIT_NPROC, &before);
        for (int round = 0; round < 3; ++round) {
          limit_threads(0);
          int error = 0;
          try {
            tuco::run([] {}, {.procs = GetParam()});
          } catch (const std::system_error& e) {
            error = e.code().value();
          }
          MUST(error == EAGAIN);
          limit_threads(before.rlim_cur);
          MUST(tuco::run([] { return 5; }, {.procs = GetParam()}) == 5);
        }
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "^$");
}

// They block in the kernel, each on a thread, and there are none left: their processors find somebody
// when one of them comes back.
TEST_P(OutOfResources, WithoutMoreThreadsBlockedCallsDelayOthersAndNobodyIsLost) {
  EXPECT_EXIT(
      {
        become_nobody();
        tuco::run([] {
          int ends[2];
          MUST(::pipe2(ends, O_CLOEXEC) == 0);
          std::atomic<bool> done{false};
          // The bytes that they wait for come from outside; some, as long as anybody waits.
          std::thread feeder([&] {
            while (!done.load()) {
              static_cast<void>(!::write(ends[1], "", 1));
              ::usleep(500);
            }
          });
          limit_threads(0);
          tuco::wait_group all;
          for (int i = 0; i < 30; ++i) {
            all.add(2);
            tuco::go([&] {
              char c = 0;
              MUST(::read(ends[0], &c, 1) == 1);
              all.done();
            });
            tuco::go([&] {
              const chan<int> c(0);
              tuco::go([c] { c.send(7); });
              MUST(c.recv() == 7);
              all.done();
            });
          }
          all.wait();
          done.store(true);
          feeder.join();
        }, {.procs = GetParam()});
        ::_exit(0);
      },
      ::testing::ExitedWithCode(0), "^$");
}

}  // namespace
}  // namespace tuco
