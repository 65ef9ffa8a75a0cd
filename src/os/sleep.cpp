// SPDX-License-Identifier: Apache-2.0
#include "os/sleep.hpp"

#include <ctime>

#include "os/clock.hpp"
#include "os/syscall.hpp"

namespace tuco::inline v1::os {

int sleep_until(std::int64_t deadline_ns) noexcept {
  const timespec deadline = to_timespec(deadline_ns);
  return retry_eintr([&] {
    if (const int fault = injected_fault(call::nanosleep); fault != 0) return -fault;
    // Returns the error itself, not -1.
    return -::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, nullptr);
  });
}

int sleep_for(std::int64_t ns) noexcept { return sleep_until(saturating_add(steady_now_ns(), ns)); }

}  // namespace tuco::inline v1::os
