// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A lock for a few dozen instructions. Not bound to a thread: a parking goroutine takes it on one
/// stack and the next context releases it (the commit action of sched/park.hpp), which is why
/// std::mutex cannot serve.
///
/// Unlocking is a plain release store. A waiter spins a little and then offers its core to others:
/// the holder may have been preempted by the kernel, and on few cores only the scheduler of the
/// kernel can bring it back. Rejected: a futex word, whose unlock needs a read-modify-write on every
/// channel operation to save the rare contended one a few sched_yield calls.

#include <atomic>
#include <cstdint>

#include "base/pause.hpp"

namespace tuco::inline v1::base {

/// Gives the core away once; lives in os/ (base knows no system call).
void spin_wait_yield() noexcept;

class spin_lock {
 public:
  void lock() noexcept {
    if (!try_lock()) [[unlikely]] lock_slow();
  }
  [[nodiscard]] bool try_lock() noexcept { return locked_.exchange(1, std::memory_order_acquire) == 0; }
  void unlock() noexcept { locked_.store(0, std::memory_order_release); }

 private:
  void lock_slow() noexcept {
    for (;;) {
      for (int i = 0; i < 64; ++i) {
        if (locked_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
        base::pause();
      }
      spin_wait_yield();
    }
  }

  std::atomic<std::uint32_t> locked_{0};
};

}  // namespace tuco::inline v1::base
