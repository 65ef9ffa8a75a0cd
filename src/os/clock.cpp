// SPDX-License-Identifier: Apache-2.0
#include "os/clock.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <string_view>

#include "base/tick_clock.hpp"
#include "os/env.hpp"
#include "os/proc.hpp"
#include "os/syscall.hpp"

namespace tuco::inline v1::os {
namespace {

// The kernel's own choice is the best witness: it watches the counter against other clocks and falls
// back (to hpet, acpi_pm, ...) when the two disagree. The virtual clocks of KVM and Hyper-V are the
// counter with a scale that the host supplies.
bool kernel_uses_counter() noexcept {
#if defined(__x86_64__)
  char text[64];
  const ssize_t n = read_file("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                              text, sizeof text);
  if (n <= 0) return false;
  std::string_view name(text, static_cast<std::size_t>(n));
  if (name.back() == '\n') name.remove_suffix(1);
  return name == "tsc" || name == "kvm-clock" || name == "hyperv_clocksource_tsc_page";
#else
  return true;
#endif
}

}  // namespace

std::int64_t steady_now_ns() noexcept {
  // Not injectable: it cannot fail, and nothing could go on if it did.
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void start_tick_clock() noexcept {
  base::start_ticks(!debug_option("notsc") && base::counter_is_invariant() &&
                    kernel_uses_counter());
}

}  // namespace tuco::inline v1::os
