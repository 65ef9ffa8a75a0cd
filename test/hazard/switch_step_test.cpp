// SPDX-License-Identifier: Apache-2.0
// H26: a signal in the middle of a switch.
//
// Danger      Between two contexts the stack pointer is one goroutine's, the frame pointer another's, and
//             what the worker says it runs is a third opinion. A walk from there ends nowhere, or in a
//             stack that is not the one it is taken for.
// Mitigation  arch::inside_switch(): each switch lists the window of its instructions in which that is
//             so; there the walk starts from the context that is being resumed. Which goroutine it is
//             comes from the stack pointer, not from the worker (observe::where_interrupted).
//
// The processor traps after every instruction of a worker's thread, and the handler walks the stack: all
// of a yield, a park, a wake-up, a beginning and an end, the scheduler's own code in between, and the
// C library's. Every single walk must reach the first frame of the stack it is on; where the goroutine
// is known, by way of the function that it is in.
#if defined(__x86_64__)
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <cstdlib>
#include <sstream>

#include <tuco/chan.hpp>
#include <tuco/time.hpp>
#include <tuco/wait_group.hpp>

#include "arch/context.hpp"
#include "base/sanitizer.hpp"
#include "fixture/runtime_test.hpp"
#include "observe/cfi_table.hpp"
#include "observe/stack_of.hpp"
#include "sched/scheduler.hpp"

extern "C" {
void tuco_context_entry();
void tuco_restart_stack();
}

