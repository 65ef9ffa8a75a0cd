// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/shared_mutex.hpp
/// `shared_mutex`: many goroutines that read, or one that writes.
///
///                       free      shared by readers           locked by a writer
///     lock_shared       shares    shares; parks if a writer   parks
///                                 waits
///     lock              locks     parks                       parks
///     try_lock_shared   true      true; false if a writer     false
///                                 waits
///     try_lock          true      false                       false
///     unlock_shared     fatal     one reader fewer; the last  fatal
///                                 one lets the writer in
///     unlock            fatal     fatal                       unlocks, and lets others in
///
/// Meets the standard's requirements of a SharedTimedMutex: std::shared_lock, std::unique_lock and
/// std::scoped_lock work. Not recursive, also for readers: a second lock_shared() of the same goroutine
/// waits for a writer that waits for the first. There is no upgrade: two that wait for each other to
/// stop reading would wait for ever.
///
/// **Blocking.** lock() and lock_shared() park; on a plain thread they block it.
/// **Thread safety.** Any member, from any goroutine or thread; only the destructor needs exclusive
/// access. Constant-initialized, so it may be a global. As in Go a lock is not bound to its goroutine:
/// another one may unlock it.
/// **Ordering.** unlock() happens before the lock() and lock_shared() that follow; unlock_shared()
/// before the lock() that follows.
/// **Fairness.** A writer that waits keeps new readers out, so readers cannot starve it. When a writer
/// unlocks, all readers that wait by then come first, so writers cannot starve them. Among writers first
/// come, first served.
/// **Failure.** Unlocking what is not locked that way ends the program with status 2 and
/// `fatal error: sync: Unlock of unlocked RWMutex` (or `RUnlock`). An attempt that times out has not
/// changed anything.
/// **Cost.** Uncontended: one atomic operation for each call, on one word for all readers. 56 bytes.
/// **Source.** std::shared_timed_mutex; Go, sync.RWMutex.

#include <atomic>
#include <chrono>
#include <cstdint>

#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>

namespace tuco::inline v1 {

class shared_mutex {
 public:
  constexpr shared_mutex() noexcept = default;
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  // -- alone
  void lock() noexcept { lock_ns(detail::no_deadline); }
  [[nodiscard]] TUCO_API bool try_lock() noexcept;
  TUCO_API void unlock() noexcept;

  /// Gives up at `deadline`, never earlier; in the past: like try_lock().
  /// @return Whether the caller has the mutex now.
  template <class Duration>
  [[nodiscard]] bool try_lock_until(
      std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) noexcept {
    return lock_ns(detail::deadline_at(deadline));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(std::chrono::duration<Rep, Period> timeout) noexcept {
    return lock_ns(detail::deadline_after(timeout));
  }

  // -- together with other readers
  void lock_shared() noexcept { lock_shared_ns(detail::no_deadline); }
  [[nodiscard]] TUCO_API bool try_lock_shared() noexcept;
  TUCO_API void unlock_shared() noexcept;

  template <class Duration>
  [[nodiscard]] bool try_lock_shared_until(
      std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) noexcept {
    return lock_shared_ns(detail::deadline_at(deadline));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(std::chrono::duration<Rep, Period> timeout) noexcept {
    return lock_shared_ns(detail::deadline_after(timeout));
  }

  // -- looking; snapshots
  /// Id of the goroutine that has it alone, as a dump shows it; 0: nobody, or a plain thread.
  [[nodiscard]] std::uint64_t owner() const noexcept { return owner_.load(std::memory_order_relaxed); }
  /// How many readers share it.
  [[nodiscard]] std::uint32_t readers() const noexcept {
    return state_.load(std::memory_order_relaxed) / one_reader;
  }

 private:
  static constexpr std::uint32_t writing = 1;  ///< a writer has it
  static constexpr std::uint32_t queued = 2;   ///< somebody waits
  static constexpr std::uint32_t one_reader = 4;

  TUCO_API bool lock_ns(std::int64_t deadline) noexcept;
  TUCO_API bool lock_shared_ns(std::int64_t deadline) noexcept;
  void let_in(std::uint32_t state, bool readers_first) noexcept;
  void leave_line(detail::wait_list& line, detail::wait_node& node) noexcept;

  std::atomic<std::uint32_t> state_{0};
  detail::wait_queue writers_;  ///< its lock guards both lines
  detail::wait_list readers_;
  std::atomic<std::uint64_t> owner_{0};
};

}  // namespace tuco::inline v1
