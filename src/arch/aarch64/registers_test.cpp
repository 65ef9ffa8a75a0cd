// SPDX-License-Identifier: Apache-2.0
// registers_test.cpp - what the procedure call standard of aarch64 says about a call holds for a
// switch, for every register by its name.
#include <gtest/gtest.h>

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
  .type tuco_test_with_registers, %function
  .globl tuco_test_with_registers
tuco_test_with_registers:
  stp x29, x30, [sp, #-176]!
  stp x19, x20, [sp, #16]
  stp x21, x22, [sp, #32]
  stp x23, x24, [sp, #48]
  stp x25, x26, [sp, #64]
  stp x27, x28, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  str x3, [sp, #160]
  mov x9, x0
  mov x0, x1
  ldp x19, x20, [x2]
  ldp x21, x22, [x2, #16]
  ldp x23, x24, [x2, #32]
  ldp x25, x26, [x2, #48]
  ldp x27, x28, [x2, #64]
  ldr x29, [x2, #80]
  ldp d8, d9, [x2, #88]
  ldp d10, d11, [x2, #104]
  ldp d12, d13, [x2, #120]
  ldp d14, d15, [x2, #136]
  blr x9
  ldr x3, [sp, #160]
  stp x19, x20, [x3]
  stp x21, x22, [x3, #16]
  stp x23, x24, [x3, #32]
  stp x25, x26, [x3, #48]
  stp x27, x28, [x3, #64]
  str x29, [x3, #80]
  stp d8, d9, [x3, #88]
  stp d10, d11, [x3, #104]
  stp d12, d13, [x3, #120]
  stp d14, d15, [x3, #136]
  ldp x19, x20, [sp, #16]
  ldp x21, x22, [sp, #32]
  ldp x23, x24, [sp, #48]
  ldp x25, x26, [sp, #64]
  ldp x27, x28, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x29, x30, [sp], #176
  ret
  .size tuco_test_with_registers, . - tuco_test_with_registers

  .type tuco_test_entry, %function
  .globl tuco_test_entry
tuco_test_entry:
  hint #34
  mov x1, sp
  adrp x0, tuco_test_entry_sp
  str x1, [x0, :lo12:tuco_test_entry_sp]
  adrp x0, tuco_test_entry_fp
  str x29, [x0, :lo12:tuco_test_entry_fp]
  b tuco_test_after_entry
  .size tuco_test_entry, . - tuco_test_entry
)");

namespace tuco::inline v1::arch {
namespace {

using registers = std::array<std::uint64_t, 19>;  // x19..x28, x29, d8..d15

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

context here;
context there;
TUCO_TEST_SWITCHES_STACK void go_there() { switch_context(here, there); }

TEST(BareContextTest, TheStackIsAlignedAndTheFramePointerZeroAtTheEntry) {
  alignas(64) static unsigned char stack[64 * 1024];
  for (std::uintptr_t offset = 0; offset < 48; ++offset) {
    const auto top = reinterpret_cast<std::uintptr_t>(stack + sizeof stack) - offset;
    tuco_test_entry_fp = 1;
    make_context(there, top, &tuco_test_entry);
    go_there();
    EXPECT_EQ(tuco_test_entry_sp, top & ~std::uintptr_t{15}) << "offset " << offset;
    EXPECT_EQ(tuco_test_entry_fp, 0u);
  }
}

// --- the control register (H5) ------------------------------------------------------------------

std::uint64_t fpcr() {
  std::uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}
void set_fpcr(std::uint64_t value) { asm volatile("msr fpcr, %0" ::"r"(value)); }

constexpr std::uint64_t rounding = 3u << 22;
constexpr std::uint64_t flush_to_zero = 1u << 24;
constexpr std::uint64_t default_nan = 1u << 25;

class ControlWordTest : public ::testing::Test {
 protected:
  ~ControlWordTest() override { set_fpcr(0); }
};

double denormal() {
  volatile double smallest = std::numeric_limits<double>::min();
  volatile double two = 2.0;
  return smallest / two;
}

TEST_F(ControlWordTest, FlushToZeroBelongsToItsContext) {
  double inside_result[2] = {-1, -1};
  coroutine inside([&] {
    set_fpcr(fpcr() | flush_to_zero);
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
  for (const std::uint64_t bits : {std::uint64_t{1} << 22, std::uint64_t{1} << 23, rounding,
                                   flush_to_zero, default_nan}) {
    std::uint64_t after = 0;
    coroutine inside([&] {
      set_fpcr(bits);
      inside.suspend();
      after = fpcr();
    });
    inside.resume();
    EXPECT_EQ(fpcr(), 0u);
    inside.resume();
    EXPECT_EQ(after, bits);
    EXPECT_EQ(fpcr(), 0u);
  }
}

TEST_F(ControlWordTest, ANewContextHasThatOfTheAbi) {
  std::uint64_t seen = 1;
  set_fpcr(rounding | flush_to_zero);
  coroutine inside([&] { seen = fpcr(); });
  inside.resume();
  EXPECT_EQ(seen, 0u);
  EXPECT_EQ(fpcr(), rounding | flush_to_zero);
}

coroutine* restarting;
std::uint64_t restarted_fpcr;

TEST_F(ControlWordTest, ARestartedStackHasThatOfTheAbi) {
  coroutine inside([&] {
    set_fpcr(rounding);
    restart_stack(restarting->high(), [] {
      restarted_fpcr = fpcr();
      for (;;) restarting->suspend();
    });
  });
  restarting = &inside;
  restarted_fpcr = 1;
  inside.resume();
  EXPECT_EQ(restarted_fpcr, 0u);
}

}  // namespace
}  // namespace tuco::inline v1::arch

extern "C" void tuco_test_after_entry() {
  for (;;) tuco::arch::switch_context(tuco::arch::there, tuco::arch::here);
}
