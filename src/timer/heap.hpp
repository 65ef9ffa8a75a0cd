// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Deadlines of one processor, earliest first.
///
/// An entry is embedded in what waits: on the parked stack of a sleeping goroutine, or in a timer
/// object. It is of one of two kinds:
///
///     A  `g` is set    expiry claims the goroutine (task/claim.hpp) with `claimed_by_deadline` and,
///                      when it won, appends it to the caller's ready list
///     B  `g` is null   expiry calls `fire` after the heap's lock was released
///
/// and always in one of three places:
///
///     place         who may touch the entry         left by
///     not there     its owner                       add()
///     queued        the holder of the heap's lock   remove(), run_due(), merge_into() (to queued)
///     firing        its owner, and `fire`           finish(), add()
///
/// **Never early, in order.** run_due(now) takes entries with `when_ns <= now` and no others, by
/// deadline and, where these are equal, in the order of add(). `INT64_MAX` never passes.
/// **Removal is synchronous.** When remove() has returned, the heap does not touch the entry again and
/// no claim by deadline can come from it: the storage may be reused at once (hazards H31).
/// **add() cannot fail.** A sleeper has no way to report that it cannot sleep. When the array cannot
/// grow, further entries are linked into a list that is searched from end to end: slow, not lost.
/// **Thread safety.** Any member from any thread. next() and size() take no lock.
/// **Blocking.** A spin lock for some dozens of instructions; run_due() releases it every
/// `batch` entries. Two heaps are locked at once only in merge_into(), by address.
/// **Life.** remove() may still look at a heap that its entry has just left, so a heap is destroyed
/// only when no thread can be inside a member, and no entry of it is queued.
/// **Cost.** add and remove O(log4 n), usually constant; measured, with all that
/// a timer is besides, in bench/timer_bench.cpp.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/cache_line.hpp"
#include "base/spin_lock.hpp"
#include "task/goroutine.hpp"
#include "task/ready_list.hpp"

// `timers`, unlike its folder: `tuco::timer` is the class of <tuco/time.hpp>.
namespace tuco::inline v1::timers {

class heap;

struct entry {
  /// Kind B, runs in the thread that called run_due(), with no lock of the heap held. Short; must not
  /// park. Goroutines that it frees to run go into `out`. May free the entry; else it ends the state
  /// `firing` with heap::finish() or by adding the entry again.
  using fire_function = void (*)(entry* self, std::int64_t now_ns, task::ready_list& out) noexcept;

  // Set by the owner while the entry is not queued.
  std::int64_t when_ns = 0;  ///< steady clock
  task::goroutine* g = nullptr;
  fire_function fire = nullptr;

  // The heap's.
  std::atomic<heap*> place{nullptr};  ///< null: not there; heap::firing(): firing; else queued in it
  std::uint64_t order = 0;            ///< breaks ties between equal deadlines
  std::size_t index = 0;              ///< in the array; heap::in_overflow: in the list
  entry* next_overflow = nullptr;
};

enum class remove_result : std::uint8_t {
  removed,    ///< it was queued and will not expire
  not_there,  ///< it was not queued: it expired before, or was never added
  firing,     ///< kind B: `fire` is about to be called, or has been and did not finish() yet
};

class heap {
 public:
  static constexpr std::size_t no_limit = SIZE_MAX;
  static constexpr std::size_t batch = 32;

  /// @param array_limit  entries above this number go to the list, as if memory had run out there
  explicit heap(std::size_t array_limit = no_limit) noexcept : array_limit_(array_limit) {}
  ~heap();
  heap(const heap&) = delete;
  heap& operator=(const heap&) = delete;

  /// @pre `e` is not queued.
  /// @return True when `e` became the earliest: then the caller must make sure that somebody wakes in
  ///         time. The argument is at next().
  [[nodiscard]] bool add(entry& e) noexcept;

  /// Takes `e` out of whatever heap it is in.
  static remove_result remove(entry& e) noexcept;

  /// Ends the state `firing`: called by a fire function when a remover need not care any more.
  static void finish(entry& e) noexcept;

