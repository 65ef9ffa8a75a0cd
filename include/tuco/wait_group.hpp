// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/wait_group.hpp
/// `wait_group`: waits until a number of goroutines have said that they are done.
///
///     tuco::wait_group all;
///     for (auto& part : parts) {
///       all.add();
///       tuco::go([&] { work(part); all.done(); });
///     }
///     all.wait();
///
///                     counter 0      counter > 0
///     add(n > 0)      counts up      counts up
///     done, add(-n)   throws         counts down; reaching 0 wakes all waiters
///     wait            returns        parks
///
/// Call add() before the goroutine starts that calls done(). It may be used again at once: a wait()
/// ends with the round in which it began.
///
/// **Blocking.** wait() parks; on a plain thread it blocks that thread.
/// **Thread safety.** Any member, from any goroutine or thread. It may be destroyed as soon as
/// wait() has returned.
/// **Ordering.** done() happens before the return of the wait() that it ends.
/// **Failure.** A counter that would become negative throws misuse_error and stays as it was.
/// **Cost.** add and done: one atomic operation each. 32 bytes.
/// **Source.** Go, sync.WaitGroup.

#include <atomic>
#include <chrono>
#include <cstdint>

#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>
#include <tuco/error.hpp>
#include <tuco/wait_reason.hpp>

namespace tuco::inline v1 {

class wait_group {
 public:
  constexpr wait_group() noexcept = default;
  wait_group(const wait_group&) = delete;
  wait_group& operator=(const wait_group&) = delete;

  /// @throws misuse_error
  void add(int delta = 1) { add_or_throw(delta, "sync: negative WaitGroup counter"); }
  /// One of those that were added is done. @throws misuse_error
  void done() { add(-1); }

  /// Parks until the counter is 0.
  void wait() { wait_ns(detail::no_deadline, wait_reason::wait_group_wait); }

  /// Gives up at `deadline`, never earlier; in the past: only looks.
  /// @return Whether the counter was 0.
  template <class Duration>
  [[nodiscard]] bool wait_until(
      std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) {
    return wait_ns(detail::deadline_at(deadline), wait_reason::wait_group_wait);
  }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(std::chrono::duration<Rep, Period> timeout) {
    return wait_ns(detail::deadline_after(timeout), wait_reason::wait_group_wait);
  }

  /// The counter; a snapshot.
  [[nodiscard]] int count() const noexcept {
    return static_cast<int>(state_.load(std::memory_order_relaxed) >> 32);
  }

 private:
  friend class latch;  // the same with other words

  TUCO_API void add_or_throw(int delta, const char* misuse);
  TUCO_API bool wait_ns(std::int64_t deadline, wait_reason reason);

  std::atomic<std::uint64_t> state_{0};  ///< high half: counter; low half: waiters in line
  detail::wait_queue waiters_;
};

}  // namespace tuco::inline v1
