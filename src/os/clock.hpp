// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The steady clock (CLOCK_MONOTONIC), in nanoseconds, and the start of the tick clock.

#include <cstdint>
#include <ctime>

namespace tuco::inline v1::os {

/// Nanoseconds of CLOCK_MONOTONIC: the clock of std::chrono::steady_clock, of futex deadlines and of
/// clock_nanosleep. About 25 ns, no system call on usual machines.
std::int64_t steady_now_ns() noexcept;

/// Negative times become 0: the kernel refuses negative ones, and both have passed.
constexpr timespec to_timespec(std::int64_t ns) noexcept {
  if (ns < 0) ns = 0;
  return {static_cast<std::time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

/// `a + b` that stays at the ends of the range instead of wrapping (hazards H33).
constexpr std::int64_t saturating_add(std::int64_t a, std::int64_t b) noexcept {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return a < 0 ? INT64_MIN : INT64_MAX;
}

/// Decides whether base::ticks() may read the processor's counter, and takes its first calibration
/// point. Idempotent. Before it, base::ticks() is the steady clock.
/// The counter is used when the processor says that it runs at a constant rate in all its states and
/// the kernel itself has not turned away from it: a counter that the kernel found unstable differs
/// from core to core. TUCO_DEBUG=notsc=1 refuses it.
void start_tick_clock() noexcept;

}  // namespace tuco::inline v1::os
