// SPDX-License-Identifier: Apache-2.0
#include "arch/context.hpp"

extern "C" {
void tuco_context_entry();
[[noreturn]] void tuco_restart_stack(std::uintptr_t top, void (*entry)());
}

namespace tuco::inline v1::arch {
namespace {

// A new goroutine starts with the environment that the ABI gives to main, whatever its creator set.
constexpr std::uint32_t initial_mxcsr = 0x1f80;
constexpr std::uint16_t initial_x87 = 0x037f;
constexpr std::uint32_t mxcsr_status = 0x3f;

}  // namespace

void make_context(context& c, std::uintptr_t top, entry_function entry) noexcept {
  top &= ~std::uintptr_t{15};
  auto* slot = reinterpret_cast<std::uintptr_t*>(top) - 1;
  *slot = reinterpret_cast<std::uintptr_t>(entry);
  c.sp = reinterpret_cast<std::uintptr_t>(slot);
  c.fp = 0;
  c.pc = reinterpret_cast<std::uintptr_t>(&tuco_context_entry);
  c.float_control = initial_mxcsr;
  c.x87_control = initial_x87;
}

void restart_stack(std::uintptr_t top, entry_function entry) noexcept {
  std::uint32_t mxcsr = 0;
  std::uint16_t x87 = 0;
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
  // As in the switch: loads wait for all that went before, and are nearly never needed.
  if ((mxcsr & ~mxcsr_status) != initial_mxcsr || x87 != initial_x87) [[unlikely]] {
    mxcsr = initial_mxcsr;
    x87 = initial_x87;
    asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(mxcsr), "m"(x87));
  }
  tuco_restart_stack(top & ~std::uintptr_t{15}, entry);
}

}  // namespace tuco::inline v1::arch
