// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file run_queue.hpp
/// `run_queue<T>`: the runnable goroutines of one processor.
///
/// A ring of `Capacity` pointers, first in, first out, plus one *next slot*: the goroutine that the
/// owner readied last and that runs before all others, within the time slice of the one that
/// readied it (a pair that plays ping-pong shares one slice, and the ring behind it does not starve).
///
///                       ring           next slot      who
///     push_back         adds at tail                  owner
///     set_next                         fills, hands   owner
///                                      back the old
///     set_next_if_free                 fills, or      owner
///                                      refuses
///     pop               head, if the   first          owner
///                       slot is empty
///     pop_ring          head                          owner
///     take_half         half, from     never          owner, to spill to the global queue
///                       the head
///     steal_into        half, from     only if told   any other processor's owner
///                       the head       and ring empty
///     empty, size       look           look           anyone
///
/// **Owner** is whoever holds the processor: one thread at a time, and handing the processor over
/// carries everything the old owner did to the new one (sched's business, test/model/take_away_model.cpp).
/// **Blocking.** Nothing blocks. Owner operations are wait-free but for the compare-and-swap in
/// pop_ring() and take_half(), which repeats only when a thief has taken items in between.
/// **Ordering.** What happened before a push is visible to whoever gets the item.
/// **Fairness.** The ring is first in, first out, also across a theft: the thief runs the oldest item
/// and queues the rest in order. Only the next slot overtakes.
/// **Elements** are borrowed pointers, never null. The queue never looks into them.
/// **Cost.** push_back: two loads, two plain stores. set_next on an empty slot: a load and a plain
/// store. Everything that a thief may contend for costs one read-modify-write.
/// **Layout** is standard and part of what debuggers read (layout()): another process may look at a
/// live or dead queue with plain reads and gets at worst an item too many or too few.
/// **Source.** The discipline is that of Go's per-P queue (runtime/proc.go, "runqput" and below).

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/atomic.hpp"

namespace tuco::inline v1::queue {

// Every item that was put in comes out exactly once, to the owner or to one thief.
//
//   push_back() by the owner                    steal_into() by a thief (pop_ring: the same, by the owner)
//   O1  h = head.load(acquire)                  T1  h = head.load(acquire)
//   O2  t = own tail; full if t - h == N        T2  t = tail.load(acquire); empty if t == h
//   O3  slot[t % N].store(item, relaxed)        T3  copies = slot[h .. h+n).load(relaxed)
//   O4  tail.store(t + 1, release)              T4  head.cas(h -> h + n, release); else again
//                                               T5  only now may the copies be used
//
// Claim      (a) A successful T4 owns exactly the items that were pushed as numbers h .. h+n-1.
//            (b) O3 never overwrites an item that nobody has taken.
// Proof      Head only grows, and each of its values is replaced by one compare-and-swap: of all
//            that read h in T1 at most one succeeds in T4, so no number is taken twice.
//            T3 read the right lap: T2 saw a tail beyond the number, so O3 of that number happens
//            before T3 and T3 cannot read an older lap. A newer lap (number h + N) is stored only
//            after O1 has seen a head beyond h, hence after another compare-and-swap replaced h, and
//            then T4 fails and the copies are dropped. (b) is O2, with a head that is old at worst:
//            old means smaller, and that reports full too early, never too late.
//            Head is 64 bits wide and never comes round: a thief that was stopped for a year still
//            fails.
// Pairs      O4 with T2: the slot, and what the item points to, are visible to the thief.
//            T4 with O1: the thief's reads (T3) are done before the owner overwrites (O3).
//            T4 with T1: who sees a head also sees a tail that is not behind it; every taker read
//            that tail before it moved head.
// Too weak   O4 relaxed: the thief may read the previous lap, and an item whose fields are not there.
//            T4 or O1 relaxed: on ARM T3 may be satisfied after T4, with the new lap's item, taken
//            twice; x86 does not do it and the model checker does not explore it (it never reads
//            from the future), so this one stands on the argument alone.
//            T4 as a plain store: two thieves take the same items.
// Enough     O2, T3 and O3 relaxed: slots carry no order of their own. The owner's pop needs no
//            acquire: it takes what it pushed or stole itself.
// H32        A reader that must synchronise with an earlier store than the one it reads depends on
//            a release sequence; since C++20 only read-modify-writes continue one. Here tail is
//            written by release stores alone and head by read-modify-writes alone, so no relaxed
//            store can cut a sequence.
// Test       test/model/run_queue_model.cpp: fails with O4 or T2 relaxed, with T4 as a plain store.
//
// The next slot: only the owner makes it non-null, anyone may make it null.
//
//   owner                                       thief
//   N1  seen null (relaxed): store(item, rel.)  K1  item = next.load(acquire), null: nothing there
//   N2  else: old = next.exchange(item, rel.)   K2  next.cas(item -> null); else look again
//   N3  pop: next.exchange(null, release)
//
// Claim      Each occupant leaves once: to N2's caller, to N3's, or to one K2.
// Proof      Leaving is a read-modify-write of the one word. N1 needs none: after the owner has seen
//            null nobody but itself can change the word. K2 cannot mistake a second visit of the same
//            pointer for the first: any visit is as good, the thief gets what is in the slot now.
// Pairs      N1 and N2 with K1: what the item points to.
// Too weak   N1 relaxed: the thief gets an item whose fields are not there.
//            N3 as load and store: the thief's K2 in between takes the item as well.
// Test       test/model/next_slot_model.cpp.

template <class T, base::atomics_policy Atomics = base::real_atomics, std::size_t Capacity = 256>
class run_queue {
  static_assert(std::has_single_bit(Capacity) && Capacity >= 2);
  using index = std::uint64_t;
  using order = std::memory_order;

