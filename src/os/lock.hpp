// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A mutex for the scheduler's cold paths, whose waiters sleep in the kernel: a list of idle
/// threads, growth of the registry, a stack arena being mapped.
///
/// Not owned by a thread: whoever reaches unlock() may unlock, also on another thread than the one
/// that locked. Not recursive, not fair. Use base::spin_lock for a few dozen instructions; this one
/// where the holder may be in a system call.

#include <atomic>
#include <cstdint>

namespace tuco::inline v1::os {

class futex_lock {
 public:
  constexpr futex_lock() noexcept = default;
  futex_lock(const futex_lock&) = delete;
  futex_lock& operator=(const futex_lock&) = delete;

  void lock() noexcept {
    std::uint32_t expected = free_;
    if (!word_.compare_exchange_strong(expected, held_, std::memory_order_acquire,
                                       std::memory_order_relaxed)) [[unlikely]] {
      lock_slow();
    }
  }
  [[nodiscard]] bool try_lock() noexcept {
    std::uint32_t expected = free_;
    return word_.compare_exchange_strong(expected, held_, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  void unlock() noexcept {
    if (word_.exchange(free_, std::memory_order_release) == contended_) [[unlikely]] wake_one();
  }

 private:
  // Three states, so that an unlock without waiters makes no system call.
  static constexpr std::uint32_t free_ = 0;
  static constexpr std::uint32_t held_ = 1;
  static constexpr std::uint32_t contended_ = 2;  ///< held, and somebody may sleep

  void lock_slow() noexcept;
  void wake_one() noexcept;

  std::atomic<std::uint32_t> word_{free_};
};

using lock = futex_lock;  // the class has a member of that name

}  // namespace tuco::inline v1::os
