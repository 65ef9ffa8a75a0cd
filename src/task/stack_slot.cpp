// SPDX-License-Identifier: Apache-2.0
#include "task/stack_slot.hpp"

#include <algorithm>

namespace tuco::inline v1::task {

unsigned stack_class_for(std::size_t bytes) noexcept {
  unsigned c = smallest_stack_class(bytes);
  while (c < stack_class_count && guard_bytes(c) * 4 > slot_bytes(c)) ++c;
  return c;
}

bool in_guard(const stack& s, std::uintptr_t address) noexcept {
  return s && address < s.low && address >= s.high - slot_bytes(stack_class_of(s));
}

std::size_t high_water(const stack& s) noexcept {
  const std::size_t page = os::page_size();
  unsigned char pages[1024];
  for (std::uintptr_t at = s.low; at < s.high;) {
    const std::size_t count = std::min<std::size_t>(sizeof pages, (s.high - at) / page);
    if (count == 0 || os::residency(reinterpret_cast<void*>(at), count * page, pages) < 0) return 0;
    for (std::size_t i = 0; i < count; ++i) {
      if ((pages[i] & 1) != 0) return s.high - (at + i * page);
    }
    at += count * page;
  }
  return 0;
}

bool check_canary(const stack& s, bool low) noexcept {
  const std::uintptr_t high = stack_detail::high_canary(s);
  return stack_detail::word_at(high) == stack_detail::canary_of(high) &&
         (!low || stack_detail::word_at(s.low) == stack_detail::canary_of(s.low));
}

}  // namespace tuco::inline v1::task
