// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/time.hpp
/// Sleeping, and channels that receive the time at a moment.
///
///     sleep_for(20ms);
///
///     select(on_recv(results, use),                       // a limit for one wait
///            on_recv(after(5s), [] { give_up(); }));
///
///     timer idle(30s);                                    // a limit that moves
///     for (;;) {
///       select(on_recv(requests, [&](auto r) { serve(*r); idle.reset(30s); }),
///              on_recv(idle.channel(), [&] { close(); }));
///     }
///
/// All times are those of std::chrono::steady_clock: setting the wall clock changes nothing.
/// Durations are rounded up to nanoseconds and end at the ends of their range: `hours::max()` is
/// never.
///
/// **Never early.** Whatever is awaited happens at its moment or later. How much later depends on
/// the load: expired timers are run by processors between goroutines, and by the idle ones.
/// **Blocking.** Sleeping frees the processor; on a thread that is not the runtime's it blocks that
/// thread. Starting, stopping and resetting a timer never park.
/// **Thread safety.** Any function and any member, from any goroutine or thread, concurrently; a
/// handle itself is an ordinary object. Capture handles by value.
/// **Outside run().** sleep_* work. Timers are run by processors: starting one before the first run()
/// or between two throws misuse_error. One that is pending when run() returns expires in the next.
/// **Ordering.** What happened before a timer was started or reset happens before the receive of its
/// value.
/// **Cost.** A sleep allocates nothing, a timer allocates once. Measured in bench/timer_bench.cpp.
/// **Source.** Go 1.23, package time: Sleep, After, Timer.

#include <chrono>
#include <cstdint>
#include <type_traits>

#include <tuco/chan.hpp>
#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>

namespace tuco::inline v1 {

namespace detail {

TUCO_API void sleep_until_ns(std::int64_t deadline) noexcept;

/// A started timer with its channel. @throws misuse_error, std::bad_alloc
[[nodiscard]] TUCO_API chan_core* timer_make(std::int64_t deadline);
/// @throws misuse_error for null
TUCO_API bool timer_stop(chan_core* timer);
/// @throws misuse_error for null, and outside run()
TUCO_API bool timer_reset(chan_core* timer, std::int64_t deadline);

}  // namespace detail

/// Parks the caller for at least `d`. Zero or less: lets others run, and returns.
template <class Rep, class Period>
void sleep_for(std::chrono::duration<Rep, Period> d) {
  detail::sleep_until_ns(detail::deadline_after(d));
}

/// Parks the caller until `Clock::now() >= t`. A moment that has passed: lets others run, and
/// returns. With a clock that can be set: notices only when it wakes that the moment has moved
/// closer, and sleeps on if it has moved away.
template <class Clock, class Duration>
void sleep_until(std::chrono::time_point<Clock, Duration> t) {
  if constexpr (std::is_same_v<Clock, std::chrono::steady_clock>) {
    detail::sleep_until_ns(detail::deadline_at(t));
  } else {
    auto now = Clock::now();
    if (!(now < t)) return detail::sleep_until_ns(detail::past_deadline);
    for (; now < t; now = Clock::now()) detail::sleep_until_ns(detail::deadline_after(t - now));
  }
}

/// A channel that receives the time once, at a moment that can be moved.
///
///                      pending                    expired, not received   expired and received, or stopped
///     channel()        empty                      holds the time          empty
///     stop()           true; will not expire      true; takes it back     false
///     reset(d)         true; pending anew         true; takes it back,    false; pending anew
///                                                 pending anew
///
/// So the answer is whether the call kept a value from being received, and a value that belongs to an
/// earlier setting is never received after stop() or reset() has returned. A receiver that was
/// waiting when the timer expired has received.
///
/// A handle, like Go's *Timer: copies name the same timer, and a default-constructed one none. A
/// running timer of which no handle is left, neither of it nor of its channel, ceases to exist at
/// once. The channel is never closed.
class timer {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// No timer: channel() is nil, the rest throws.
  timer() noexcept = default;
  /// Expires after `d`; zero or less: at once.
  /// @throws misuse_error outside run(), std::bad_alloc
  template <class Rep, class Period>
  explicit timer(std::chrono::duration<Rep, Period> d) : timer(detail::deadline_after(d)) {}
  template <class Duration>
  explicit timer(std::chrono::time_point<std::chrono::steady_clock, Duration> t)
      : timer(detail::deadline_at(t)) {}

  /// Where the time of expiry arrives; the same for the life of the timer.
  [[nodiscard]] const recv_chan<time_point>& channel() const noexcept { return channel_; }

  /// @return See above. @throws misuse_error if this is no timer
  bool stop() { return detail::timer_stop(detail::chan_access::core(channel_)); }

  /// Starts it anew, whatever it was doing.
  /// @return See above. @throws misuse_error if this is no timer, or outside run()
  template <class Rep, class Period>
  bool reset(std::chrono::duration<Rep, Period> d) {
    return detail::timer_reset(detail::chan_access::core(channel_), detail::deadline_after(d));
  }
  template <class Duration>
  bool reset(std::chrono::time_point<std::chrono::steady_clock, Duration> t) {
    return detail::timer_reset(detail::chan_access::core(channel_), detail::deadline_at(t));
  }

 private:
  explicit timer(std::int64_t deadline)
      : channel_(detail::chan_access::adopt<recv_chan<time_point>>(detail::timer_make(deadline))) {}

  // The timer lives as long as its channel: one count of references for both.
  recv_chan<time_point> channel_;
};

/// The channel of a new timer. Drop the channel, and the timer is gone, too.
/// @throws misuse_error outside run(), std::bad_alloc
template <class Rep, class Period>
[[nodiscard]] recv_chan<timer::time_point> after(std::chrono::duration<Rep, Period> d) {
  return timer(d).channel();
}

}  // namespace tuco::inline v1
