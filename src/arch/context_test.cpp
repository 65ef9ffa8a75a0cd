// SPDX-License-Identifier: Apache-2.0
// context_test.cpp - the promises of arch/context.hpp that hold on every machine; those about single
// registers are in <machine>/registers_test.cpp.
#include "arch/context.hpp"

#include <cxxabi.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "arch/test_coroutine.hpp"
#include "arch/thread_slot.hpp"

extern "C" {
// In the assembly of each machine; a range of code by the symbols' sizes is not to be had here.
[[gnu::visibility("hidden")]] extern const char tuco_context_entry[];
[[gnu::visibility("hidden")]] extern const char tuco_restart_stack[];
[[gnu::visibility("hidden")]] extern const tuco::arch::switch_range __start_tuco_switch_ranges[];
[[gnu::visibility("hidden")]] extern const tuco::arch::switch_range __stop_tuco_switch_ranges[];
}

namespace tuco::inline v1::arch {
namespace {

// --- switching ----------------------------------------------------------------------------------

TEST(ContextTest, EachSideGoesOnWhereItLeft) {
  std::string said;
  coroutine inside([&] {
    for (int i = 0; i < 3; ++i) {
      said += static_cast<char>('a' + i);
      inside.suspend();
    }
  });
  while (true) {
    inside.resume();
    if (inside.done()) break;
    said += '.';
  }
  EXPECT_EQ(said, "a.b.c.");
}

TEST(ContextTest, AMillionSwitchesLoseNothing) {
  constexpr std::uint64_t switches = 1'000'000;
  std::uint64_t sum = 0;
  coroutine inside([&] {
    for (std::uint64_t i = 1;; ++i) {
      sum += i;
      inside.suspend();
    }
  });
  std::uint64_t expected = 0;
  for (std::uint64_t i = 1; i <= switches / 2; ++i) {
    inside.resume();
    expected += i;
    ASSERT_EQ(sum, expected);
  }
}

TEST(ContextTest, ManyStacksAreApart) {
  constexpr std::size_t count = 100;
  std::vector<std::unique_ptr<coroutine>> all;
  std::array<std::uint64_t, count> results{};
  for (std::size_t n = 0; n < count; ++n) {
    all.push_back(std::make_unique<coroutine>([&, n] {
      volatile std::uint64_t own[512];  // on this stack
      for (std::size_t i = 0; i < 512; ++i) own[i] = n * 1000 + i;
      for (int round = 0; round < 10; ++round) {
        all[n]->suspend();
        for (std::size_t i = 0; i < 512; ++i) own[i] = own[i] + 1;
      }
      for (std::size_t i = 0; i < 512; ++i) results[n] += own[i] - i - n * 1000;
    }));
  }
  for (int round = 0; round < 11; ++round) {
    for (auto& c : all) c->resume();
  }
  for (std::size_t n = 0; n < count; ++n) {
    EXPECT_TRUE(all[n]->done());
    EXPECT_EQ(results[n], 512u * 10) << "stack " << n;
  }
}

TEST(ContextTest, FramesOfOneStackKeepTheirOrderOverSwitches) {
  std::vector<int> left;
  coroutine inside([&] {
    const auto descend = [&](const auto& self, int depth) -> void {
      inside.suspend();
      if (depth > 0) self(self, depth - 1);
      inside.suspend();
      left.push_back(depth);
    };
    descend(descend, 50);
  });
  while (!inside.done()) inside.resume();
  EXPECT_EQ(left.size(), 51u);
  EXPECT_TRUE(std::is_sorted(left.begin(), left.end()));
}

// A function whose frame has no fixed size finds it through the frame pointer alone.
struct bare {
  context outside;
  context inside;
} the_bare;

[[gnu::noinline]] void fill(volatile unsigned char* bytes, std::size_t n, unsigned char value) {
  for (std::size_t i = 0; i < n; ++i) bytes[i] = value;
}
TUCO_TEST_SWITCHES_STACK std::size_t switch_in_dynamic_frame(context& from, const context& to,
                                                             std::size_t size, unsigned char value) {
  auto* bytes = static_cast<volatile unsigned char*>(__builtin_alloca(size));
  fill(bytes, size, value);
  switch_context(from, to);
  return static_cast<std::size_t>(std::count(bytes, bytes + size, value));
}

TEST(ContextTest, AFrameOfDynamicSizeIsFoundAgain) {
#ifdef TUCO_TSAN_FIBERS
  GTEST_SKIP() << "a bare switch is not one of ThreadSanitizer's fibers";
#endif
  alignas(16) static unsigned char stack[128 * 1024];
  make_context(the_bare.inside, reinterpret_cast<std::uintptr_t>(stack + sizeof stack), [] {
    for (std::size_t size = 100;; size += 3) {
      if (switch_in_dynamic_frame(the_bare.inside, the_bare.outside, size, 0x5a) != size) ::abort();
    }
  });
  for (std::size_t size = 1; size < 2000; size += 7) {
    ASSERT_EQ(switch_in_dynamic_frame(the_bare.outside, the_bare.inside, size, 0xa5), size);
  }
}

// --- other threads ------------------------------------------------------------------------------

// One function, to the compiler: what it read before the switch is still there to be reused after it.
// test/hazard has this at every optimization level.
TEST(ContextTest, TheThreadSlotIsThatOfTheThreadThatResumed) {
  constexpr int threads = 8;
  int names[threads + 1];
  std::vector<void*> seen;
  coroutine inside([&] {
    for (int i = 0; i <= threads; ++i) {
      seen.push_back(thread_slot());
      inside.suspend();
    }
  });
  for (int i = 0; i <= threads; ++i) {
    std::thread([&, i] {
      EXPECT_EQ(thread_slot(), nullptr) << "a new thread's word is not empty";
      set_thread_slot(&names[i]);
      inside.resume();
      EXPECT_EQ(thread_slot(), &names[i]);
    }).join();
  }
  ASSERT_EQ(seen.size(), static_cast<std::size_t>(threads) + 1);
  for (int i = 0; i <= threads; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], &names[i]) << i;
  EXPECT_EQ(thread_slot(), nullptr);
}

// --- floating point (H5) ------------------------------------------------------------------------

// Volatile: computed here and now, in the mode that is set.
double third() {
  volatile double one = 1.0;
  volatile double three = 3.0;
  return one / three;
}
long double long_third() {
  volatile long double one = 1.0L;
  volatile long double three = 3.0L;
  return one / three;
}

class FloatingPointTest : public ::testing::Test {
 protected:
  FloatingPointTest() { std::fegetenv(&before_); }
  ~FloatingPointTest() override { std::fesetenv(&before_); }
  const double nearest_ = third();
  const long double long_nearest_ = long_third();

