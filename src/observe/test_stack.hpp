// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/test_stack.hpp
/// For tests: a stack like a goroutine's, with a base frame that ends every walk.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#include "base/sanitizer.hpp"
#include "observe/unwinder.hpp"

// Calls fn(arg) on another stack. From the switch to the return its return address is undefined,
// as in the base frame of a goroutine. Weak: of all sources that include this one copy is taken, as
// the inline functions below are.
extern "C" void tuco_test_call_on(void* top, void (*fn)(void*), void* arg);
extern "C" const char tuco_test_call_on_base[];
#if defined(__x86_64__)
asm(R"(
  .text
  .weak tuco_test_call_on
  .weak tuco_test_call_on_base
  .type tuco_test_call_on, @function
tuco_test_call_on:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  push %rbx
  .cfi_def_cfa_offset 24
  .cfi_offset %rbx, -24
  mov %rsp, %rbx
  .cfi_def_cfa_register %rbx
  .cfi_remember_state
  mov %rdi, %rsp
  .cfi_undefined %rip
  xor %ebp, %ebp
  mov %rdx, %rdi
  call *%rsi
tuco_test_call_on_base:
  mov %rbx, %rsp
  .cfi_restore_state
  .cfi_def_cfa_register %rsp
  pop %rbx
  .cfi_def_cfa_offset 16
  pop %rbp
  .cfi_def_cfa_offset 8
  ret
  .cfi_endproc
  .size tuco_test_call_on, . - tuco_test_call_on
)");
#else
asm(R"(
  .text
  .weak tuco_test_call_on
  .weak tuco_test_call_on_base
  .type tuco_test_call_on, %function
tuco_test_call_on:
  .cfi_startproc
  stp x29, x30, [sp, #-32]!
  .cfi_def_cfa_offset 32
  .cfi_offset x29, -32
  .cfi_offset x30, -24
  str x19, [sp, #16]
  .cfi_offset x19, -16
  mov x19, sp
  .cfi_def_cfa_register x19
  .cfi_remember_state
  mov sp, x0
  .cfi_undefined x30
  mov x29, xzr
  mov x0, x2
  blr x1
tuco_test_call_on_base:
  mov sp, x19
  .cfi_restore_state
  .cfi_def_cfa_register sp
  ldr x19, [sp, #16]
  ldp x29, x30, [sp], #32
  .cfi_def_cfa_offset 0
  ret
  .cfi_endproc
  .size tuco_test_call_on, . - tuco_test_call_on
)");
#endif

namespace tuco::inline v1::observe {

inline std::uintptr_t base_pc() {
  return reinterpret_cast<std::uintptr_t>(tuco_test_call_on_base);
}

/// Its lowest page is inaccessible.
class test_stack {
 public:
  test_stack() {
    memory_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED || ::mprotect(memory_, 4096, PROT_NONE) != 0) throw std::bad_alloc();
  }
  test_stack(const test_stack&) = delete;
  test_stack& operator=(const test_stack&) = delete;
  ~test_stack() { ::munmap(memory_, bytes); }

  [[nodiscard]] stack_bounds bounds() const {
    const auto at = reinterpret_cast<std::uintptr_t>(memory_);
    return {at + 4096, at + bytes};
  }

  /// Runs f on this stack.
  template <class F>
  void call(F f) {
    visit v{&f};
    v.leave(bounds());
    tuco_test_call_on(
        reinterpret_cast<void*>(bounds().high),
        [](void* p) {
          visit& inside = *static_cast<visit*>(p);
          inside.arrive();
          (*static_cast<F*>(inside.f))();
          inside.leave(inside.caller);
        },
        &v);
    v.arrive();
  }

 private:
  /// What AddressSanitizer has to be told on both ways.
  struct visit {
    void* f;
    stack_bounds caller{};
    void* fake_stack = nullptr;

    void leave([[maybe_unused]] const stack_bounds& to) {
#ifdef TUCO_BASE_ASAN
      // The way back ends the stack: nothing of it is kept.
      const bool back = to.low == caller.low;
      __sanitizer_start_switch_fiber(back ? nullptr : &fake_stack, reinterpret_cast<const void*>(to.low),
                                     to.high - to.low);
#endif
    }
    void arrive() {
#ifdef TUCO_BASE_ASAN
      const void* from = nullptr;
      std::size_t size = 0;
      const bool back = caller.high != 0;
      __sanitizer_finish_switch_fiber(back ? fake_stack : nullptr, &from, &size);
      const auto low = reinterpret_cast<std::uintptr_t>(from);
      if (!back) caller = {low, low + size};
#endif
    }
  };

  static constexpr std::size_t bytes = 512 * 1024;
  void* memory_;
};

}  // namespace tuco::inline v1::observe
