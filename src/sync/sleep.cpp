// SPDX-License-Identifier: Apache-2.0
#include <tuco/time.hpp>

#include "os/clock.hpp"
#include "sched/park.hpp"

namespace tuco::inline v1::detail {

void sleep_until_ns(std::int64_t deadline) noexcept {
  sched::runtime_section section;
  // The clock is not read for a moment that has passed for certain: `sleep_for(0s)` is how some
  // programs spell yield().
  if (deadline == past_deadline || deadline <= os::steady_now_ns()) return sched::yield_in_section();
  sched::arm_claim(section.self());
  sched::park_until(
      deadline, [](sched::goroutine*, void*) noexcept { return true; }, nullptr, wait_reason::sleep,
      nullptr);
}

}  // namespace tuco::inline v1::detail
