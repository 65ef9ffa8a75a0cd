// SPDX-License-Identifier: Apache-2.0
// switch_walk_test.cpp - a walk from every instruction of a switch, of the first instructions of a stack
// and of its restart (H26), where the processor cannot trap after each: every instruction is replaced by a
// breakpoint in turn. Elsewhere test/hazard/switch_step_test.cpp does the same with the whole runtime.
#if defined(__aarch64__)
#include <fenv.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "arch/context.hpp"
#include "arch/test_coroutine.hpp"
#include "observe/cfi_table.hpp"
#include "observe/stack_of.hpp"
#include "task/stack_pool.hpp"

extern "C" {
[[gnu::visibility("hidden")]] void tuco_context_entry();
[[gnu::visibility("hidden")]] void tuco_restart_stack();
}

namespace tuco::inline v1::observe {
namespace {

using instruction = std::uint32_t;
constexpr instruction breakpoint = 0xd4200000;   // brk #0
constexpr instruction breakpoint_1 = 0xd4200020;  // brk #1, the end of both functions in context.S
constexpr instruction return_x30 = 0xd65f03c0;

// Two stacks that switch to each other, and the thread's own from which they are begun.
arch::context outside;
arch::context sides[2];
task::stack stacks[2];
bool different_modes = false;

// Its frame has no fixed size, so that it is found by the frame pointer, which is replaced before the stack
// pointer. A large one takes the compiler's loop that probes its pages.
TUCO_TEST_SWITCHES_STACK std::uint64_t hop(arch::context& from, const arch::context& to, std::uint64_t value) {
  const std::size_t words = different_modes ? 10'000 : 8;
  auto* kept = static_cast<volatile std::uint64_t*>(__builtin_alloca(words * sizeof(std::uint64_t)));
  kept[0] = value;
  kept[3] = value + 3;
  arch::switch_context(from, to);
  return kept[0] + kept[3];
}

// So that a breakpoint in the other one is first met on one of the two stacks.
TUCO_TEST_SWITCHES_STACK void begin_both() { arch::switch_context(outside, sides[0]); }

void body(int mine) {
  if (different_modes && mine == 1) ::fesetround(FE_UPWARD);
  for (std::uint64_t n = 0; n < 3; ++n) {
    if (hop(sides[mine], sides[1 - mine], n) != 2 * n + 3) std::abort();
  }
  if (mine == 1) ::fesetround(FE_TONEAREST);
  hop(sides[mine], outside, 0);
  std::abort();
}
void first_body() { body(0); }
void second_body() { body(1); }
void restarting_body() { arch::restart_stack(stacks[0].top, &first_body); }

void run_both() {
  arch::make_context(sides[0], stacks[0].top, &restarting_body);
  arch::make_context(sides[1], stacks[1].top, &second_body);
  begin_both();
}

struct hit {
  int count = 0;
  walk_result walk;
  std::uintptr_t last = 0;
};
hit the_hit;
volatile instruction* planted = nullptr;
instruction original = 0;

void write_instruction(volatile instruction* at, instruction what) {
  *at = what;
  __builtin___clear_cache(const_cast<char*>(reinterpret_cast<volatile char*>(at)),
                          const_cast<char*>(reinterpret_cast<volatile char*>(at + 1)));
}

void on_trap(int, siginfo_t*, void* context) {
  const int saved_errno = errno;
  const auto pc = static_cast<ucontext_t*>(context)->uc_mcontext.pc;
  if (pc != reinterpret_cast<std::uintptr_t>(planted)) std::abort();
  const interrupted_stack at = where_interrupted(context);
  ++the_hit.count;
  std::array<std::uintptr_t, 64> pcs;
  the_hit.walk = capture(at.registers, at.stack, pcs);
  the_hit.last = pcs[the_hit.walk.frames - 1];
  write_instruction(planted, original);
  errno = saved_errno;
}

std::vector<instruction*> instructions_of(void (*function)(), instruction last) {
  std::vector<instruction*> all;
  for (auto* at = reinterpret_cast<instruction*>(function);; ++at) {
    all.push_back(at);
    if (*at == last || all.size() > 300) return all;
  }
}

/// The last address of the walk is a return address into `function`, or lies in it.
bool ends_in(void (*function)()) {
  const std::vector<instruction*> all = instructions_of(function, breakpoint_1);
  const auto begin = reinterpret_cast<std::uintptr_t>(all.front());
  return the_hit.last >= begin && the_hit.last <= reinterpret_cast<std::uintptr_t>(all.back());
}

class SwitchWalk : public ::testing::Test {
 protected:
  void SetUp() override {
    refresh_unwind_tables();
    task::stack_failure why;
    for (task::stack& s : stacks) {
      s = task::the_stack_pool().allocate(task::default_stack_class, why);
      ASSERT_TRUE(s);
    }
    signal_stack_.resize(64 * 1024);
    stack_t alternate{};
    alternate.ss_sp = signal_stack_.data();
    alternate.ss_size = signal_stack_.size();
    ::sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_sigaction = &on_trap;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(SIGTRAP, &action, nullptr);
  }
  void TearDown() override {
    ::signal(SIGTRAP, SIG_DFL);
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
    for (const task::stack& s : stacks) task::the_stack_pool().release(s);
  }

  /// From each instruction, the first time it is reached. `unreached`: so many at the end never are.
  static void expect_walks_from(const std::vector<instruction*>& all, std::size_t unreached) {
    const auto first = reinterpret_cast<std::uintptr_t>(all.front()) & ~std::uintptr_t{4095};
    const auto size = reinterpret_cast<std::uintptr_t>(all.back() + 1) - first;
    ASSERT_EQ(::mprotect(reinterpret_cast<void*>(first), size, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
    for (std::size_t i = 0; i < all.size(); ++i) {
      int reached = 0;
      for (const bool modes : {false, true}) {
        different_modes = modes;
        the_hit = {};
        planted = all[i];
        original = *all[i];
        write_instruction(planted, breakpoint);
        run_both();
        write_instruction(planted, original);
        if (the_hit.count == 0) continue;
        ++reached;
        EXPECT_EQ(the_hit.walk.end, walk_end::entry) << "instruction " << i << " of " << all.size();
        EXPECT_TRUE(ends_in(&tuco_context_entry) || ends_in(&tuco_restart_stack))
            << "instruction " << i << " of " << all.size();
      }
      EXPECT_TRUE(reached > 0 || i + unreached >= all.size()) << "instruction " << i << " of " << all.size();
    }
    ::mprotect(reinterpret_cast<void*>(first), size, PROT_READ | PROT_EXEC);
  }

 private:
  std::vector<char> signal_stack_;
};

TEST_F(SwitchWalk, FromEveryInstructionOfASwitch) {
  const auto all = instructions_of(reinterpret_cast<void (*)()>(&hop), return_x30);
  std::size_t in_window = 0;
  for (const instruction* at : all) {
    in_window += arch::inside_switch(reinterpret_cast<std::uintptr_t>(at), 1) != nullptr;
  }
  EXPECT_GT(in_window, 2u);
  expect_walks_from(all, 0);
}

TEST_F(SwitchWalk, FromTheFirstInstructionsOfAStack) {
  expect_walks_from(instructions_of(&tuco_context_entry, breakpoint_1), 1);
}

TEST_F(SwitchWalk, FromTheRestartOfAStack) {
  expect_walks_from(instructions_of(&tuco_restart_stack, breakpoint_1), 1);
}

}  // namespace
}  // namespace tuco::inline v1::observe
#endif
