// SPDX-License-Identifier: Apache-2.0
#include "base/tick_clock.hpp"

#include <chrono>
#include <cmath>

#include "base/pause.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tuco::inline v1::base {
namespace {

std::int64_t steady_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct point {
  std::uint64_t ticks;
  std::int64_t ns;
};

// The clock lies somewhere between two readings of the counter. Of a few tries the narrowest is
// taken: an interrupt between the readings shows as a wide one.
point take_point() noexcept {
  point best{};
  std::uint64_t width = UINT64_MAX;
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t before = ticks();
    const std::int64_t ns = steady_ns();
    const std::uint64_t after = ticks();
    if (after - before < width) {
      width = after - before;
      best = {before + width / 2, ns};
    }
  }
  return best;
}

point first{};
constinit tick_calibration the_calibration;
std::atomic<int> state{0};  // 0: not started, 1: starting, 2: started

}  // namespace

namespace detail {
std::uint64_t steady_ticks() noexcept { return static_cast<std::uint64_t>(steady_ns()); }
}  // namespace detail

bool counter_is_invariant() noexcept {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000007, &a, &b, &c, &d) == 0) return false;
  return (d & (1u << 8)) != 0;
#else
  return true;  // the generic timer of aarch64 is, by its architecture
#endif
}

void start_ticks(bool counter_trusted) noexcept {
  int expected = 0;
  if (!state.compare_exchange_strong(expected, 1)) return;
  detail::counter_trusted.store(counter_trusted, std::memory_order_relaxed);
  first = take_point();
  the_calibration.trusted.store(counter_trusted, std::memory_order_relaxed);
  the_calibration.first_ticks.store(first.ticks, std::memory_order_relaxed);
  the_calibration.first_ns.store(first.ns, std::memory_order_relaxed);
  state.store(2, std::memory_order_release);
}

const tick_calibration& calibration() noexcept { return the_calibration; }

tick_scale::tick_scale() noexcept {
  if (state.load(std::memory_order_acquire) != 2 ||
      !detail::counter_trusted.load(std::memory_order_relaxed)) {
    now_ns_ = steady_ns();
    now_ticks_ = static_cast<std::uint64_t>(now_ns_);
    ns_per_tick_ = 1.0;
    return;
  }
  // Points that lie too close give a rate made of their errors: 100 ns in 1 ms are 100 ppm.
  point now = take_point();
  while (now.ns - first.ns < 1'000'000) {
    pause();
    now = take_point();
  }
  now_ticks_ = now.ticks;
  now_ns_ = now.ns;
  // Two threads at once may leave one's ticks and the other's time: a few microseconds of error.
  the_calibration.later_ticks.store(now.ticks, std::memory_order_relaxed);
  the_calibration.later_ns.store(now.ns, std::memory_order_relaxed);
  ns_per_tick_ =
      static_cast<double>(now.ns - first.ns) / static_cast<double>(now.ticks - first.ticks);
}

std::int64_t tick_scale::to_ns(std::uint64_t ticks) const noexcept {
  if (ticks == 0) return 0;
  // From now backwards: the younger the stamp, the smaller the error; and doubles keep their
  // nanoseconds over spans of 100 days, not over the machine's uptime in ticks.
  if (ticks >= now_ticks_) return now_ns_;
  return now_ns_ - span_ns(now_ticks_ - ticks);
}

std::int64_t tick_scale::span_ns(std::uint64_t ticks) const noexcept {
  return std::llround(static_cast<double>(ticks) * ns_per_tick_);
}

std::uint64_t tick_scale::span_ticks(std::int64_t ns) const noexcept {
  if (ns <= 0) return 0;
  // NOLINTNEXTLINE(bugprone-incorrect-roundings): not negative
  return static_cast<std::uint64_t>(static_cast<double>(ns) / ns_per_tick_ + 0.5);
}

}  // namespace tuco::inline v1::base
