// SPDX-License-Identifier: Apache-2.0
// registers_test.cpp - what the System V ABI of x86-64 says about a call holds for a switch, for every
// register by its name.
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <array>
#include <cstdint>
#include <limits>

#include "arch/test_coroutine.hpp"

extern "C" {
/// Loads the callee-saved registers from `in`, calls fn(arg), and stores what they hold then to `out`.
void tuco_test_with_registers(void (*fn)(void*), void* arg, const std::uint64_t* in, std::uint64_t* out);
/// An entry function that notes the registers it begins with.
void tuco_test_entry();
std::uint64_t tuco_test_entry_sp;
std::uint64_t tuco_test_entry_fp;
void tuco_test_after_entry();
}
asm(R"(
  .text
  .type tuco_test_with_registers, @function
  .globl tuco_test_with_registers
tuco_test_with_registers:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  push %rcx
  mov %rdi, %rax
  mov %rsi, %rdi
  mov 0(%rdx), %rbx
  mov 8(%rdx), %rbp
  mov 16(%rdx), %r12
  mov 24(%rdx), %r13
  mov 32(%rdx), %r14
  mov 40(%rdx), %r15
  call *%rax
  pop %rcx
  mov %rbx, 0(%rcx)
  mov %rbp, 8(%rcx)
  mov %r12, 16(%rcx)
  mov %r13, 24(%rcx)
  mov %r14, 32(%rcx)
  mov %r15, 40(%rcx)
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size tuco_test_with_registers, . - tuco_test_with_registers

  .type tuco_test_entry, @function
  .globl tuco_test_entry
tuco_test_entry:
  endbr64
  mov %rsp, tuco_test_entry_sp(%rip)
  mov %rbp, tuco_test_entry_fp(%rip)
  jmp tuco_test_after_entry
  .size tuco_test_entry, . - tuco_test_entry
)");