 private:
  std::fenv_t before_;
};

TEST_F(FloatingPointTest, TheRoundingModeBelongsToItsContext) {
  ASSERT_EQ(std::fegetround(), FE_TONEAREST);
  double inside_up[2] = {};
  long double inside_long_up[2] = {};
  int inside_mode[2] = {};
  coroutine inside([&] {
    std::fesetround(FE_UPWARD);
    for (int i = 0; i < 2; ++i) {
      inside_up[i] = third();
      inside_long_up[i] = long_third();
      inside_mode[i] = std::fegetround();
      inside.suspend();
    }
  });
  inside.resume();
  EXPECT_EQ(std::fegetround(), FE_TONEAREST) << "leaked out of the context";
  EXPECT_EQ(third(), nearest_);
  EXPECT_EQ(long_third(), long_nearest_);
  std::fesetround(FE_TOWARDZERO);
  inside.resume();
  EXPECT_EQ(std::fegetround(), FE_TOWARDZERO);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(inside_mode[i], FE_UPWARD) << i;
    EXPECT_GT(inside_up[i], nearest_) << i;
    EXPECT_GE(inside_long_up[i], long_nearest_) << i;
  }
}

TEST_F(FloatingPointTest, ANewContextHasTheDefaultsNotItsCreators) {
  int mode = -1;
  double result = 0;
  ASSERT_EQ(std::fesetround(FE_UPWARD), 0);
  coroutine inside([&] {
    mode = std::fegetround();
    result = third();
  });
  inside.resume();
  EXPECT_EQ(mode, FE_TONEAREST);
  EXPECT_EQ(result, nearest_);
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
}

