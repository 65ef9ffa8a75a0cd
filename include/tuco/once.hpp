// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/once.hpp
/// `once`: a function that runs once, however many goroutines ask for it.
///
///     tuco::once loaded;
///     loaded.call([&] { table = load(); });        // from anywhere, any number of times
///
///              never called    running                  done
///     call     runs f          parks until it is over   returns at once
///     done     false           false                    true
///
/// Use it where a function-local static would do in ordinary programs: an initializer that parks
/// blocks every other *thread* that reaches such a static, and may wait for one of them.
///
/// **Blocking.** call() parks while another goroutine runs the function; on a plain thread it blocks.
/// Calling it from inside the function waits for ever, as in Go.
/// **Thread safety.** Any member, from any goroutine or thread.
/// **Ordering.** The end of the function happens before every return of call().
/// **Failure.** If the function throws, the exception leaves that call() and it counts as never
/// called, like std::call_once (and unlike Go): one of those who wait runs its own function next.
/// **Cost.** When done: one load. 32 bytes.
/// **Source.** std::call_once; Go, sync.Once.

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/detail/wait_list.hpp>

namespace tuco::inline v1 {

class once {
 public:
  constexpr once() noexcept = default;
  once(const once&) = delete;
  once& operator=(const once&) = delete;

  /// Runs `f(args...)` unless a call has done so before.
  /// @throws what `f` throws
  template <class F, class... Args>
  void call(F&& f, Args&&... args) {
    if (done() || !begin()) return;
    struct guard {
      once& self;
      bool success = false;
      ~guard() { self.end(success); }
    } guard{*this};
    std::invoke(std::forward<F>(f), std::forward<Args>(args)...);
    guard.success = true;
  }

  [[nodiscard]] bool done() const noexcept {
    return state_.load(std::memory_order_acquire) == finished;
  }

  /// Id of the goroutine that runs the function, as a dump shows it; 0: nobody, or a plain thread.
  [[nodiscard]] std::uint64_t owner() const noexcept {
    return owner_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint32_t fresh = 0, running = 1, finished = 2;

  /// @return True: the caller is to run the function. False: it is done.
  TUCO_API bool begin() noexcept;
  TUCO_API void end(bool success) noexcept;

  std::atomic<std::uint32_t> state_{fresh};
  detail::wait_queue waiters_;
  std::atomic<std::uint64_t> owner_{0};
};

/// std::call_once for goroutines.
template <class F, class... Args>
void call_once(once& flag, F&& f, Args&&... args) {
  flag.call(std::forward<F>(f), std::forward<Args>(args)...);
}

}  // namespace tuco::inline v1
