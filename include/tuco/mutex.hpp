// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/mutex.hpp
/// `mutex`: mutual exclusion between goroutines; who waits frees its processor for others.
///
///                    unlocked      locked
///     lock           locks         parks
///     try_lock       true          false
///     try_lock_for   true          parks; false when the time has passed
///     unlock         fatal error   unlocks, and wakes one waiter
///
/// Meets the standard's requirements of a TimedLockable: std::lock_guard, std::unique_lock and
/// std::scoped_lock (also over several) work. Not recursive: locking it twice waits for ever. As in
/// Go it is not bound to its owner: another goroutine may unlock it.
///
/// **Blocking.** lock() spins for some microseconds if the owner may be running on another
/// processor, then parks. On a plain thread it blocks that thread.
/// **Thread safety.** Any member, from any goroutine or thread; only the destructor needs exclusive
/// access. Constant-initialized, so it may be a global.
/// **Ordering.** unlock() happens before the lock() that follows it.
/// **Fairness.** Usually whoever comes first gets it, also past goroutines that have just been
/// woken: that is several times faster than handing it over. A goroutine that has waited for more
/// than a millisecond turns the mutex to first come, first served until the line has moved on, so
/// nobody starves.
/// **Failure.** Unlocking an unlocked mutex ends the program with status 2 and
/// `fatal error: sync: unlock of unlocked mutex`. An attempt that times out has not changed anything.
/// **Cost.** Uncontended: one atomic operation for each of lock and unlock. 40 bytes.
/// **Source.** Go, sync.Mutex (normal and starvation mode). The algorithm is in src/sync/mutex.cpp.

#include <atomic>
#include <chrono>
#include <cstdint>

#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>

namespace tuco::inline v1 {

class mutex {
 public:
  constexpr mutex() noexcept = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  TUCO_API void lock() noexcept;
  TUCO_API void unlock() noexcept;
  [[nodiscard]] TUCO_API bool try_lock() noexcept;

  /// Gives up at `deadline`, never earlier; in the past: like try_lock().
  /// @return Whether the caller has the mutex now.
  template <class Duration>
  [[nodiscard]] bool try_lock_until(
      std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) noexcept {
    return lock_until(detail::deadline_at(deadline));
  }
  /// With another clock: the time that is left by it is waited for on the steady clock, again if
  /// the other clock was set back meanwhile.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(std::chrono::time_point<Clock, Duration> deadline) {
    for (;;) {
      const auto left = deadline - Clock::now();
      if (try_lock_for(left)) return true;
      if (Clock::now() >= deadline) return false;
    }
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> timeout) noexcept {
    return try_lock() || lock_until(detail::deadline_after(timeout));
  }

  /// Id of the goroutine that locked it, as a dump shows it; 0: nobody, or a plain thread. A
  /// snapshot.
  [[nodiscard]] std::uint64_t owner() const noexcept {
    return owner_.load(std::memory_order_relaxed);
  }

 private:
  TUCO_API bool lock_until(std::int64_t deadline) noexcept;
  bool lock_slow(std::int64_t deadline) noexcept;
  void unlock_slow(std::uint32_t state) noexcept;

  std::atomic<std::uint32_t> state_{0};
  detail::wait_queue waiters_;
  std::atomic<std::uint64_t> owner_{0};
};

}  // namespace tuco::inline v1