 public:
  struct popped {
    T* item;        ///< null: nothing to run
    bool inherits;  ///< came from the next slot: goes on in the current time slice
  };

  /// Where a reader in another process finds things, in bytes from the start of the queue. Items
  /// number `head` to `tail - 1` lie in `slots`, number i at `i % capacity`.
  struct layout_t {
    std::size_t head, tail, next, slots, capacity;
  };

  run_queue() = default;
  run_queue(const run_queue&) = delete;
  run_queue& operator=(const run_queue&) = delete;

  static constexpr std::size_t capacity() noexcept { return Capacity; }

  /// Owner. @return False if the ring is full; then nothing has changed.
  [[nodiscard]] bool push_back(T* item) noexcept {
    const index head = head_.load(order::acquire);
    const index tail = tail_.load(order::relaxed);
    if (tail - head >= Capacity) [[unlikely]] return false;
    slot(tail).store(item, order::relaxed);
    tail_.store(tail + 1, order::release);
    return true;
  }

  /// Owner. Makes `item` the one to run next.
  /// @return The previous occupant, which is the caller's now (push it back), or null.
  [[nodiscard]] T* set_next(T* item) noexcept {
    if (next_.load(order::relaxed) == nullptr) {
      next_.store(item, order::release);
      return nullptr;
    }
    return next_.exchange(item, order::release);
  }

  /// Owner. As set_next(), but an occupant keeps the slot. No read-modify-write.
  /// @return False if the slot is taken; then nothing has changed.
  [[nodiscard]] bool set_next_if_free(T* item) noexcept {
    if (next_.load(order::relaxed) != nullptr) return false;
    next_.store(item, order::release);  // N1
    return true;
  }

  /// Owner. Takes the next slot's occupant, else the oldest of the ring.
  [[nodiscard]] popped pop() noexcept {
    if (T* item = pop_next()) return {item, true};
    return {pop_ring(), false};
  }

  /// Owner. Takes the next slot's occupant; null if there is none.
  [[nodiscard]] T* pop_next() noexcept {
    if (next_.load(order::relaxed) == nullptr) return nullptr;
    return next_.exchange(nullptr, order::release);  // null if a thief was faster
  }

  /// Owner. Takes the oldest of the ring; null if there is none. The next slot stays.
  [[nodiscard]] T* pop_ring() noexcept {
    const index tail = tail_.load(order::relaxed);
    index head = head_.load(order::relaxed);
    while (head != tail) {
      T* item = slot(head).load(order::relaxed);
      if (head_.compare_exchange_weak(head, head + 1, order::release, order::relaxed)) return item;
    }
    return nullptr;
  }

  /// Owner. Takes the older half of the ring (rounded down), at most `max`, into `out`: room for
  /// others when push_back() failed.
  /// @return How many were taken; 0 if thieves have emptied the ring meanwhile.
  std::size_t take_half(T** out, std::size_t max) noexcept {
    const index tail = tail_.load(order::relaxed);
    index head = head_.load(order::relaxed);
    for (;;) {
      const index half = (tail - head) / 2;
      const index count = half < max ? half : max;
      if (count == 0) return 0;
      for (index i = 0; i < count; ++i) out[i] = slot(head + i).load(order::relaxed);
      if (head_.compare_exchange_weak(head, head + count, order::release, order::relaxed)) {
        return static_cast<std::size_t>(count);
      }
    }
  }

