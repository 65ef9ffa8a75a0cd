// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Time stamps for the hot paths: the processor's own counter, read in about 8 ns instead of the
/// 25 ns of the steady clock, and turned into nanoseconds only when somebody looks.
///
/// **Unit.** A tick is whatever the counter counts; ticks of one process compare and subtract, and
/// mean nothing else. Where the counter cannot be trusted, a tick is a nanosecond of the steady clock.
/// **Order.** On one thread ticks() never goes backwards. Between cores it may lag by what the
/// counters differ (kernels keep this below a few hundred ns or turn the counter off), and the
/// processor may read the counter some instructions early: rdtsc waits for nothing.
/// **Error.** tick_scale interpolates between a calibration point taken at start and one taken when
/// the scale is made. Each point is good to about 50 ns, the counter's rate to what NTP slews the steady
/// clock (500 ppm at most) in between. A tick t of age a (before the scale was made) thus converts with
/// an error below 100 ns + a * 500 ppm, usually far less; ages are what users see ("3 minutes").
/// **Never backwards.** One scale maps rising ticks to rising times, and no tick into the scale's
/// future. Two scales made at different times may map one tick to times that differ by the error
/// above: convert everything of one report with one scale.

#include <atomic>
#include <cstdint>

namespace tuco::inline v1::base {

namespace detail {
inline std::atomic<bool> counter_trusted{false};
std::uint64_t steady_ticks() noexcept;
}  // namespace detail

/// The present, in ticks. Never 0.
inline std::uint64_t ticks() noexcept {
  if (!detail::counter_trusted.load(std::memory_order_relaxed)) [[unlikely]] {
    return detail::steady_ticks();
  }
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  std::uint64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
#else
  return detail::steady_ticks();
#endif
}

/// Chooses the counter or the steady clock and takes the first calibration point. Once, before the
/// first ticks() whose value is kept; later calls do nothing. Called by os/clock.hpp, which asks the
/// kernel.
void start_ticks(bool counter_trusted) noexcept;

/// Two points at which the counter and the steady clock were read together: what a reader of this
/// process, or of its core, needs to convert ticks. Part of tuco_debug_v1.
struct tick_calibration {
  std::atomic<std::uint64_t> trusted{0};      ///< 1: a tick is the processor's; 0: a nanosecond
  std::atomic<std::uint64_t> first_ticks{0};  ///< at start_ticks()
  std::atomic<std::int64_t> first_ns{0};
  std::atomic<std::uint64_t> later_ticks{0};  ///< when the last tick_scale was made; 0: none was
  std::atomic<std::int64_t> later_ns{0};
};
const tick_calibration& calibration() noexcept;

/// True when the processor says that its counter runs at one rate in all its states.
bool counter_is_invariant() noexcept;

/// Converts ticks, as of the moment at which it was made.
class tick_scale {
 public:
  /// Makes a calibration point: some 200 ns. In the first millisecond after start_ticks() it
  /// spins until the two points are a millisecond apart.
  tick_scale() noexcept;

  /// Steady-clock nanoseconds of a time stamp; at most now_ns(). 0 for 0 ("never").
  [[nodiscard]] std::int64_t to_ns(std::uint64_t ticks) const noexcept;
  /// Length of a span of ticks, in ns.
  [[nodiscard]] std::int64_t span_ns(std::uint64_t ticks) const noexcept;
  /// How long ago, >= 0.
  [[nodiscard]] std::int64_t age_ns(std::uint64_t ticks) const noexcept {
    return now_ns_ - to_ns(ticks);
  }
  /// The other way, for spans: e.g. the monitor's 10 ms.
  [[nodiscard]] std::uint64_t span_ticks(std::int64_t ns) const noexcept;

  [[nodiscard]] std::int64_t now_ns() const noexcept { return now_ns_; }
  [[nodiscard]] std::uint64_t now_ticks() const noexcept { return now_ticks_; }

 private:
  std::uint64_t now_ticks_;
  std::int64_t now_ns_;
  double ns_per_tick_;
};

}  // namespace tuco::inline v1::base
