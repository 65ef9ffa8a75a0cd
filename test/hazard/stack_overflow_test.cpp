// SPDX-License-Identifier: Apache-2.0
// H9, H10, H11: a goroutine's stack is full.
//
// H9          A large frame or alloca jumps over the guard and writes to a neighbour's stack.
//             Mitigation: -fstack-clash-protection, an INTERFACE option of tuco::tuco (cmake/flags.cmake),
//             probes each page on the way; guards of up to 64 KiB (task/stack_pool.hpp) for code that was
//             compiled without it.
// H10         The handler needs a stack of its own, or the process dies without a word.
//             Mitigation: os::install_signal_stack() for each worker, SA_ONSTACK, a report that names the
//             goroutine (observe/crash.cpp); other faults go to the handler that was there before.
// H11         A handler of the application without SA_ONSTACK runs on the goroutine's stack.
//             Mitigation: it hits the guard like any other frame; where the kernel finds no room for the
//             signal's frame at all, the report says so.
// Below the runtime: src/task/stack_guard_test.cpp.
#include <alloca.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include <tuco/go.hpp>
#include <tuco/run.hpp>
#include <tuco/wait_group.hpp>

#include "base/sanitizer.hpp"
#include "fixture/runtime_test.hpp"
#include "os/thread.hpp"

#ifdef TUCO_BASE_ASAN
#define TUCO_NEEDS_PLAIN_FRAMES() GTEST_SKIP() << "AddressSanitizer moves large frames off the stack"
#else
#define TUCO_NEEDS_PLAIN_FRAMES() static_cast<void>(0)
#endif

