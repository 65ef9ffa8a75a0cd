// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/barrier.hpp
/// `barrier`: so many goroutines meet, again and again; nobody goes on before all have come.
///
///     tuco::barrier step(workers, [&]() noexcept { std::swap(now, next); });
///     for (int w = 0; w < workers; ++w) {
///       tuco::go([&, w] { for (int i = 0; i < rounds; ++i) { compute(w); step.arrive_and_wait(); } });
///     }
///
/// A phase ends when the last of `expected` has arrived: that one runs the completion function, then all go
/// on and the next phase begins.
///
///                        not the last                     the last of its phase
///     arrive             counts, returns a token          also ends the phase
///     wait(token)        parks until the phase has ended  returns
///     arrive_and_wait    both                             ends the phase, returns
///     arrive_and_drop    counts, here and in every phase to come one less is expected
///
/// **Blocking.** wait() and arrive_and_wait() park; on a plain thread they block it.
/// **Thread safety.** Any member, from any goroutine or thread. It may be destroyed as soon as everybody's
/// wait has returned.
/// **Ordering.** Every arrival happens before the completion function; that before the return of every wait.
/// **Failure.** More arrivals than expected in a phase, or a negative number, throw misuse_error and change
/// nothing. A wait that times out does not take its arrival back.
/// **Cost.** One short critical section for each arrival. 56 bytes and the completion function.
/// **Source.** std::barrier.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>
#include <tuco/error.hpp>

namespace tuco::inline v1 {

namespace detail {

class barrier_core {
 public:
  barrier_core(const barrier_core&) = delete;
  barrier_core& operator=(const barrier_core&) = delete;

  /// How many are still to come in this phase, how many it began with, and its number; snapshots.
  [[nodiscard]] std::int64_t missing() const noexcept { return missing_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t expected() const noexcept { return expected_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t phase() const noexcept { return phase_.load(std::memory_order_relaxed); }

 protected:
  struct arrival {
    std::uint64_t phase;
    bool last;  ///< the caller is to run the completion function, and then end_phase()
  };

  TUCO_API explicit barrier_core(std::int64_t expected);
  ~barrier_core() = default;
  TUCO_API arrival arrive_core(std::int64_t n, bool drop);
  TUCO_API void end_phase() noexcept;
  TUCO_API bool wait_ns(std::uint64_t phase, std::int64_t deadline) noexcept;

 private:
  // Written with the line's lock held.
  std::atomic<std::int64_t> missing_;
  std::atomic<std::int64_t> expected_;
  std::atomic<std::uint64_t> phase_{0};
  wait_queue waiters_;
};

struct no_completion {
  void operator()() const noexcept {}
};

}  // namespace detail

template <class Completion = detail::no_completion>
  requires std::is_nothrow_invocable_v<Completion&>
class barrier : public detail::barrier_core {
 public:
  /// What arrive() returns: the phase to wait for.
  class arrival_token {
    friend class barrier;
    explicit arrival_token(std::uint64_t phase) noexcept : phase_(phase) {}
    std::uint64_t phase_;
  };

  /// @throws misuse_error if `expected` is negative
  explicit barrier(std::int64_t expected, Completion completion = Completion())
      : barrier_core(expected), completion_(std::move(completion)) {}

  /// @throws misuse_error
  [[nodiscard]] arrival_token arrive(std::int64_t n = 1) { return arrival_token(arrive_at(n, false)); }
  /// Parks until the phase of the token has ended.
  void wait(const arrival_token& token) noexcept { wait_ns(token.phase_, detail::no_deadline); }
  /// @throws misuse_error
  void arrive_and_wait() { wait(arrive()); }
  /// @throws misuse_error
  void arrive_and_drop() { arrive_at(1, true); }

  /// Gives up at `deadline`, never earlier; in the past: only looks. The arrival still counts.
  /// @return Whether the phase has ended.
  template <class Duration>
  [[nodiscard]] bool wait_until(
      const arrival_token& token, std::chrono::time_point<std::chrono::steady_clock, Duration> deadline) noexcept {
    return wait_ns(token.phase_, detail::deadline_at(deadline));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const arrival_token& token, std::chrono::duration<Rep, Period> timeout) noexcept {
    return wait_ns(token.phase_, detail::deadline_after(timeout));
  }

 private:
  std::uint64_t arrive_at(std::int64_t n, bool drop) {
    const arrival a = arrive_core(n, drop);
    if (a.last) {
      completion_();
      end_phase();
    }
    return a.phase;
  }

  [[no_unique_address]] Completion completion_;
};

}  // namespace tuco::inline v1
