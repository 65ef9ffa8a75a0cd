// SPDX-License-Identifier: Apache-2.0
#include "arch/context.hpp"

extern "C" {
void tuco_context_entry();
[[noreturn]] void tuco_restart_stack(std::uintptr_t top, void (*entry)());
}

namespace tuco::inline v1::arch {
namespace {

// A new goroutine starts with the environment that the ABI gives to main, whatever its creator set.
constexpr std::uint32_t initial_fpcr = 0;

}  // namespace

void make_context(context& c, std::uintptr_t top, entry_function entry) noexcept {
  top &= ~std::uintptr_t{15};
  c.sp = top - 16;
  *reinterpret_cast<std::uintptr_t*>(c.sp) = reinterpret_cast<std::uintptr_t>(entry);
  c.fp = 0;
  c.pc = reinterpret_cast<std::uintptr_t>(&tuco_context_entry);
  c.float_control = initial_fpcr;
  c.x87_control = 0;
}

void restart_stack(std::uintptr_t top, entry_function entry) noexcept {
  std::uint64_t fpcr = 0;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  if (fpcr != initial_fpcr) [[unlikely]] {
    fpcr = initial_fpcr;
    asm volatile("msr fpcr, %0" ::"r"(fpcr));
  }
  tuco_restart_stack(top & ~std::uintptr_t{15}, entry);
}

}  // namespace tuco::inline v1::arch