TEST_F(FloatingPointTest, EveryPairOfModesIsKeptApart) {
  constexpr std::array modes{FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (const int outer : modes) {
    for (const int inner : modes) {
      int seen = -1;
      coroutine inside([&] {
        std::fesetround(inner);
        inside.suspend();
        seen = std::fegetround();
      });
      std::fesetround(outer);
      inside.resume();
      EXPECT_EQ(std::fegetround(), outer);
      inside.resume();
      EXPECT_EQ(std::fegetround(), outer);
      EXPECT_EQ(seen, inner);
    }
  }
}

// The status flags differ at nearly every switch; if they were loaded, all switches would be slow ones.
// Seen from outside: what a context leaves in them is there for the next.
TEST_F(FloatingPointTest, StatusFlagsAreNobodysAndCostNothing) {
  bool raised_outside_seen_inside = false;
  coroutine inside([&] {
    raised_outside_seen_inside = std::fetestexcept(FE_DIVBYZERO) != 0;
    std::feclearexcept(FE_ALL_EXCEPT);
    std::feraiseexcept(FE_OVERFLOW);
    inside.suspend();
  });
  std::feclearexcept(FE_ALL_EXCEPT);
  std::feraiseexcept(FE_DIVBYZERO);
  inside.resume();
  EXPECT_TRUE(raised_outside_seen_inside);
  EXPECT_TRUE(std::fetestexcept(FE_OVERFLOW));
  EXPECT_FALSE(std::fetestexcept(FE_DIVBYZERO)) << "a switch between equal modes loaded the flags";
}

// --- exceptions ---------------------------------------------------------------------------------

struct failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[gnu::noinline]] void throw_from_depth(int depth) {
  const std::string held(40, 'x');  // something to destroy on the way
  if (depth == 0) throw failure(held);
  throw_from_depth(depth - 1);
}

TEST(ContextExceptionTest, ThrownAndCaughtOnAContext) {
  int caught = 0;
  coroutine inside([&] {
    for (int i = 0; i < 10; ++i) {
      try {
        throw_from_depth(i);
      } catch (const std::exception& e) {
        caught += std::strlen(e.what()) == 40;
      }
      inside.suspend();
    }
  });
  while (!inside.done()) inside.resume();
  EXPECT_EQ(caught, 10);
}

TEST(ContextExceptionTest, NestedRethrownAndCarriedAcross) {
  std::exception_ptr carried;
  coroutine inside([&] {
    try {
      try {
        throw_from_depth(3);
      } catch (const failure&) {
        try {
          throw std::logic_error("second");
        } catch (const std::logic_error&) {
        }
        throw;
      }
    } catch (...) {
      carried = std::current_exception();
    }
  });
  inside.resume();
  ASSERT_TRUE(carried);
  EXPECT_THROW(std::rethrow_exception(carried), failure);
}

// What the scheduler does at each switch (H4): the two words of __cxa_get_globals() go with the stack.
struct exception_words {
  void* caught = nullptr;
  unsigned uncaught = 0;
};
exception_words& of_this_thread() {
  return *reinterpret_cast<exception_words*>(__cxxabiv1::__cxa_get_globals());
}

TEST(ContextExceptionTest, TwoContextsInsideHandlersRethrowTheirOwn) {
  std::string rethrown[2];
  const auto body = [&](std::unique_ptr<coroutine>& self, int n) {
    try {
      throw failure(std::to_string(n));
    } catch (...) {
      self->suspend();
      try {
        throw;
      } catch (const failure& e) {
        rethrown[n] = e.what();
      }
    }
  };
  std::unique_ptr<coroutine> a;
  std::unique_ptr<coroutine> b;
  a = std::make_unique<coroutine>([&] { body(a, 0); });
  b = std::make_unique<coroutine>([&] { body(b, 1); });
  exception_words words[2];
  const auto resume = [&](coroutine& c, exception_words& own) {
    const exception_words outside = std::exchange(of_this_thread(), own);
    c.resume();
    own = std::exchange(of_this_thread(), outside);
  };
  resume(*a, words[0]);
  EXPECT_NE(words[0].caught, nullptr);
  resume(*b, words[1]);
  resume(*a, words[0]);
  resume(*b, words[1]);
  EXPECT_EQ(rethrown[0], "0");
  EXPECT_EQ(rethrown[1], "1");
  EXPECT_EQ(words[0].caught, nullptr);
  EXPECT_EQ(std::uncaught_exceptions(), 0);
}

// Where the stack ends, so does the search for a handler; the throw's own place is what is left to see.
TEST(ContextExceptionDeathTest, AnExceptionThatNobodyCatchesTerminatesWhereItIsThrown) {
  const auto die = [] {
    std::set_terminate([] {
      static_cast<void>(!::write(2, "terminate on the context\n", 25));
      ::_exit(7);
    });
    coroutine inside([] { throw_from_depth(2); });
    try {
      inside.resume();
    } catch (...) {  // of the stack below: not this exception's
      ::_exit(8);
    }
  };
  EXPECT_EXIT(die(), ::testing::ExitedWithCode(7), "terminate on the context");
}

// --- the end of every walk ----------------------------------------------------------------------

