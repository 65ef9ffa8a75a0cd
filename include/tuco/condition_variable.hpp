// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/condition_variable.hpp
/// `condition_variable`: goroutines wait until another one says that something has changed.
///
///     std::unique_lock lock(mutex);                 // the waiter
///     ready.wait(lock, [&] { return !queue.empty(); });
///
///     { std::scoped_lock lock(mutex); queue.push_back(x); }   // the other side
///     ready.notify_one();
///
///                    nobody waits   goroutines wait
///     notify_one     nothing        wakes the one that has waited longest
///     notify_all     nothing        wakes all
///     wait           unlocks, parks, and locks again
///
/// `condition_variable` waits with std::unique_lock<tuco::mutex>; `condition_variable_any` with
/// anything that has lock() and unlock().
///
/// **Blocking.** The wait functions park; on a plain thread they block it.
/// **Thread safety.** Any member, from any goroutine or thread. It may be destroyed once all waiters
/// have been notified, even if they have not returned yet.
/// **Ordering.** A notification happens before the return of the wait that it ends. A waiter is in
/// line before it unlocks: who changes the state under the lock and notifies then is never missed.
/// **Fairness.** Waiters are woken in the order in which they called; then they compete for the lock.
/// **Failure.** Wakes nobody by accident, but by the time the lock is taken again another goroutine
/// may have changed the state back: use the forms with a predicate. A wait that times out has not
/// swallowed a notification.
/// **Cost.** notify without waiters: one load. 24 bytes.
/// **Source.** std::condition_variable; Go, sync.Cond.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>
#include <tuco/mutex.hpp>

namespace tuco::inline v1 {

using std::cv_status;

namespace detail {

/// A condition variable in two steps, between which the caller unlocks whatever it has locked.
class condition_core {
 public:
  constexpr condition_core() noexcept = default;
  condition_core(const condition_core&) = delete;
  condition_core& operator=(const condition_core&) = delete;

  TUCO_API void notify_one() noexcept;
  TUCO_API void notify_all() noexcept;

 protected:
  struct waiter : wait_node {
    std::atomic<std::uint8_t> stage{0};
  };

  TUCO_API void announce(waiter& w, bool timed) noexcept;
  /// @return False if the deadline has passed first.
  TUCO_API bool wait(waiter& w, std::int64_t deadline) noexcept;
  /// Takes back an announcement that was not waited for; hands a notification on to the next.
  TUCO_API void withdraw(waiter& w) noexcept;

  template <class Lock>
  bool wait_with(Lock& lock, std::int64_t deadline) {
    waiter w;
    announce(w, deadline != no_deadline);
    // A lock may throw from unlock(): then nothing may be left of the wait.
    struct guard {
      condition_core* core;
      waiter& w;
      ~guard() {
        if (core != nullptr) core->withdraw(w);
      }
    } unwind{this, w};
    lock.unlock();
    unwind.core = nullptr;
    const bool notified = wait(w, deadline);
    lock.lock();
    return notified;
  }

  template <class Lock, class Predicate>
  bool wait_with(Lock& lock, std::int64_t deadline, Predicate& predicate) {
    while (!predicate()) {
      if (!wait_with(lock, deadline)) return predicate();
    }
    return true;
  }

 private:
  static bool commit(task::goroutine* self, void* argument) noexcept;

  wait_queue waiters_;
};

template <class Lock>
class basic_condition_variable : private condition_core {
 public:
  using condition_core::notify_all;
  using condition_core::notify_one;

 protected:
  template <class L>
  using permit = std::enable_if_t<std::is_void_v<Lock> || std::is_same_v<L, Lock>>;

 public:
  /// Unlocks, parks until notified, locks again.
  /// @pre `lock` is locked
  template <class L, class = permit<L>>
  void wait(L& lock) {
    wait_with(lock, no_deadline);
  }
  /// Until `predicate()` is true; it is called with the lock held.
  template <class L, class Predicate, class = permit<L>>
  void wait(L& lock, Predicate predicate) {
    wait_with(lock, no_deadline, predicate);
  }

  /// @return `timeout` only if the deadline has passed without a notification for this waiter.
  template <class L, class Duration, class = permit<L>>
  cv_status wait_until(L& lock,
                       std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) {
    return wait_with(lock, deadline_at(deadline)) ? cv_status::no_timeout : cv_status::timeout;
  }
  /// @return The predicate's last answer.
  template <class L, class Duration, class Predicate, class = permit<L>>
  bool wait_until(L& lock,
                  std::chrono::time_point<std::chrono::steady_clock, Duration> deadline,
                  Predicate predicate) {
    return wait_with(lock, deadline_at(deadline), predicate);
  }

  /// Like wait_until(now + timeout).
  template <class L, class Rep, class Period, class = permit<L>>
  cv_status wait_for(L& lock, std::chrono::duration<Rep, Period> timeout) {
    return wait_with(lock, deadline_after(timeout)) ? cv_status::no_timeout : cv_status::timeout;
  }
  template <class L, class Rep, class Period, class Predicate, class = permit<L>>
  bool wait_for(L& lock, std::chrono::duration<Rep, Period> timeout, Predicate predicate) {
    return wait_with(lock, deadline_after(timeout), predicate);
  }
};

}  // namespace detail

/// Waits with a tuco::mutex.
class condition_variable : public detail::basic_condition_variable<std::unique_lock<mutex>> {};

/// Waits with any lock.
class condition_variable_any : public detail::basic_condition_variable<void> {};

}  // namespace tuco::inline v1
