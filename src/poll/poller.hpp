// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file poller.hpp
/// `poller`: learns from the kernel which descriptors became ready, and returns the goroutines that
/// waited for them. It never calls the scheduler.
///
///                   by                         blocks      notes
///     open, close   io                         no          one registration for a descriptor's life
///     poll          workers, the monitor       as told     several may look while one blocks
///     interrupt     whoever made work or an    no          the blocked poll returns, once for any
///                   earlier timer                          number of calls
///     waiters       the scheduler              no          0: nobody need poll
///
/// **Created** at the first open(): a program without descriptors has no epoll descriptor, and who
/// polls then sleeps on a futex. It is never destroyed.
/// **Ordering.** What happened before interrupt() is visible to whoever returns from the poll that
/// it ended. What happened before a goroutine parked is visible to who gets it from poll().
/// **Cost.** An event costs a table look-up and, when somebody waits, one or two compare-and-swaps.

#include <sys/socket.h>

#include <atomic>
#include <cstdint>

#include "base/cache_line.hpp"
#include "os/lock.hpp"
#include "poll/poll_descriptor.hpp"
#include "task/claim.hpp"
#include "task/ready_list.hpp"

namespace tuco::inline v1::poll {

/// Claims of a goroutine that waits with a deadline (task/claim.hpp): which of the others came first.
inline constexpr std::uint32_t claimed_by_event = 1;
inline constexpr std::uint32_t claimed_by_kick = 2;

class poller {
 public:
  constexpr poller() noexcept = default;
  poller(const poller&) = delete;
  poller& operator=(const poller&) = delete;

  /// False: no descriptor was ever opened, there is nothing to look at.
  [[nodiscard]] bool initialized() const noexcept {
    return epoll_.load(std::memory_order_acquire) >= 0;
  }

  /// Goroutines that are parked on descriptors. Exact when nobody is between two steps: counted
  /// before the goroutine can be taken out of its word, discounted by whoever took it.
  [[nodiscard]] int waiters() const noexcept { return waiters_.load(std::memory_order_relaxed); }

  /// Appends the goroutines that became ready to `out`. Each was won (task/claim.hpp) and must be
  /// made runnable by the caller. One call brings at most 128 events.
  /// @param timeout_ns  0: only looks. Negative: blocks until an event or interrupt(). Positive: at
  ///                    most so long, to the nanosecond where the kernel can (epoll_pwait2).
  /// May return early with nothing (a signal, an interrupt).
  void poll(std::int64_t timeout_ns, task::ready_list& out) noexcept;

  /// Makes a blocked poll() return, or the next one that would block. Async-signal-safe.
  void interrupt() noexcept;

  /// Registers a descriptor for all that may happen to it.
  /// @param out  the record; reset, with no deadline
  /// @return 0 or a negative errno value: -EPERM for a descriptor that cannot be polled (a regular
  ///         file), -ENOMEM, -ENOSPC, -EMFILE (of the poller's own descriptors, at the first call).
  int open(int descriptor, poll_descriptor*& out) noexcept;

  /// Takes the registration back: call it before the descriptor is closed. Closing alone would not
  /// do it while a child process holds a duplicate (hazards H19). Nobody may wait on the record.
  void close(poll_descriptor* d) noexcept;

  /// The end of a run(): goroutines that are parked on descriptors never run again. Takes them out of
  /// the records, so that no later poll() finds one. Nobody may poll or wait meanwhile, but plain
  /// threads in poll(2).
  void abandon_waiters() noexcept;
  /// How often that happened. A descriptor that is older than the current epoch may have users that
  /// never leave (io/net_fd.cpp).
  [[nodiscard]] std::uint32_t epoch() const noexcept {
    return epoch_.load(std::memory_order_acquire);
  }

  /// Readiness seen by other means; as if an event had come. @return The goroutine to make runnable.
  task::goroutine* notify(poll_descriptor& d, direction direction) noexcept;

  /// After a change of `closing` or a deadline (with seq_cst): whoever waits looks again.
  /// @return The goroutine to make runnable, or null.
  task::goroutine* kick(poll_descriptor& d, direction direction) noexcept;

  /// The commit action's part of a wait: see poll_word::commit.
  bool commit(poll_descriptor& d, direction direction, task::goroutine* g,
              bool has_deadline) noexcept;

  /// After the deadline has ended a wait: see poll_word::withdraw.
  void withdraw(poll_descriptor& d, direction direction, task::goroutine* g) noexcept;

 private:
  static constexpr std::uint32_t slab_size = 512;  // 64 KiB
  static constexpr std::uint32_t slab_count = 16384;  // 8 million descriptors
  static constexpr std::uint64_t wake_data = UINT64_MAX;

  int start() noexcept;
  void sleep(std::int64_t timeout_ns) noexcept;
  poll_descriptor* allocate() noexcept;
  void give_back(poll_descriptor* d) noexcept;
  poll_descriptor* find(std::uint32_t index) noexcept;
  task::goroutine* account(poll_word<>::taken taken) noexcept;

  std::atomic<int> epoll_{-1};
  int wake_ = -1;  // written before epoll_
  std::atomic<std::uint32_t> epoch_{0};
  alignas(base::cache_line) std::atomic<std::uint32_t> interrupted_{0};  // a futex until epoll_ exists
  alignas(base::cache_line) std::atomic<int> waiters_{0};
  alignas(base::cache_line) os::futex_lock lock_;  // creation, and the records below
  poll_descriptor* free_ = nullptr;
  std::uint32_t carved_ = 0;  // records handed out at least once
  std::atomic<poll_descriptor*> slabs_[slab_count] = {};
};

/// The runtime's poller.
poller& the_poller() noexcept;

/// Makes an eventfd of the runtime readable, or ends the program: only somebody who closes descriptors
/// that are not his (closefrom(3), say) can make it fail, and to go on would be to sleep for ever.
void must_signal(int eventfd) noexcept;

}  // namespace tuco::inline v1::poll
