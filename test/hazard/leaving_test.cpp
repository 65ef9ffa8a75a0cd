// SPDX-License-Identifier: Apache-2.0
// H22, H23, H24: ways to leave a goroutine that are not its end.
//
// H22         An exception leaves the goroutine's function, or a noexcept one. Mitigation: nothing catches
//             it, so std::terminate runs where it was thrown and the traceback shows that place;
//             observe/crash.cpp prints Go's panic. The first frame has no caller, by CFI and by frame pointer.
// H23         goexit() is an exception, and a catch (...) may eat it. Mitigation: what is thrown notices that
//             it dies before it has arrived (sched/goexit.hpp).
// H24         pthread_exit() and a cancellation unwind the goroutine and end its worker without a word.
//             Mitigation: a destructor of thread-specific data speaks up; cancellation is off on workers
//             (sched/thread_start.cpp).
#include <pthread.h>
#include <unistd.h>
#include <unwind.h>

#include <stdexcept>

#include <tuco/chan.hpp>
#include <tuco/wait_group.hpp>

#include "fixture/runtime_test.hpp"
#include "observe/stack_of.hpp"
#include "sched/scheduler.hpp"

namespace tuco {
namespace {

using namespace tuco::test;

class Leaving : public runtime_test {};
TUCO_PROCESSORS(Leaving);

class LeavingDeath : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

/// Runs `f` as goroutine "victim" while others work and wait.
void run_victim(void (*f)()) {
  tuco::run([f] {
    tuco::wait_group never;
    never.add(1);
    for (int i = 0; i < 5; ++i) tuco::go([&] { never.wait(); });
    for (int i = 0; i < 2; ++i) {
      tuco::go([] {
        for (;;) tuco::yield();
      });
    }
    tuco::go({.name = "victim"}, [f] { f(); });
    never.wait();
  });
}

/// `first` line, then the traceback of the goroutine itself, with `function` in it.
std::string panic(const std::string& first, const std::string& function) {
  return "^panic: " + first + "\n(.|\n)*\ngoroutine [0-9]+ \\[running\\]:\n(.|\n)*" + function +
         "(.|\n)*created by (.|\n)*in goroutine 1\n";
}

[[gnu::noinline]] void throw_it() { throw std::runtime_error("no such tape"); }
[[gnu::noinline]] void throw_odd() {
  struct odd {};
  throw odd();
}
[[gnu::noinline]] void throw_number() { throw 7; }
[[gnu::noinline]] void throw_text() { throw "a word"; }
[[gnu::noinline]] void does_not_throw() noexcept { throw_it(); }
[[gnu::noinline]] void throw_twice() {
  struct throws {
    ~throws() noexcept(false) { throw std::logic_error("second"); }
  };
  try {
    const throws object;
    throw_it();
  } catch (const std::runtime_error&) {
  }
}

TEST_F(LeavingDeath, AnExceptionThatLeavesItsGoroutineIsAPanic) {
  EXPECT_EXIT(run_victim(&throw_it), ::testing::ExitedWithCode(2),
              panic("std::runtime_error: no such tape", "throw_it"));
}

TEST_F(LeavingDeath, AnExceptionOfAnyTypeIsNamed) {
  EXPECT_EXIT(run_victim(&throw_odd), ::testing::ExitedWithCode(2), panic("[^\n]*odd", "throw_odd"));
  EXPECT_EXIT(run_victim(&throw_number), ::testing::ExitedWithCode(2), panic("int: 7", "throw_number"));
  EXPECT_EXIT(run_victim(&throw_text), ::testing::ExitedWithCode(2),
              panic("char const\\*: a word", "throw_text"));
}

TEST_F(LeavingDeath, AnExceptionAtANoexceptFunctionIsThatPanic) {
  EXPECT_EXIT(run_victim(&does_not_throw), ::testing::ExitedWithCode(2),
              panic("std::runtime_error: no such tape", "does_not_throw"));
}

// Which of the two it is depends on the compiler: gcc -O2 calls std::terminate instead of the second throw.
TEST_F(LeavingDeath, AnExceptionDuringUnwindingIsAPanic) {
  EXPECT_EXIT(run_victim(&throw_twice), ::testing::ExitedWithCode(2),
              panic("std::(logic_error: second|runtime_error: no such tape)", "throw_twice"));
}

TEST_F(LeavingDeath, TerminateWithoutExceptionIsAPanic) {
  EXPECT_EXIT(run_victim([] { std::terminate(); }), ::testing::ExitedWithCode(2),
              panic("std::terminate called without an exception", "LeavingDeath"));
}

TEST_F(LeavingDeath, AnExceptionThatLeavesTheMainGoroutineIsAPanic) {
  EXPECT_EXIT(tuco::run(&throw_it), ::testing::ExitedWithCode(2),
              "^panic: std::runtime_error: no such tape\n(.|\n)*\ngoroutine 1 \\[running\\]:\n(.|\n)*throw_it");
}

// While it is handled, after it has moved: the runtime must not take somebody else's for it.
TEST_F(LeavingDeath, ThePanicNamesItsOwnException) {
  EXPECT_EXIT(
      run_victim([] {
        for (int i = 0; i < 20; ++i) {
          tuco::go([] {
            try {
              throw std::logic_error("somebody else's");
            } catch (...) {
              for (;;) tuco::yield();
            }
          });
        }
        try {
          throw_it();
        } catch (...) {
          for (int i = 0; i < 50; ++i) tuco::yield();
          throw;
        }
      }),
      ::testing::ExitedWithCode(2), "^panic: std::runtime_error: no such tape\n");
}

// -- walks that end

struct walk {
  int frames = 0;
  std::uintptr_t last = 0;
};
_Unwind_Reason_Code count_frame(_Unwind_Context* context, void* argument) {
  auto& w = *static_cast<walk*>(argument);
  w.last = _Unwind_GetIP(context);
  return ++w.frames < 1000 ? _URC_NO_REASON : _URC_NORMAL_STOP;
}

[[gnu::noinline]] int walk_at_depth(int depth, walk& out, _Unwind_Reason_Code& code) {
  if (depth == 0) {
    code = _Unwind_Backtrace(&count_frame, &out);
    return 0;
  }
  const int below = walk_at_depth(depth - 1, out, code);
  asm volatile("" ::: "memory");  // keeps the frame
  return below + 1;
}

TUCO_TEST(Leaving, TheCompilersUnwinderStopsAtTheEntry) {
  for (int i = 0; i < 3; ++i) {
    // The second and later ones may begin on the stack of one that ended (restart_stack).
    auto g = spawn([] {
      walk w;
      auto code = _URC_NO_REASON;
      walk_at_depth(10, w, code);
      // 10 levels, the backtrace's own, the closure's and the entry's.
      return code == _URC_END_OF_STACK && w.frames > 12 && w.frames < 60 ? 0 : w.frames;
    });
    EXPECT_EQ(g.join(), 0);
  }
}

[[gnu::noinline]] int park_at_depth(int depth, chan<int>& c) {
  const int result = depth == 0 ? c.recv().value_or(-1) : park_at_depth(depth - 1, c) + 1;
  asm volatile("" ::: "memory");
  return result;
}

TUCO_TEST(Leaving, OurWalkerStopsAtTheEntry) {
  chan<int> c(0);
  auto g = spawn([&] { return park_at_depth(20, c); });
  await_waiting(g.id(), wait_reason::chan_receive);
  const std::string text = format_goroutines({.only = g.id()});
  std::size_t levels = 0;
  for (std::size_t at = 0; (at = text.find("park_at_depth(", at)) != std::string::npos; ++at) ++levels;
  EXPECT_EQ(levels, 21u) << text;
  EXPECT_EQ(text.find("elided"), std::string::npos) << text;
  EXPECT_NE(text.find("created by "), std::string::npos) << text;
  c.send(0);
  EXPECT_EQ(g.join(), 20);
}

// -- goexit

struct notes {
  std::vector<int>* order;
  int number;
  ~notes() { order->push_back(number); }
};

TUCO_TEST(Leaving, GoexitRunsTheDestructorsAndNothingElse) {
  for (int i = 0; i < 20; ++i) {
    std::vector<int> order;
    std::atomic<bool> done{false};
    tuco::go([&] {
      struct says_so {
        std::atomic<bool>* done;
        ~says_so() { done->store(true); }
      } last{&done};
      const notes first{&order, 1};
      [&] {
        const notes second{&order, 2};
        [&] {
          const notes third{&order, 3};
          tuco::yield();
          tuco::goexit();
        }();
        order.push_back(100);
      }();
      order.push_back(101);
    });
    await([&] { return done.load(); }, "goexit");
    EXPECT_EQ(order, (std::vector<int>{3, 2, 1}));
  }
}

TUCO_TEST(Leaving, GoexitPassesHandlersThatRethrowAndDestructorsThatPark) {
  std::atomic<int> passed{0};
  std::atomic<bool> done{false};
  tuco::go([&] {
    struct parks {
      std::atomic<int>* passed;
      std::atomic<bool>* done;
      ~parks() {
        for (int i = 0; i < 10; ++i) tuco::yield();
        ++*passed;
        if (done != nullptr) done->store(true);
      }
    };
    const parks outer{&passed, &done};
    try {
      try {
        const parks inner{&passed, nullptr};
        tuco::goexit();
      } catch (const std::exception&) {
        passed = 100;  // it is no std::exception
      }
    } catch (...) {
      ++passed;
      tuco::yield();
      throw;
    }
  });
  await([&] { return done.load(); }, "goexit");
  EXPECT_EQ(passed.load(), 3);
}

TUCO_TEST(Leaving, GoexitFromAHandlerEndsThatExceptionToo) {
  auto token = std::make_shared<int>(1);
  std::atomic<bool> done{false};
  struct carries {
    std::shared_ptr<int> token;
  };
  tuco::go([&done, token]() mutable {
    struct says_so {
      std::atomic<bool>* done;
      ~says_so() { done->store(true); }
    } last{&done};
    try {
      throw carries{std::move(token)};
    } catch (const carries&) {
      tuco::yield();
      tuco::goexit();
    }
  });
  await([&] { return done.load() && token.use_count() == 1; }, "the exception to be destroyed");
  auto next = spawn([] { return std::current_exception() == nullptr && std::uncaught_exceptions() == 0; });
  EXPECT_TRUE(next.join());
}

TEST_F(LeavingDeath, ASwallowedGoexitIsFatal) {
  EXPECT_EXIT(run_victim([] {
                try {
                  tuco::goexit();
                } catch (...) {
                }
                for (;;) tuco::yield();
              }),
              ::testing::ExitedWithCode(2),
              "^fatal error: goexit was swallowed by a catch \\(\\.\\.\\.\\) that does not rethrow\n");
}

TEST_F(LeavingDeath, AGoexitThatIsReplacedByAnotherExceptionIsFatal) {
  EXPECT_EXIT(run_victim([] {
                try {
                  try {
                    tuco::goexit();
                  } catch (...) {
                    throw_it();
                  }
                } catch (const std::exception&) {
                }
              }),
              ::testing::ExitedWithCode(2), "^fatal error: goexit was swallowed");
}

TEST_F(LeavingDeath, AGoexitAtANoexceptFunctionIsFatal) {
  EXPECT_EXIT(run_victim([] { [&]() noexcept { tuco::goexit(); }(); }), ::testing::ExitedWithCode(2),
              "goexit(.|\n)*\ngoroutine [0-9]+ \\[running\\]:\n");
}

TUCO_TEST(Leaving, GoexitOnAPlainThreadIsAnError) {
  std::string what;
  std::thread([&] {
    try {
      tuco::goexit();
    } catch (const std::logic_error& e) {
      what = e.what();
    }
  }).join();
  EXPECT_NE(what.find("goexit"), std::string::npos);
}

// -- the thread under it

TEST_F(LeavingDeath, PthreadExitInAGoroutineIsFatal) {
  EXPECT_EXIT(run_victim([] { pthread_exit(nullptr); }), ::testing::ExitedWithCode(2),
              "^fatal error: goroutine ended its thread \\(pthread_exit or pthread_cancel\\)\n");
}

TEST_F(LeavingDeath, ACancellationThatAGoroutineAllowsIsFatal) {
  EXPECT_EXIT(run_victim([] {
                pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, nullptr);
                pthread_cancel(pthread_self());
                pthread_testcancel();
              }),
              ::testing::ExitedWithCode(2), "^fatal error: goroutine ended its thread");
}

TUCO_TEST(Leaving, WorkersAreNotCancelled) {
  auto g = spawn([] {
    pthread_cancel(pthread_self());
    for (int i = 0; i < 10; ++i) {
      pthread_testcancel();
      ::usleep(1);
      tuco::yield();
    }
    return true;
  });
  EXPECT_TRUE(g.join());
}

}  // namespace
}  // namespace tuco
