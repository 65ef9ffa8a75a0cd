// SPDX-License-Identifier: Apache-2.0
#pragma once
/// From std::chrono to what the runtime counts in: nanoseconds of the steady clock in 64 bits.
///
/// Rounded up, so that nothing that waits is early by the rounding; saturating, so that
/// `hours::max()` means "never" and not the year 1754 (hazards H33).

#include <chrono>
#include <cmath>
#include <cstdint>
#include <ratio>
#include <type_traits>
#include <utility>

#include <tuco/config.hpp>

namespace tuco::inline v1::detail {

/// Never passes.
inline constexpr std::int64_t no_deadline = INT64_MAX;
/// Has always passed.
inline constexpr std::int64_t past_deadline = INT64_MIN;

/// Nanoseconds of `d`, rounded up, clamped to the range of the type; NaN is 0.
template <class Rep, class Period>
[[nodiscard]] constexpr std::int64_t saturated_ns(std::chrono::duration<Rep, Period> d) noexcept {
  using factor = std::ratio_divide<Period, std::nano>;
  if constexpr (std::is_integral_v<Rep> && factor::den == 1) {
    constexpr std::int64_t limit = INT64_MAX / factor::num;
    if (std::cmp_greater(d.count(), limit)) return INT64_MAX;
    if (std::cmp_less(d.count(), -limit)) return INT64_MIN;
    return static_cast<std::int64_t>(d.count()) * static_cast<std::int64_t>(factor::num);
  } else {
    // long double holds every 64-bit integer exactly (x86-64: 64-bit mantissa, aarch64: 113).
    const long double ns = static_cast<long double>(d.count()) *
                           static_cast<long double>(factor::num) /
                           static_cast<long double>(factor::den);
    if (ns != ns) return 0;
    if (ns >= 9223372036854775807.0L) return INT64_MAX;
    if (ns <= -9223372036854775808.0L) return INT64_MIN;
    const auto whole = static_cast<std::int64_t>(ns);
    return static_cast<long double>(whole) < ns ? whole + 1 : whole;
  }
}

/// The moment `t` of the steady clock.
template <class Duration>
[[nodiscard]] constexpr std::int64_t deadline_at(
    std::chrono::time_point<std::chrono::steady_clock, Duration> t) noexcept {
  return saturated_ns(t.time_since_epoch());
}

/// The moment `d` from now. Does not read the clock when `d` is not positive.
template <class Rep, class Period>
[[nodiscard]] std::int64_t deadline_after(std::chrono::duration<Rep, Period> d) noexcept {
  const std::int64_t ns = saturated_ns(d);
  if (ns <= 0) return past_deadline;
  const std::int64_t now = saturated_ns(std::chrono::steady_clock::now().time_since_epoch());
  return ns >= no_deadline - now ? no_deadline : now + ns;
}

}  // namespace tuco::inline v1::detail