bool follows(std::uintptr_t pc, const char* function) {
  const auto at = reinterpret_cast<std::uintptr_t>(function);
  return pc > at && pc <= at + 64;
}

struct unwound {
  std::vector<std::uintptr_t> pcs;
  _Unwind_Reason_Code end = _URC_NO_REASON;
};

unwound unwind_here() {
  unwound out;
  out.end = _Unwind_Backtrace(
      [](_Unwind_Context* frame, void* argument) {
        auto& pcs = static_cast<unwound*>(argument)->pcs;
        // A step too far would come to arbitrary words, and may go on for ever.
        if (pcs.size() > 200) return _URC_FATAL_PHASE1_ERROR;
        if (const auto pc = _Unwind_GetIP(frame); pc != 0) pcs.push_back(pc);
        return _URC_NO_REASON;
      },
      &out);
  return out;
}

template <class Walk>
[[gnu::noinline]] void walk_from_depth(int depth, coroutine* inside, Walk& walk) {
  volatile int keep = depth;
  if (depth == 0) {
    if (inside != nullptr) inside->suspend();  // resumed, the frames are what they were
    walk();
  } else {
    walk_from_depth(depth - 1, inside, walk);
  }
  keep = keep + 1;
}

TEST(ContextUnwindTest, TheExceptionUnwinderStopsAtTheBaseFrame) {
  unwound result;
  coroutine inside([&] {
    auto walk = [&] { result = unwind_here(); };
    walk_from_depth(20, &inside, walk);
  });
  while (!inside.done()) inside.resume();
  EXPECT_EQ(result.end, _URC_END_OF_STACK);
  ASSERT_GT(result.pcs.size(), 20u);
  EXPECT_TRUE(follows(result.pcs.back(), tuco_context_entry));
}

TEST(ContextUnwindTest, GlibcsBacktraceStopsThereToo) {
  std::array<void*, 200> pcs{};
  int count = 0;
  coroutine inside([&] {
    auto walk = [&] { count = ::backtrace(pcs.data(), static_cast<int>(pcs.size())); };
    walk_from_depth(20, &inside, walk);
  });
  while (!inside.done()) inside.resume();
  ASSERT_GT(count, 20);
  ASSERT_LT(count, 200);
  EXPECT_TRUE(follows(reinterpret_cast<std::uintptr_t>(pcs[static_cast<std::size_t>(count) - 1]),
                      tuco_context_entry));
}

// A frame record is {caller's frame pointer, return address} on both machines.
struct frame_walk {
  std::vector<std::uintptr_t> pcs;
  bool ended = false;
  bool left_the_stack = false;
};

[[gnu::noinline, gnu::no_sanitize_address]] frame_walk walk_frame_pointers(const coroutine& inside) {
  frame_walk out;
  auto fp = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  while (out.pcs.size() < 200) {
    if (fp == 0) {
      out.ended = true;
      break;
    }
    if (!inside.contains(fp) || fp % sizeof(void*) != 0) {
      out.left_the_stack = true;
      break;
    }
    const auto* record = reinterpret_cast<const std::uintptr_t*>(fp);
    out.pcs.push_back(record[1]);
    fp = record[0];
  }
  return out;
}

TEST(ContextUnwindTest, TheChainOfFramePointersEndsWithZero) {
  frame_walk result;
  coroutine inside([&] {
    auto walk = [&] { result = walk_frame_pointers(inside); };
    walk_from_depth(20, &inside, walk);
  });
  while (!inside.done()) inside.resume();
  EXPECT_TRUE(result.ended);
  EXPECT_FALSE(result.left_the_stack);
  ASSERT_GT(result.pcs.size(), 20u);
  EXPECT_TRUE(std::any_of(result.pcs.begin(), result.pcs.end(),
                          [](auto pc) { return follows(pc, tuco_context_entry); }));
}

// --- restart_stack ------------------------------------------------------------------------------

// Restarting gives up all frames, so what is kept lies outside of them.
struct restarts {
  coroutine* inside;
  int left;
  std::vector<std::uintptr_t> frames;
  std::vector<int> modes;
  unwound walk;
  frame_walk frame_pointers;
} the_restarts;

void restarted() {
  restarts& r = the_restarts;
  r.frames.push_back(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)));
  r.modes.push_back(std::fegetround());
  if (--r.left > 0) {
    std::fesetround(FE_DOWNWARD);
    restart_stack(r.inside->high(), &restarted);
  }
  r.walk = unwind_here();
  r.frame_pointers = walk_frame_pointers(*r.inside);
  for (;;) r.inside->suspend();
}