namespace tuco {
namespace {

using namespace tuco::test;

constexpr long long trap_flag = 0x100;

/// Part of every walk of its goroutine's stack: where a function returns to that does not return meanwhile.
struct landmark {
  std::atomic<std::uintptr_t> stack{0};
  std::atomic<std::uintptr_t> pc{0};
};

struct bad_walk {
  observe::walk_result walk;
  std::uintptr_t pc;
  std::array<std::uintptr_t, 6> pcs;
  const char* what;
};

struct steps {
  std::atomic<bool> on{false};
  std::uintptr_t blocks_signals = reinterpret_cast<std::uintptr_t>(::dlsym(RTLD_DEFAULT, "pthread_sigmask"));
  std::array<landmark, 4> landmarks;
  std::atomic<std::uint64_t> all{0}, inside_switch{0}, at_entry{0}, at_restart{0}, off_goroutines{0}, at_landmark{0};
  std::atomic<std::uint64_t> bad{0};
  std::array<bad_walk, 16> first_bad;
};
steps the_steps;

bool is_in(std::uintptr_t pc, void (*function)()) {
  const auto begin = reinterpret_cast<std::uintptr_t>(function);
  return pc >= begin && pc < begin + 24;
}

void note_bad(const observe::walk_result& walk, std::span<const std::uintptr_t> pcs, std::uintptr_t pc,
              const char* what) {
  const std::uint64_t n = the_steps.bad.fetch_add(1);
  if (n >= the_steps.first_bad.size()) return;
  bad_walk& b = the_steps.first_bad[n];
  b = {walk, pc, {}, what};
  for (std::size_t i = 0; i < b.pcs.size() && i < walk.frames; ++i) b.pcs[i] = pcs[i];
}

void walk_from(const ucontext_t* context) {
  std::array<std::uintptr_t, 256> pcs;
  steps& s = the_steps;
  const auto pc = static_cast<std::uintptr_t>(context->uc_mcontext.gregs[REG_RIP]);
  s.all.fetch_add(1);
  observe::interrupted_stack at = observe::where_interrupted(context);
  if (at.registers.pc != pc) s.inside_switch.fetch_add(1);
  const bool on_goroutine = at.stack.low != 0;
  if (!on_goroutine) {
    s.off_goroutines.fetch_add(1);
    const sched::worker* w = sched::this_worker();
    at.stack = {w->own_stack.low, w->own_stack.high};
  }
  const observe::walk_result walk = observe::capture(at.registers, at.stack, pcs);
  if (walk.end != observe::walk_end::entry) return note_bad(walk, pcs, pc, "did not arrive");
  const std::uintptr_t last = pcs[walk.frames - 1];
  if (!on_goroutine) return;
  const bool entered = is_in(last - 1, &tuco_context_entry) || is_in(last, &tuco_context_entry);
  const bool restarted = is_in(last - 1, &tuco_restart_stack) || is_in(last, &tuco_restart_stack);
  if (!entered && !restarted) return note_bad(walk, pcs, pc, "arrived elsewhere");
  if (walk.frames == 1) (entered ? s.at_entry : s.at_restart).fetch_add(1);
  for (const landmark& l : s.landmarks) {
    if (l.stack.load() != at.stack.low) continue;
    bool seen = false;
    for (std::size_t i = 0; i < walk.frames; ++i) seen = seen || pcs[i] == l.pc.load();
    if (!seen) return note_bad(walk, pcs, pc, "is not of that goroutine");
    s.at_landmark.fetch_add(1);
  }
}

void on_step(int, siginfo_t*, void* ucontext) {
  const int saved_errno = errno;
  auto* context = static_cast<ucontext_t*>(ucontext);
  // A thread that was left behind by the goroutine it stepped for stops by itself; so does one that is about to
  // block signals, to start another thread or to end: a trap that is blocked kills.
  if (the_steps.on.load() && static_cast<std::uintptr_t>(context->uc_mcontext.gregs[REG_RIP]) != the_steps.blocks_signals) {
    walk_from(context);
    context->uc_mcontext.gregs[REG_EFL] |= trap_flag;
  } else {
    context->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
  }
  errno = saved_errno;
}

std::string describe_bad() {
  std::ostringstream out;
  const std::size_t n = std::min<std::size_t>(the_steps.bad.load(), the_steps.first_bad.size());
  for (std::size_t i = 0; i < n; ++i) {
    const bad_walk& b = the_steps.first_bad[i];
    out << "  " << b.what << ", end " << static_cast<int>(b.walk.end) << " after " << b.walk.frames
        << ", at pc " << std::hex << b.pc << std::dec << ":";
    for (const std::uintptr_t pc : b.pcs) {
      void* address = reinterpret_cast<void*>(pc);
      char** name = ::backtrace_symbols(&address, 1);
      out << ' ' << (name != nullptr ? name[0] : "?");
      std::free(static_cast<void*>(name));
    }
    out << '\n';
  }
  return out.str();
}

/// Runs `f`; every walk of the caller's stack meanwhile must come by here.
[[gnu::noinline]] void by_landmark(std::size_t number, const std::function<void()>& f) {
  landmark& l = the_steps.landmarks[number];
  l.pc.store(reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)));
  l.stack.store(sched::this_worker()->running()->stack.low);
  f();
  l.stack.store(0);
}

/// Runs `f` with a trap after each instruction of this thread, and of whatever it turns to.
void step_through(const std::function<void()>& f) {
  the_steps.on.store(true);
  ::raise(SIGTRAP);
  f();
  the_steps.on.store(false);
}

class SwitchStep : public ::testing::Test {
 protected:
  void SetUp() override {
#if defined(TUCO_TSAN_FIBERS)
    GTEST_SKIP() << "ThreadSanitizer takes the signals itself and delivers them later";
#endif
    observe::refresh_unwind_tables();
    struct sigaction action {};
    action.sa_sigaction = &on_step;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(SIGTRAP, &action, &before_);
    for (auto* counter : {&the_steps.all, &the_steps.inside_switch, &the_steps.at_entry, &the_steps.at_restart,
                          &the_steps.off_goroutines, &the_steps.at_landmark, &the_steps.bad}) {
      counter->store(0);
    }
  }
  void TearDown() override {
    ::sigaction(SIGTRAP, &before_, nullptr);
    RecordProperty("instructions", std::to_string(the_steps.all.load()));
    EXPECT_EQ(the_steps.bad.load(), 0u) << "of " << the_steps.all.load() << " walks:\n" << describe_bad();
  }

