// SPDX-License-Identifier: Apache-2.0
#include "arch/context.hpp"

extern "C" {
void tuco_context_entry();
[[noreturn]] void tuco_restart_stack(std::uintptr_t top, void (*entry)());
}

namespace tuco::inline v1::arch {

void make_context(context& c, std::uintptr_t top, entry_function entry) noexcept {
  top &= ~std::uintptr_t{15};
  auto* slot = reinterpret_cast<std::uintptr_t*>(top) - 1;
  *slot = reinterpret_cast<std::uintptr_t>(entry);
  c.sp = reinterpret_cast<std::uintptr_t>(slot);
  c.fp = 0;
  c.pc = reinterpret_cast<std::uintptr_t>(&tuco_context_entry);
  // A new goroutine starts with the environment that the ABI gives to main, whatever its creator set.
  c.float_control = 0x1f80;
  c.x87_control = 0x037f;
}

void restart_stack(std::uintptr_t top, entry_function entry) noexcept {
  const std::uint32_t mxcsr = 0x1f80;
  const std::uint16_t x87 = 0x037f;
  asm volatile("ldmxcsr %0\n\tfldcw %1" ::"m"(mxcsr), "m"(x87));
  tuco_restart_stack(top & ~std::uintptr_t{15}, entry);
}

}  // namespace tuco::inline v1::arch
