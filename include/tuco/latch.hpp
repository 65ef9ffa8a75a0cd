// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/latch.hpp
/// `latch`: a door that opens once, when so many have come.
///
///     tuco::latch ready(3);
///     for (auto& part : parts) tuco::go([&] { part.load(); ready.count_down(); });
///     ready.wait();
///
///                    counter > 0                                   counter 0
///     count_down     counts down; reaching 0 wakes all waiters     throws
///     try_wait       false                                         true
///     wait           parks                                         returns
///
/// std::latch for goroutines. A wait_group whose number is known from the start and that is used once: there
/// is no add(), so nobody can add too late.
///
/// **Blocking.** wait() and arrive_and_wait() park; on a plain thread they block it.
/// **Thread safety.** Any member, from any goroutine or thread. It may be destroyed as soon as a wait() has
/// returned.
/// **Ordering.** count_down() happens before the return of every wait().
/// **Failure.** Counting below 0, or from a negative number, throws misuse_error and changes nothing.
/// **Cost.** count_down: one atomic operation. 32 bytes.
/// **Source.** std::latch.

#include <chrono>
#include <cstddef>

#include <tuco/wait_group.hpp>

namespace tuco::inline v1 {

class latch {
 public:
  /// @throws misuse_error
  explicit latch(int expected) { rest_.add_or_throw(expected, below_zero); }
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;

  /// @throws misuse_error
  void count_down(int n = 1) { rest_.add_or_throw(n < 0 ? too_many : -n, below_zero); }
  [[nodiscard]] bool try_wait() { return rest_.wait_ns(detail::past_deadline, wait_reason::latch_wait); }
  void wait() { rest_.wait_ns(detail::no_deadline, wait_reason::latch_wait); }
  /// @throws misuse_error
  void arrive_and_wait(int n = 1) {
    count_down(n);
    wait();
  }

  /// Gives up at `deadline`, never earlier; in the past: only looks.
  /// @return Whether the counter was 0.
  template <class Duration>
  [[nodiscard]] bool wait_until(std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) {
    return rest_.wait_ns(detail::deadline_at(deadline), wait_reason::latch_wait);
  }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> timeout) {
    return rest_.wait_ns(detail::deadline_after(timeout), wait_reason::latch_wait);
  }

  /// How many are still to come; a snapshot.
  [[nodiscard]] int count() const noexcept { return rest_.count(); }

 private:
  static constexpr const char* below_zero = "latch: count below zero";
  static constexpr int too_many = INT32_MIN;

  wait_group rest_;
};

}  // namespace tuco::inline v1
