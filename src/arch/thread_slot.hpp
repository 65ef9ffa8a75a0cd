// SPDX-License-Identifier: Apache-2.0
#pragma once
/// One word per thread: the address of the thread's record in the scheduler.
///
/// The only door to thread-local storage in the runtime. Compilers cache the address of a C++
/// `thread_local` over a stack switch (gcc by its IPA, clang even past an empty asm; hazards H3) and
/// would go on with the word of the thread that ran before. Volatile assembly is read again each time.
/// Never keep the value across a park.

#include <cstdint>

namespace tuco::inline v1::arch {

[[gnu::always_inline]] inline void* thread_slot() noexcept {
  void* value;
#if defined(__x86_64__)
  asm volatile(
      "movq tuco_thread_slot@gottpoff(%%rip), %0\n\t"
      "movq %%fs:(%0), %0"
      : "=r"(value));
#elif defined(__aarch64__)
  std::uintptr_t offset;
  asm volatile(
      "mrs %0, tpidr_el0\n\t"
      "adrp %1, :gottprel:tuco_thread_slot\n\t"
      "ldr %1, [%1, :gottprel_lo12:tuco_thread_slot]\n\t"
      "ldr %0, [%0, %1]"
      : "=&r"(value), "=&r"(offset));
#endif
  return value;
}

inline void set_thread_slot(void* value) noexcept {
#if defined(__x86_64__)
  std::uintptr_t offset;
  asm volatile(
      "movq tuco_thread_slot@gottpoff(%%rip), %0\n\t"
      "movq %1, %%fs:(%0)"
      : "=&r"(offset)
      : "r"(value)
      : "memory");
#elif defined(__aarch64__)
  std::uintptr_t base, offset;
  asm volatile(
      "mrs %0, tpidr_el0\n\t"
      "adrp %1, :gottprel:tuco_thread_slot\n\t"
      "ldr %1, [%1, :gottprel_lo12:tuco_thread_slot]\n\t"
      "str %2, [%0, %1]"
      : "=&r"(base), "=&r"(offset)
      : "r"(value)
      : "memory");
#endif
}

}  // namespace tuco::inline v1::arch