  /// Called on the victim by the owner of `thief` (another queue). Takes half of the ring, rounded up
  /// and as much as `thief` has room for; if the ring is empty and `take_next`, the next slot.
  /// `first` gets the oldest, `thief`'s ring the rest.
  /// @return How many were taken, `first` included; 0 only after the ring, and the next slot if
  ///         asked for, were seen empty. `first` changes only if it is not 0.
  std::size_t steal_into(run_queue& thief, bool take_next, T*& first) noexcept {
    const index thief_tail = thief.tail_.load(order::relaxed);
    const index room = Capacity - (thief_tail - thief.head_.load(order::acquire));
    for (;;) {
      index head = head_.load(order::acquire);
      const index size = tail_.load(order::acquire) - head;
      if (size == 0) {
        if (!take_next) return 0;
        T* item = next_.load(order::acquire);
        if (item == nullptr) return 0;
        if (next_.compare_exchange_strong(item, nullptr, order::release, order::relaxed)) {
          first = item;
          return 1;
        }
        continue;  // taken or replaced; the old occupant may be in the ring now
      }
      // An old head may make this more than there is; the swap below fails then. Never less than
      // nothing: a tail that is behind the head is not seen (T4 pairs with T1).
      const index half = size - size / 2;
      const index count = half < room + 1 ? half : room + 1;
      T* const oldest = slot(head).load(order::relaxed);
      for (index i = 1; i < count; ++i) {
        thief.slot(thief_tail + i - 1).store(slot(head + i).load(order::relaxed), order::relaxed);
      }
      if (head_.compare_exchange_weak(head, head + count, order::release, order::relaxed)) {
        if (count > 1) thief.tail_.store(thief_tail + count - 1, order::release);
        first = oldest;
        return static_cast<std::size_t>(count);
      }
    }
  }

  // empty() is never true while the same item sits in the queue, also when the owner moves it from
  // the next slot to the ring.
  //
  //   owner, readies B while A is next            observer
  //   M1  A = next.exchange(B, release)           E1  head, then tail: equal
  //   M2  push_back(A): tail.store(release)       E2  next.load(acquire): null
  //   M3  pop: next.exchange(null, release)       E3  tail again: as in E1, so empty
  //
  // Claim      If A was in the queue before the call and nobody takes A or B before it ends, but the
  //            owner's own pop of B, E1 to E3 do not all hold.
  // Proof      In the slot at E2: E2 fails. In the ring before E1: E1 fails, tail is beyond A's number
  //            and head is not. Else A moved between E1 and E2, and what E2 read as null was stored by
  //            M3, which is after M2 and is read with acquire, so E3 sees M2 and differs from E1.
  // Not so     if a *thief* takes B between M1 and M2: then E2 may read null while A is in the owner's
  //            hand. That is an item about to be submitted, and whoever submits looks for searchers
  //            afterwards (test/model/idle_model.cpp); the observer that parks on such an answer is seen.
  // Too weak   Without E3 a queue that is never empty is reported empty.
  // Test       test/model/next_slot_model.cpp fails without E3.
  [[nodiscard]] bool empty() const noexcept {
    for (;;) {
      const index head = head_.load(order::acquire);
      const index tail = tail_.load(order::acquire);
      if (head != tail) return false;
      if (next_.load(order::acquire) != nullptr) return false;
      if (tail_.load(order::relaxed) == tail) return true;
    }
  }

  /// A snapshot of both parts together, at most one off for each operation in flight.
  [[nodiscard]] std::size_t size() const noexcept {
    const index tail = tail_.load(order::relaxed);
    const index head = head_.load(order::relaxed);
    const index ring = tail - head;  // head may have passed the older tail, or lapped it
    const std::size_t next = next_.load(order::relaxed) != nullptr ? 1 : 0;
    return next + (head > tail ? 0 : static_cast<std::size_t>(ring < Capacity ? ring : Capacity));
  }

  static constexpr layout_t layout() noexcept {
    static_assert(std::is_standard_layout_v<run_queue>);
    return {offsetof(run_queue, head_), offsetof(run_queue, tail_), offsetof(run_queue, next_),
            offsetof(run_queue, slots_), Capacity};
  }

 private:
  template <class U>
  using atomic = typename Atomics::template atomic<U>;

  atomic<T*>& slot(index i) noexcept { return slots_[static_cast<std::size_t>(i % Capacity)]; }

  // One line for all three: the owner touches them together, and a thief that finds nothing has
  // paid for one miss. Splitting head from tail was rejected: a thief needs both anyway.
  alignas(64) atomic<index> head_{0};  // number of the oldest item; grows by read-modify-writes only
  atomic<index> tail_{0};              // number of the next item; stored by the owner only
  atomic<T*> next_{nullptr};           // made non-null by the owner only
  alignas(64) std::array<atomic<T*>, Capacity> slots_{};
};

}  // namespace tuco::inline v1::queue