namespace tuco::inline v1::arch {
namespace {

using registers = std::array<std::uint64_t, 6>;  // rbx rbp r12 r13 r14 r15

template <class F>
registers with_registers(const registers& in, F f) {
  registers out{};
  tuco_test_with_registers([](void* p) { (*static_cast<F*>(p))(); }, &f, in.data(), out.data());
  return out;
}

registers pattern(std::uint64_t salt) {
  registers out;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = salt * 0x0101010101010101ULL + i;
  return out;
}

TEST(RegistersTest, CalleeSavedOnesSurviveOnBothSides) {
  registers inside_after[3];
  coroutine inside([&] {
    for (std::uint64_t i = 0; i < 3; ++i) {
      inside_after[i] = with_registers(pattern(0x50 + i), [&] { inside.suspend(); });
    }
  });
  for (std::uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(with_registers(pattern(0x10 + i), [&] { inside.resume(); }), pattern(0x10 + i));
  }
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(inside_after[i], pattern(0x50 + i));
}

[[gnu::noinline]] void not_a_leaf() { asm volatile("" ::: "memory"); }

// The 128 bytes below the stack pointer are the running function's to use (the red zone). The call
// that is made first keeps the compiler from doing so itself.
TUCO_TEST_SWITCHES_STACK std::uint64_t red_zone_over_a_switch(context& from, const context& to) {
  not_a_leaf();
  asm volatile(
      "mov $-128, %%rcx\n\t"
      "1: mov %%rcx, (%%rsp, %%rcx)\n\t"
      "add $8, %%rcx\n\t"
      "jnz 1b" ::
          : "rcx", "memory", "cc");
  switch_context(from, to);
  std::uint64_t changed;
  asm volatile(
      "mov $-128, %%rcx\n\t"
      "xor %k0, %k0\n\t"
      "1: mov (%%rsp, %%rcx), %%rdx\n\t"
      "xor %%rcx, %%rdx\n\t"
      "or %%rdx, %0\n\t"
      "add $8, %%rcx\n\t"
      "jnz 1b"
      : "=&r"(changed)
      :
      : "rcx", "rdx", "memory", "cc");
  return changed;
}

context here;
context there;
void switch_back() {
  for (;;) switch_context(there, here);
}

class BareContextTest : public ::testing::Test {
 protected:
  void start(std::uintptr_t top_offset, entry_function entry) {
    make_context(there, reinterpret_cast<std::uintptr_t>(stack_ + sizeof stack_) - top_offset, entry);
  }
  alignas(64) unsigned char stack_[64 * 1024];
};

TEST_F(BareContextTest, TheRedZoneIsNotTouched) {
  start(0, &switch_back);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(red_zone_over_a_switch(here, there), 0u) << i;
}

TUCO_TEST_SWITCHES_STACK void go_there() { switch_context(here, there); }

TEST_F(BareContextTest, TheStackIsAlignedAndTheFramePointerZeroAtTheEntry) {
  for (std::uintptr_t offset = 0; offset < 48; ++offset) {
    const auto top = reinterpret_cast<std::uintptr_t>(stack_ + sizeof stack_) - offset;
    tuco_test_entry_fp = 1;
    start(offset, &tuco_test_entry);
    go_there();
    EXPECT_EQ(tuco_test_entry_sp % 16, 8u) << "offset " << offset;  // as behind a call
    EXPECT_LE(tuco_test_entry_sp, top);
    EXPECT_GT(tuco_test_entry_sp, top - 32) << "room at the top of the stack is wasted";
    EXPECT_EQ(tuco_test_entry_fp, 0u);
  }
}

// --- control words (H5) -------------------------------------------------------------------------

std::uint16_t x87_control() {
  std::uint16_t value;
  asm volatile("fnstcw %0" : "=m"(value));
  return value;
}
void set_x87_control(std::uint16_t value) { asm volatile("fldcw %0" ::"m"(value)); }

class ControlWordTest : public ::testing::Test {
 protected:
  static constexpr unsigned abi_mxcsr = 0x1f80;
  static constexpr std::uint16_t abi_x87 = 0x037f;
  static constexpr unsigned status = 0x3f;
  ~ControlWordTest() override {
    _mm_setcsr(abi_mxcsr);
    set_x87_control(abi_x87);
  }
};

double denormal() {
  volatile double smallest = std::numeric_limits<double>::min();
  volatile double two = 2.0;
  return smallest / two;
}

TEST_F(ControlWordTest, FlushToZeroBelongsToItsContext) {
  double inside_result[2] = {-1, -1};
  coroutine inside([&] {
    _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ, DAZ
    inside_result[0] = denormal();
    inside.suspend();
    inside_result[1] = denormal();
  });
  inside.resume();
  EXPECT_GT(denormal(), 0.0);
  inside.resume();
  EXPECT_GT(denormal(), 0.0);
  EXPECT_EQ(inside_result[0], 0.0);
  EXPECT_EQ(inside_result[1], 0.0);
}

TEST_F(ControlWordTest, EachControlBitIsKeptApart) {
  for (unsigned bit = 6; bit < 16; ++bit) {
    unsigned after = 0;
    coroutine inside([&] {
      _mm_setcsr(abi_mxcsr ^ (1u << bit));
      inside.suspend();
      after = _mm_getcsr() & ~status;
      _mm_setcsr(abi_mxcsr);
    });
    inside.resume();
    EXPECT_EQ(_mm_getcsr() & ~status, abi_mxcsr) << "bit " << bit;
    inside.resume();
    EXPECT_EQ(after, abi_mxcsr ^ (1u << bit)) << "bit " << bit;
  }
}

// Without touching MXCSR: each of the two words alone must be enough to be told apart.
TEST_F(ControlWordTest, X87PrecisionBelongsToItsContext) {
  std::uint16_t seen[2] = {};
  coroutine inside([&] {
    seen[0] = x87_control();
    set_x87_control(0x027f);  // double precision
    inside.suspend();
    seen[1] = x87_control();
  });
  inside.resume();
  EXPECT_EQ(x87_control(), abi_x87);
  inside.resume();
  EXPECT_EQ(x87_control(), abi_x87);
  EXPECT_EQ(seen[0], abi_x87);
  EXPECT_EQ(seen[1], 0x027f);
}

TEST_F(ControlWordTest, ANewContextHasThoseOfTheAbi) {
  unsigned mxcsr = 0;
  std::uint16_t x87 = 0;
  _mm_setcsr(0x9fc0);
  set_x87_control(0x0c7f);
  coroutine inside([&] {
    mxcsr = _mm_getcsr() & ~status;
    x87 = x87_control();
  });
  inside.resume();
  EXPECT_EQ(mxcsr, abi_mxcsr);
  EXPECT_EQ(x87, abi_x87);
  EXPECT_EQ(_mm_getcsr() & ~status, 0x9fc0u);
  EXPECT_EQ(x87_control(), 0x0c7f);
}

coroutine* restarting;
unsigned restarted_mxcsr;
std::uint16_t restarted_x87;

TEST_F(ControlWordTest, ARestartedStackHasThoseOfTheAbi) {
  for (const bool sse : {false, true}) {
    coroutine inside([&] {
      if (sse) _mm_setcsr(0x9fc0);
      else set_x87_control(0x0c7f);
      restart_stack(restarting->high(), [] {
        restarted_mxcsr = _mm_getcsr() & ~status;
        restarted_x87 = x87_control();
        for (;;) restarting->suspend();
      });
    });
    restarting = &inside;
    inside.resume();
    EXPECT_EQ(restarted_mxcsr, abi_mxcsr);
    EXPECT_EQ(restarted_x87, abi_x87);
  }
}

}  // namespace
}  // namespace tuco::inline v1::arch

extern "C" void tuco_test_after_entry() {
  for (;;) tuco::arch::switch_context(tuco::arch::there, tuco::arch::here);
}
