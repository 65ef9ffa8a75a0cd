// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/registers.hpp
/// The registers of a thread as the unwinder sees them: by DWARF number.
///
/// Everything here is plain data and inline arithmetic, safe in a signal handler.

#include <array>
#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "tuco unwinds x86-64 and aarch64 only"
#endif

namespace tuco::inline v1::observe {

#if defined(__x86_64__)

// rax rdx rcx rbx rsi rdi rbp rsp r8..r15 rip (System V ABI, figure 3.36).
inline constexpr unsigned dwarf_registers = 17;
inline constexpr unsigned dwarf_fp = 6;
inline constexpr unsigned dwarf_sp = 7;
inline constexpr unsigned dwarf_ra = 16;

// What a frame can hand to its caller: the callee-saved registers, the stack pointer (longjmp
// and sigreturn restore it by a rule of its own) and the return address. A caller-saved one can
// be a CFA base too, but only in the innermost frame, where the context supplies it.
inline constexpr std::array<std::uint8_t, 8> tracked_registers{3, 6, 7, 12, 13, 14, 15, 16};

#else

// x0..x30, sp, and a pseudo number for pc. x30 is the return address (AADWARF64).
inline constexpr unsigned dwarf_registers = 33;
inline constexpr unsigned dwarf_fp = 29;
inline constexpr unsigned dwarf_sp = 31;
inline constexpr unsigned dwarf_ra = 30;

inline constexpr std::array<std::uint8_t, 13> tracked_registers{19, 20, 21, 22, 23, 24, 25,
                                                                26, 27, 28, 29, 30, 31};

#endif

/// Index of DWARF register `number` in tracked_registers, or -1.
constexpr int tracked_index(std::uint64_t number) noexcept {
  for (std::size_t i = 0; i < tracked_registers.size(); ++i) {
    if (tracked_registers[i] == number) return static_cast<int>(i);
  }
  return -1;
}

/// Where a walk starts. `pc`, `sp` and `fp` must be given; the others help when a function
/// addresses its frame through one of them (glibc's resolver uses rbx, for one), so give what
/// is at hand and set the bit `1 << DWARF number` in `known`.
struct register_state {
  std::uintptr_t pc = 0;
  std::uintptr_t sp = 0;
  std::uintptr_t fp = 0;
  std::array<std::uintptr_t, dwarf_registers> other{};
  std::uint64_t known = 0;
};

/// The interrupted registers, all of them, from the third argument of a signal handler.
/// Async-signal-safe.
[[nodiscard]] register_state from_ucontext(const void* ucontext) noexcept;

/// The registers of the caller at the point of call; forced inline so that pc, sp and the CFI
/// of that pc describe the same frame.
[[nodiscard, gnu::always_inline]] inline register_state current_registers() noexcept {
  register_state s;
#if defined(__x86_64__)
  asm volatile(
      "lea 0(%%rip), %0\n\t"
      "mov %%rsp, %1\n\t"
      "mov %%rbp, %2"
      : "=&r"(s.pc), "=&r"(s.sp), "=&r"(s.fp));
  asm volatile("mov %%rbx, %0" : "=m"(s.other[3]));
  asm volatile("mov %%r12, %0" : "=m"(s.other[12]));
  asm volatile("mov %%r13, %0" : "=m"(s.other[13]));
  asm volatile("mov %%r14, %0" : "=m"(s.other[14]));
  asm volatile("mov %%r15, %0" : "=m"(s.other[15]));
  s.known = (1U << 3) | (1U << 12) | (1U << 13) | (1U << 14) | (1U << 15);
#else
  asm volatile(
      "adr %0, .\n\t"
      "mov %1, sp\n\t"
      "mov %2, x29"
      : "=&r"(s.pc), "=&r"(s.sp), "=&r"(s.fp));
  asm volatile("str x30, %0" : "=Q"(s.other[30]));
  s.known = std::uint64_t{1} << 30;
#endif
  return s;
}

}  // namespace tuco::inline v1::observe