namespace tuco {
namespace {

class StackOverflow : public ::testing::Test {
 protected:
  // Each death in a process of its own that has had no runtime before.
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

char* volatile escaped;  // keeps the optimizer from seeing that nobody looks
volatile std::size_t large = 300 << 10;

[[gnu::noinline]] void use(char* p) {
  escaped = p;
  *p = 1;
}
[[gnu::noinline]] int recurse_for_ever(int depth) {
  char frame[200];
  use(frame);
  if (depth < 0) return 0;
  return recurse_for_ever(depth + 1) + frame[0];
}
[[gnu::noinline]] void large_frame() {
  char frame[300 << 10];
  use(frame);
}
[[gnu::noinline]] void large_alloca() { use(static_cast<char*>(alloca(large))); }
[[gnu::noinline]] void large_array() {
  char frame[large];
  use(frame);
}

/// In the child: overflows the stack of a goroutine "victim", among others that are parked around it.
void overflow(void (*how)(), std::size_t stack_size = 64 << 10) {
  tuco::run([&] {
    tuco::wait_group never;
    never.add(1);
    for (int i = 0; i < 50; ++i) tuco::go({.stack_size = stack_size}, [&] { never.wait(); });
    tuco::go({.name = "victim", .stack_size = stack_size}, [how] { how(); });
    never.wait();
  });
}

/// What is printed, and in which order.
std::string report(const std::string& size, const std::string& function) {
  return "runtime: goroutine [0-9]+ \"victim\" stack overflow \\(" + size +
         " KiB, created at [^\n]*stack_overflow_test\\.cpp:[0-9]+\\)\n"
         "fatal error: stack overflow\n"
         "\n"
         "goroutine [0-9]+ \\[running\\]:\n"
         "(.|\n)*" + function + "(.|\n)*created by (.|\n)*in goroutine 1\n";
}

TEST_F(StackOverflow, OfRecursionIsReported) {
  EXPECT_EXIT(overflow([] { recurse_for_ever(0); }), ::testing::ExitedWithCode(2),
              report("64", "recurse_for_ever"));
}

TEST_F(StackOverflow, OfTheDefaultStackIsReported) {
  EXPECT_EXIT(overflow([] { recurse_for_ever(0); }, 0), ::testing::ExitedWithCode(2),
              report("256", "recurse_for_ever"));
}

// Without -fstack-clash-protection the frame's only access lies 300 KiB below, on somebody else's stack, and
// nothing is noticed.
TEST_F(StackOverflow, OfALargeFrameIsReported) {
  TUCO_NEEDS_PLAIN_FRAMES();
  EXPECT_EXIT(overflow(&large_frame), ::testing::ExitedWithCode(2), report("64", "large_frame"));
}

TEST_F(StackOverflow, OfAllocaIsReported) {
  TUCO_NEEDS_PLAIN_FRAMES();
  EXPECT_EXIT(overflow(&large_alloca), ::testing::ExitedWithCode(2), report("64", "large_alloca"));
}

TEST_F(StackOverflow, OfAVariableArrayIsReported) {
  TUCO_NEEDS_PLAIN_FRAMES();
  EXPECT_EXIT(overflow(&large_array), ::testing::ExitedWithCode(2), report("64", "large_array"));
}

// With a frame that fits into the goroutine's stack all is well: probing costs nothing but time.
TEST_F(StackOverflow, ALargeStackTakesALargeFrame) {
  int done = 0;
  tuco::run([&] {
    tuco::wait_group all;
    all.add(1);
    tuco::go({.stack_size = 1 << 20}, [&] {
      large_frame();
      large_alloca();
      large_array();
      ++done;
      all.done();
    });
    all.wait();
  });
  EXPECT_EQ(done, 1);
}

// -- H10

TEST_F(StackOverflow, EveryWorkerHasASignalStackOfItsOwn) {
  std::mutex lock;
  std::map<void*, pid_t> owner;
  const auto look = [&] {
    stack_t mine{};
    ASSERT_EQ(::sigaltstack(nullptr, &mine), 0);
    ASSERT_EQ(mine.ss_flags & SS_DISABLE, 0);
    EXPECT_GE(mine.ss_size, os::signal_stack_size());
    const std::scoped_lock guard(lock);
    const auto [at, fresh] = owner.emplace(mine.ss_sp, ::gettid());
    EXPECT_TRUE(fresh || at->second == ::gettid()) << "two threads share one";
  };
  tuco::run([&] {
    std::vector<test::spawned<void>> all;
    std::atomic<int> there{0};
    // They wait for each other without a runtime call, so that each has a thread.
    for (int i = 0; i < 8; ++i) {
      all.push_back(test::spawn([&] {
        look();
        ++there;
        while (there.load() < 8) ::usleep(100);
      }));
    }
    for (auto& g : all) g.join();
  }, {.procs = 4});
  EXPECT_GE(owner.size(), 8u);
}

void users_handler(int, siginfo_t* info, void*) {
  const char text[] = "the application's own handler\n";
  static_cast<void>(!::write(2, text, sizeof text - 1));
  ::_exit(info->si_addr == reinterpret_cast<void*>(0x10) ? 42 : 43);
}

void install_users_handler() {
  struct sigaction action {};
  action.sa_sigaction = &users_handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGSEGV, &action, nullptr);
}

volatile std::uintptr_t nowhere = 0x10;
[[gnu::noinline]] void touch_nowhere() { *reinterpret_cast<volatile char*>(nowhere) = 1; }

TEST_F(StackOverflow, OtherFaultsGoToTheApplicationsHandler) {
  EXPECT_EXIT(
      {
        install_users_handler();
        overflow(&touch_nowhere);
      },
      ::testing::ExitedWithCode(42), "^the application's own handler\n$");
}

TEST_F(StackOverflow, IsReportedAlsoWhereTheApplicationHasAHandler) {
  EXPECT_EXIT(
      {
        install_users_handler();
        overflow([] { recurse_for_ever(0); });
      },
      ::testing::ExitedWithCode(2), report("64", "recurse_for_ever"));
}

TEST_F(StackOverflow, OtherFaultsEndTheProcessAsEver) {
#ifdef TUCO_BASE_ASAN
  GTEST_SKIP() << "AddressSanitizer has its own handler and its own status";
#endif
  EXPECT_EXIT(overflow(&touch_nowhere), ::testing::KilledBySignal(SIGSEGV), "");
}

// The application's handler is back when run() has returned.
TEST_F(StackOverflow, TheApplicationsHandlerIsLeftInPlace) {
  EXPECT_EXIT(
      {
        install_users_handler();
        tuco::run([] {});
        touch_nowhere();
      },
      ::testing::ExitedWithCode(42), "the application's own handler");
}

// -- H11

void do_nothing(int) {}

void install_foreign_handler(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;  // and no SA_ONSTACK
  ::sigaction(SIGUSR1, &action, nullptr);
}

/// Runs `then` with about `left` bytes of a stack of 16 KiB.
[[gnu::noinline]] void with_little_stack(std::size_t left, void (*then)()) {
  char here = 0;
  // The slot is a power of two, its lowest sixteenth (at least a page) the guard.
  constexpr std::size_t slot = 16 << 10;
  const auto at = reinterpret_cast<std::uintptr_t>(&here);
  const std::size_t free = at % slot - 4096;
  if (free <= left) return;
  use(static_cast<char*>(alloca(free - left)));
  then();
  escaped = nullptr;
}

/// Like raise(), but takes next to no stack, also the first time.
pid_t own_process, own_thread;
void find_oneself() {
  own_process = ::getpid();
  own_thread = static_cast<pid_t>(::syscall(SYS_gettid));
}
void signal_oneself() { ::syscall(SYS_tgkill, own_process, own_thread, SIGUSR1); }

// A foreign handler that fits runs on the goroutine's stack and harms nobody.
TEST_F(StackOverflow, AForeignHandlerThatFitsDoesNoHarm) {
  install_foreign_handler(&do_nothing);
  int whole = 0;
  tuco::run([&] {
    std::atomic<bool> stop{false};
    std::thread storm([&] {
      while (!stop.load()) {
        ::kill(::getpid(), SIGUSR1);
        ::usleep(200);
      }
    });
    std::vector<test::spawned<bool>> all;
    for (int i = 0; i < 100; ++i) {
      all.push_back(test::spawn([i] {
        unsigned char pattern[2048];
        std::memset(pattern, i, sizeof pattern);
        use(reinterpret_cast<char*>(pattern) + 7);
        pattern[7] = static_cast<unsigned char>(i);
        for (int y = 0; y < 200; ++y) tuco::yield();
        return std::all_of(std::begin(pattern), std::end(pattern),
                           [i](unsigned char c) { return c == static_cast<unsigned char>(i); });
      }));
    }
    for (auto& g : all) whole += g.join();
    stop.store(true);
    storm.join();
  }, {.procs = 2, .stack_size = 32 << 10});
  EXPECT_EQ(whole, 100);
}

// No room for the handler's own frames.
TEST_F(StackOverflow, AForeignHandlerThatOverflowsIsReported) {
  TUCO_NEEDS_PLAIN_FRAMES();
  EXPECT_EXIT(
      {
        install_foreign_handler([](int) { large_frame(); });
        overflow([] { ::raise(SIGUSR1); });
      },
      ::testing::ExitedWithCode(2), report("64", "large_frame"));
}

// No room for the frame that the kernel writes: it raises SIGSEGV without an address.
TEST_F(StackOverflow, ASignalThatFindsNoRoomForItsFrameIsReported) {
  TUCO_NEEDS_PLAIN_FRAMES();
  EXPECT_EXIT(
      {
        install_foreign_handler(&do_nothing);
        overflow([] { find_oneself(); with_little_stack(1200, &signal_oneself); }, 16 << 10);
      },
      ::testing::ExitedWithCode(2),
      "runtime: goroutine [0-9]+ \"victim\" stack overflow \\(16 KiB, created at (.|\n)*"
      "runtime: no room for a signal handler without SA_ONSTACK\nfatal error: stack overflow\n");
}

}  // namespace
}  // namespace tuco
