// SPDX-License-Identifier: Apache-2.0
#pragma once
/// x86-64 switch, System V ABI. Included by arch/context.hpp only.

namespace tuco::inline v1::arch {

/// DWARF number of the register that holds the target while a switch is in its window: rsi.
inline constexpr unsigned switch_target_register = 4;

// No register of these is callee-saved, but the compiler must be told where it may use them.
#if defined(__AVX512F__)
#define TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS                                                     \
  , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
      "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5",     \
      "k6", "k7"
#else
#define TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS
#endif

/// Stores the control words of the running context to `c`.
[[gnu::always_inline]] inline void save_control(context& c) noexcept {
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(c.float_control), "=m"(c.x87_control));
}

/// Saves the running context to `from`, which save_control() was called for, and resumes `to`. Returns when
/// somebody switches back. The two are apart because reading MXCSR waits for everything before it: who calls
/// it early, behind something that waits too, waits once (docs/adr/0002-floating-point-control.md).
///
/// Only for use in a function that is never inlined: its callers then see an ordinary call, and the
/// thread that runs after it may be another one.
///
/// The red zone is not touched: nothing is pushed. `to` stays in rsi through the whole window, where
/// the signal handler finds it.
[[gnu::always_inline]] inline void switch_saved(context& from, const context& to) noexcept {
  context* f = &from;
  const context* t = &to;
  asm volatile(
      "movq %%rsp, 0(%[from])\n\t"
      "movq %%rbp, 8(%[from])\n\t"
      "leaq 1f(%%rip), %%rax\n\t"
      "movq %%rax, 16(%[from])\n\t"
      // Bits 0-5 of MXCSR are status flags, which differ all the time and are nobody's to keep.
      "movl 24(%[from]), %%eax\n\t"
      "xorl 24(%[to]), %%eax\n\t"
      "andl $-64, %%eax\n\t"
      "movzwl 28(%[from]), %%ecx\n\t"
      "xorw 28(%[to]), %%cx\n\t"
      "orl %%ecx, %%eax\n\t"
      "jnz 4f\n\t"
      "2:\n\t"
      "movq 8(%[to]), %%rbp\n\t"
      "movq 0(%[to]), %%rsp\n\t"
      "jmpq *16(%[to])\n\t"
      "4:\n\t"
      "ldmxcsr 24(%[to])\n\t"
      "fldcw 28(%[to])\n\t"
      "jmp 2b\n\t"
      "1:\n\t"
      "endbr64\n\t"
      ".pushsection tuco_switch_ranges, \"aR?\"\n\t"
      ".long 2b - ., 4b - .\n\t"
      ".popsection\n\t"
      : [from] "+D"(f), [to] "+S"(t)
      :
      : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0",
        "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15", "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7",
        "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)", "memory",
        "cc" TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS);
}

#undef TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS

}  // namespace tuco::inline v1::arch