  /// `body` is goroutine 1 on one processor: all that happens, happens on its thread.
  static void in_runtime(const std::function<void()>& body) {
    tuco::run([&] { by_landmark(0, body); }, {.procs = 1});
  }

  /// The processor may be taken from the thread in the midst of it, and then the rest goes unseen: so
  /// again, until all has been seen that there is to see.
  static void until(const std::function<bool()>& seen, const std::function<void()>& f) {
    for (int i = 0; i < 100 && !seen(); ++i) f();
    EXPECT_TRUE(seen()) << "inside a switch: " << the_steps.inside_switch << ", first: " << the_steps.at_entry
                        << " and " << the_steps.at_restart << ", off: " << the_steps.off_goroutines;
  }

 private:
  struct sigaction before_ {};
};

constexpr std::uint64_t enough = 60;

TEST_F(SwitchStep, YieldsOfTwo) {
  in_runtime([] {
    std::atomic<bool> stop{false};
    auto other = spawn([&] {
      by_landmark(1, [&] {
        while (!stop.load()) tuco::yield();
      });
    });
    until([] { return the_steps.inside_switch.load() > enough; },
          [] { step_through([] { for (int i = 0; i < 20; ++i) tuco::yield(); }); });
    stop.store(true);
    other.join();
  });
  EXPECT_GT(the_steps.at_landmark.load(), 1000u);
}

TEST_F(SwitchStep, ParkAndReady) {
  in_runtime([] {
    chan<int> ping(0), pong(0);
    auto other = spawn([&] {
      by_landmark(1, [&] {
        for (int n : ping) pong.send(n);
      });
    });
    until([] { return the_steps.inside_switch.load() > enough; }, [&] {
      step_through([&] {
        for (int i = 0; i < 20; ++i) {
          ping.send(i);
          (void)pong.recv();
        }
      });
    });
    ping.close();
    other.join();
  });
  EXPECT_GT(the_steps.at_landmark.load(), 1000u);
}

// A stack's first instructions, its last ones, and the next goroutine's first on the same stack.
TEST_F(SwitchStep, BeginningAndEnd) {
  in_runtime([] {
    until(
        [] {
          return the_steps.inside_switch.load() > enough && the_steps.at_entry.load() > 10 &&
                 the_steps.at_restart.load() > 10;
        },
        [] {
          step_through([] {
            tuco::wait_group all;
            all.add(6);
            for (int i = 0; i < 6; ++i) tuco::go([&] { all.done(); });
            all.wait();
          });
        });
  });
}

// Nobody else to run: over the worker's own stack, through the timers and the poller. With traps the way to the
// park takes milliseconds, and a sleep that is over by then does not park.
TEST_F(SwitchStep, OverTheWorkersOwnStack) {
  in_runtime([] {
    until([] { return the_steps.inside_switch.load() > 20 && the_steps.off_goroutines.load() > 1000; },
          [] { step_through([] { tuco::sleep_for(std::chrono::milliseconds(20)); }); });
  });
}

// The way round the window, on which control words are loaded.
TEST_F(SwitchStep, WithOtherControlWords) {
  in_runtime([] {
    std::atomic<bool> stop{false};
    auto other = spawn([&] {
      by_landmark(1, [&] {
        std::fesetround(FE_UPWARD);
        while (!stop.load()) tuco::yield();
      });
    });
    until([] { return the_steps.inside_switch.load() > enough; },
          [] { step_through([] { for (int i = 0; i < 20; ++i) tuco::yield(); }); });
    stop.store(true);
    other.join();
  });
  EXPECT_GT(the_steps.at_landmark.load(), 1000u);
}

}  // namespace
}  // namespace tuco
#endif
