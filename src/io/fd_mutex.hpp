// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Who uses a descriptor: a lock for readers, a lock for writers, a count of users, and "closed".
///
///                 while open                      after close()
///     lock(d)     one holder per direction,       false; those that wait get false too
///                 others park, first come first
///     enter()     counts a user                   false
///     unlock,     uncounts it                     the last one lets wait_until_unused() return
///     leave
///
/// The number is closed only after wait_until_unused(), so no user can meet a descriptor that
/// was closed and opened anew under it (hazards H34).
///
/// **Orphans.** A goroutine that was parked when its run() ended never leaves. Then the closer may
/// give the duty to close away to the last user: disown().
/// **Source.** The idea is that of Go's internal/poll fdMutex; the queues here are lists of parked
/// goroutines, and the lock is handed over, so that a stream of new callers starves nobody.

#include <atomic>
#include <cstdint>

#include "base/spin_lock.hpp"
#include "poll/poll_descriptor.hpp"
#include "sched/park.hpp"

namespace tuco::inline v1::io {

using poll::direction;

class fd_mutex {
 public:
  /// @return False: closed.
  [[nodiscard]] bool lock(direction d) noexcept {
    std::uint32_t old = state_.load(std::memory_order_relaxed);
    while ((old & (closed | locked(d))) == 0) {
      if (state_.compare_exchange_weak(old, (old | locked(d)) + user, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return true;
      }
    }
    return (old & closed) == 0 && lock_slow(d);
  }

  /// @return True: the caller was the last user of a descriptor that its closer has disowned.
  [[nodiscard]] bool unlock(direction d) noexcept {
    std::uint32_t old = state_.load(std::memory_order_relaxed);
    while ((old & waiters(d)) == 0) {
      const std::uint32_t next = (old & ~locked(d)) - user;
      if (state_.compare_exchange_weak(old, next, std::memory_order_release,
                                       std::memory_order_relaxed)) {
        return is_over(next) && last_user_left();
      }
    }
    return unlock_slow(d);
  }

  [[nodiscard]] bool enter() noexcept {
    std::uint32_t old = state_.load(std::memory_order_relaxed);
    while ((old & closed) == 0) {
      if (state_.compare_exchange_weak(old, old + user, std::memory_order_acquire,
                                       std::memory_order_relaxed)) {
        return true;
      }
    }
    return false;
  }

  /// @return As unlock().
  [[nodiscard]] bool leave() noexcept {
    const std::uint32_t next = state_.fetch_sub(user, std::memory_order_release) - user;
    return is_over(next) && last_user_left();
  }

  [[nodiscard]] bool is_closed() const noexcept {
    return (state_.load(std::memory_order_acquire) & closed) != 0;
  }

  /// From here on nobody gets in. Wakes those that wait for a lock; those that hold one are the
  /// caller's to wake. @return True for the one call that closed it.
  [[nodiscard]] bool close() noexcept;

  /// After close(), by its caller: parks until the last user has left.
  void wait_until_unused() noexcept;

  /// After close(): whether wait_until_unused() would return at once.
  [[nodiscard]] bool is_unused() noexcept;

  /// Instead of wait_until_unused(), where users may never leave.
  /// @return False if there is no user any more: the caller goes on as if it had waited.
  [[nodiscard]] bool disown() noexcept;

 private:
  static constexpr std::uint32_t closed = 1;
  static constexpr std::uint32_t user = 32;  // the count is the rest: 2^27 users
  static constexpr std::uint32_t locked(direction d) noexcept { return d == direction::read ? 2 : 4; }
  static constexpr std::uint32_t waiters(direction d) noexcept {
    return d == direction::read ? 8 : 16;
  }
  static constexpr bool is_over(std::uint32_t state) noexcept {
    return (state & closed) != 0 && state < user;
  }

  struct waiter {
    sched::goroutine* g;
    waiter* next = nullptr;
    bool granted = false;
  };
  struct queue {
    waiter* head = nullptr;
    waiter* tail = nullptr;
  };

  bool lock_slow(direction d) noexcept;
  bool unlock_slow(direction d) noexcept;
  bool last_user_left() noexcept;

  std::atomic<std::uint32_t> state_{0};

  // Guards what follows, and the waiter bits of state_ while they change.
  base::spin_lock list_lock_;
  bool unused_ = false;    ///< closed, and the last user has said so
  bool disowned_ = false;
  sched::goroutine* closer_ = nullptr;
  queue queue_[2];
};

}  // namespace tuco::inline v1::io
