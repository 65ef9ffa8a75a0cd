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
#include "base/sanitizer.hpp"

namespace tuco::inline v1::base {

/// Gives the core away once; lives in os/ (base knows no system call).
void spin_wait_yield() noexcept;

class spin_lock {
 public:
  // Inlined, also without optimization: layers with and without ThreadSanitizer share this class.
  [[gnu::always_inline]] void lock() noexcept {
    while (!try_lock()) [[unlikely]] wait_until_it_looks_free();
  }
  [[nodiscard, gnu::always_inline]] bool try_lock() noexcept {
    return locked_.exchange(1, std::memory_order_acquire) == 0;
  }
  [[gnu::always_inline]] void unlock() noexcept { release_lock_word(locked_); }

  /// The caller parks, and its commit action will unlock.
  void pass_to_commit_action() noexcept { tsan_release(this); }

 private:
  // Apart, so that who takes a free lock keeps its registers.
  [[gnu::noinline, gnu::cold]] void wait_until_it_looks_free() noexcept {
    for (int i = 0; locked_.load(std::memory_order_relaxed) != 0; ++i) {
      if (i % 64 != 63) base::pause();
      else spin_wait_yield();
    }
  }

  std::atomic<std::uint32_t> locked_{0};
};

}  // namespace tuco::inline v1::base
