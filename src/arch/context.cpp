// SPDX-License-Identifier: Apache-2.0
#include "arch/context.hpp"

extern "C" {
extern const tuco::arch::switch_range __start_tuco_switch_ranges[] __attribute__((visibility("hidden")));
extern const tuco::arch::switch_range __stop_tuco_switch_ranges[] __attribute__((visibility("hidden")));
}

namespace tuco::inline v1::arch {

const context* inside_switch(std::uintptr_t pc, std::uintptr_t target_register) noexcept {
  for (const switch_range* r = __start_tuco_switch_ranges; r != __stop_tuco_switch_ranges; ++r) {
    const auto begin = reinterpret_cast<std::uintptr_t>(&r->begin) + static_cast<std::intptr_t>(r->begin);
    const auto end = reinterpret_cast<std::uintptr_t>(&r->end) + static_cast<std::intptr_t>(r->end);
    if (pc >= begin && pc < end) return reinterpret_cast<const context*>(target_register);
  }
  return nullptr;
}

}  // namespace tuco::inline v1::arch