  /// The earliest deadline, INT64_MAX when there is none.
  ///
  // No thread sleeps past a deadline that was added before it fell asleep or while it sleeps.
  //
  // One thread adds an earlier deadline; another computed how long to sleep without it.
  //
  //   adder                                       sleeper (the worker that polls, the monitor)
  //   A1  heap.add(): next_ = when                B1  asleep_until.store(deadline, relaxed)
  //   A2  full_fence()                            B2  full_fence()
  //   A3  d = asleep_until.load(relaxed)          B3  for each heap: n = next()
  //   A4  if (when < d) wake the sleeper          B4  if (any n < deadline) do not sleep, start over
  //                                               B5  sleep until deadline; then asleep_until = never
  //
  // Claim      Either A3 reads B1 (or later) and the sleeper is woken, or B3 reads A1 (or later) and
  //            it does not fall asleep.
  // Proof      The two fences have an order. A2 first: B3 reads A1 or a later value of next_. Later
  //            values are stored under the heap's lock, too, and each says what the heap holds then;
  //            so either `when` is still in it, or it was removed, or somebody ran it. B2 first:
  //            A3 reads B1 or later. "Later" is the sleeper that has woken: it will look at next()
  //            again by itself, because each round of the scheduler does, after its own B1 and B2.
  // Needs      A wake-up that outlives the moment: between B4 and B5 the sleeper must not lose it
  //            (an eventfd in the epoll set, a futex word that is compared).
  // Only when  add() returned true. If it returned false, an earlier entry e2 is in the heap; whoever
  //            added that went through A1 to A4 or will, and the sleeper wakes for e2. When it then
  //            looks at next(), it finds `when`. Removing e2 leaves a sleeper that wakes too early,
  //            which is harmless.
  // Too weak   Without A2 the store of next_ may wait in the store buffer while A3 reads the old
  //            "never", x86 included; the same for B2. Release and acquire order no store before a
  //            later load.
  // Enough     relaxed on both words: they carry no data. Who acts on next() takes the lock first.
  // Test       test/model/timer_sleep_model.cpp; fails when either fence is removed.
  // Source     [atomics.order] p4; the same shape as sched's "no worker sleeps while a task waits".
  [[nodiscard]] std::int64_t next() const noexcept {
    return next_.load(std::memory_order_relaxed);
  }

  /// Expires entries that are due, at most `limit` of them. More may be due after it: next() says.
  /// Cheap when nothing is due: one load. Other processors may call it, too (stealing).
  /// @param out  goroutines to ready, in order, are appended
  /// @return How many expired, including those whose goroutine had been claimed by another party.
  std::size_t run_due(std::int64_t now_ns, task::ready_list& out,
                      std::size_t limit = no_limit) noexcept;

  /// Moves all entries into `other`, for a processor that retires.
  /// @return True when the earliest of `other` changed: see add().
  [[nodiscard]] bool merge_into(heap& other) noexcept;

  /// Takes out all entries of kind A: their goroutines will never run, because run() has returned.
  /// They would keep the program from being recognised as dead, and the poller awake.
  /// @pre No goroutine of these entries can run any more.
  void drop_sleepers() noexcept;

  /// Exact at rest.
  [[nodiscard]] std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }

  /// Bytes held beside the entries. Follows the number of entries down, too.
  [[nodiscard]] std::size_t memory() noexcept;

 private:
  // The deadline lies beside the pointer, because sifting must not touch the entries it compares:
  // they are on as many parked stacks, each a miss of cache and TLB.
  struct slot {
    std::int64_t when_ns = INT64_MAX;
    std::uint64_t order = 0;
    entry* e = nullptr;
  };

  static constexpr std::size_t in_overflow = SIZE_MAX;
  static constexpr std::size_t first_capacity = 64;

  /// Marks an entry as firing; never dereferenced.
  static heap* firing() noexcept { return reinterpret_cast<heap*>(std::uintptr_t{1}); }

  static bool before(const slot& a, const slot& b) noexcept {
    return a.when_ns != b.when_ns ? a.when_ns < b.when_ns : a.order < b.order;
  }

  // All of these: lock held.
  void insert(entry& e, std::uint64_t order) noexcept;
  void take_in_overflow() noexcept;
  void unlink(entry& e) noexcept;
  [[nodiscard]] slot earliest() const noexcept;
  void sift_up(std::size_t i, slot s) noexcept;
  void sift_down(std::size_t i, slot s) noexcept;
  void place_at(std::size_t i, const slot& s) noexcept;
  bool grow() noexcept;
  void shrink_if_sparse() noexcept;
  bool publish() noexcept;

  // Read by every processor, written when the earliest deadline changes.
  alignas(base::cache_line) std::atomic<std::int64_t> next_{INT64_MAX};

  alignas(base::cache_line) base::spin_lock lock_;
  std::atomic<std::size_t> size_{0};  ///< array and list
  slot* slots_ = nullptr;             ///< 4-ary heap: children of i are 4i+1 ... 4i+4
  std::size_t count_ = 0;             ///< in the array
  std::size_t capacity_ = 0;
  entry* overflow_ = nullptr;         ///< not empty only while the array is full
  std::uint64_t order_ = 0;
  const std::size_t array_limit_;
};

}  // namespace tuco::inline v1::timers