TEST(ContextRestartTest, BeginsAtTheTopEachTimeLikeANewContext) {
  std::uintptr_t first_frame = 0;
  coroutine inside([&] {
    first_frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    the_restarts = {&inside, 1000, {}, {}, {}, {}};
    restart_stack(inside.high(), &restarted);
  });
  inside.resume();
  restarts& r = the_restarts;
  ASSERT_EQ(r.frames.size(), 1000u);
  EXPECT_TRUE(std::all_of(r.frames.begin(), r.frames.end(),
                          [&](auto frame) { return frame == r.frames[0]; }))
      << "the stack was used up";
  EXPECT_GT(r.frames[0], first_frame) << "frames of the ended function are still there";
  EXPECT_TRUE(inside.contains(r.frames[0]));
  EXPECT_TRUE(std::all_of(r.modes.begin(), r.modes.end(), [](int m) { return m == FE_TONEAREST; }))
      << "the rounding mode of the one that ended leaked into its successor";
  EXPECT_EQ(r.walk.end, _URC_END_OF_STACK);
  ASSERT_FALSE(r.walk.pcs.empty());
  EXPECT_TRUE(follows(r.walk.pcs.back(), tuco_restart_stack));
  EXPECT_TRUE(r.frame_pointers.ended);
  EXPECT_FALSE(r.frame_pointers.left_the_stack);
}

// --- what unwinders and signal handlers are told ------------------------------------------------

TEST(ContextTest, ASavedContextSaysWhereItsStackIs) {
  coroutine inside([&] { inside.suspend(); });
  const context before = inside.saved();
  EXPECT_EQ(before.fp, 0u);
  EXPECT_TRUE(inside.contains(before.sp));
  EXPECT_EQ(before.pc, reinterpret_cast<std::uintptr_t>(tuco_context_entry));
  inside.resume();
  const context& now = inside.saved();
  EXPECT_LT(now.sp, before.sp);
  EXPECT_TRUE(inside.contains(now.fp));
  EXPECT_NE(now.pc, before.pc);
}

struct window {
  std::uintptr_t begin;
  std::uintptr_t end;
};
std::vector<window> windows() {
  std::vector<window> out;
  for (const auto* r = __start_tuco_switch_ranges; r != __stop_tuco_switch_ranges; ++r) {
    const auto at = [](const std::int32_t& field) {
      return reinterpret_cast<std::uintptr_t>(&field) + static_cast<std::intptr_t>(field);
    };
    out.push_back({at(r->begin), at(r->end)});
  }
  return out;
}

TEST(ContextTest, TheWindowOfEachSwitchNamesItsTarget) {
  const auto all = windows();
  ASSERT_FALSE(all.empty()) << "this program switches stacks, so there is a window";
  context target;
  const auto value = reinterpret_cast<std::uintptr_t>(&target);
  for (const window& w : all) {
    ASSERT_LT(w.begin, w.end);
    ASSERT_LT(w.end - w.begin, 64u) << "only between two contexts, or samples are attributed wrongly";
    EXPECT_EQ(inside_switch(w.begin, value), &target);
    EXPECT_EQ(inside_switch(w.end - 1, value), &target);
    EXPECT_EQ(inside_switch(w.begin - 1, value), nullptr);
    EXPECT_EQ(inside_switch(w.end, value), nullptr);
  }
  EXPECT_EQ(inside_switch(reinterpret_cast<std::uintptr_t>(&windows), value), nullptr);
  EXPECT_EQ(inside_switch(0, value), nullptr);
}

// Where control flow is guarded, an indirect jump may land on such an instruction only.
TEST(ContextTest, EveryPlaceAJumpCanComeToIsALandingPad) {
  const auto instruction = [](std::uintptr_t pc) {
    std::uint32_t word = 0;
    std::memcpy(&word, reinterpret_cast<const void*>(pc), sizeof word);
    return word;
  };
#if defined(__x86_64__)
  constexpr std::uint32_t entry = 0xfa1e0ff3;  // endbr64
  constexpr std::uint32_t resumption = entry;
#else
  constexpr std::uint32_t entry = 0xd50324df;       // bti jc
  constexpr std::uint32_t resumption = 0xd503249f;  // bti j
#endif
  coroutine inside([&] { inside.suspend(); });
  EXPECT_EQ(instruction(inside.saved().pc), entry);
  inside.resume();
  EXPECT_EQ(instruction(inside.saved().pc), resumption);
}

}  // namespace
}  // namespace tuco::inline v1::arch
