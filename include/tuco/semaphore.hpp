// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/semaphore.hpp
/// `semaphore`: at most so much of something at a time.
///
///     tuco::semaphore memory(64);                       // 64 units
///     {
///       tuco::semaphore::permit held(memory, 8);        // parks until 8 are free
///       work();
///     }                                                 // gives them back
///
///                      enough free, nobody waits   otherwise
///     acquire(n)       takes n                     parks, as the last of the line
///     try_acquire(n)   true                        false
///     release(n)       gives n back, and lets in the first of the line as long as they fit
///
/// **Fairness.** First come, first served: one that asks for much is not overtaken by those behind it that
/// ask for little, so it cannot starve.
/// **Blocking.** acquire() parks; on a plain thread it blocks that thread.
/// **Thread safety.** Any member, from any goroutine or thread; only the destructor needs exclusive access.
/// What one goroutine has acquired another one may release.
/// **Ordering.** release() happens before the return of the acquire() that it makes possible.
/// **Failure.** More than the semaphore's size can never be had: acquire() of it throws misuse_error instead
/// of waiting for ever, so does a negative number, and a release() of more than is held. Nothing has changed
/// then. An attempt that times out has not changed anything.
/// **Cost.** Uncontended: one atomic operation for each of acquire and release. 40 bytes.
/// **Source.** Go, golang.org/x/sync/semaphore (Weighted); std::counting_semaphore.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>
#include <tuco/error.hpp>

namespace tuco::inline v1 {

class semaphore {
 public:
  /// @param size  how much there is, all of it free; from 0 to 2^62
  /// @throws misuse_error
  TUCO_API explicit semaphore(std::int64_t size);
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  /// @throws misuse_error
  void acquire(std::int64_t n = 1) { acquire_ns(n, detail::no_deadline); }
  /// @throws misuse_error
  [[nodiscard]] TUCO_API bool try_acquire(std::int64_t n = 1);

  /// Gives up at `deadline`, never earlier; in the past: like try_acquire().
  /// @return Whether the caller has them now.  @throws misuse_error
  template <class Duration>
  [[nodiscard]] bool try_acquire_until(
      std::chrono::time_point<std::chrono::steady_clock, Duration> deadline, std::int64_t n = 1) {
    return acquire_ns(n, detail::deadline_at(deadline));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(std::chrono::duration<Rep, Period> timeout, std::int64_t n = 1) {
    return acquire_ns(n, detail::deadline_after(timeout));
  }

  /// @throws misuse_error
  TUCO_API void release(std::int64_t n = 1);

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  /// How much is free; a snapshot.
  [[nodiscard]] std::int64_t available() const noexcept {
    return static_cast<std::int64_t>(state_.load(std::memory_order_relaxed) / one);
  }

  /// Holds some of it, and gives that back at the end of its scope. Movable.
  class permit {
   public:
    permit() noexcept = default;
    /// Parks until it has them. @throws misuse_error
    explicit permit(semaphore& from, std::int64_t n = 1) : from_(&from), n_(n) { from.acquire(n); }
    permit(permit&& other) noexcept : from_(std::exchange(other.from_, nullptr)), n_(other.n_) {}
    permit& operator=(permit&& other) noexcept {
      permit taken(std::move(other));
      std::swap(from_, taken.from_);
      std::swap(n_, taken.n_);
      return *this;
    }
    ~permit() { release(); }

    /// Gives them back now.
    void release() noexcept {
      if (semaphore* const from = std::exchange(from_, nullptr); from != nullptr) from->release(n_);
    }
    [[nodiscard]] explicit operator bool() const noexcept { return from_ != nullptr; }

   private:
    semaphore* from_ = nullptr;
    std::int64_t n_ = 0;
  };

 private:
  static constexpr std::uint64_t queued = 1;  ///< somebody waits
  static constexpr std::uint64_t one = 2;     ///< a unit that is free

  TUCO_API bool acquire_ns(std::int64_t n, std::int64_t deadline);
  bool try_take(std::uint64_t n) noexcept;
  void let_in(std::uint64_t free) noexcept;

  std::atomic<std::uint64_t> state_;
  const std::int64_t size_;
  detail::wait_queue waiters_;
};

}  // namespace tuco::inline v1
