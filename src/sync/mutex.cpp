// SPDX-License-Identifier: Apache-2.0
// tuco::mutex: Go's algorithm over a line of its own instead of a table of semaphores.
//
// The state word:
//
//     locked     somebody has it
//     woken      somebody is on the way to it (woken from the line, or spinning): an unlock need
//                wake nobody else
//     starving   the line is served first come, first served: newcomers join it, an unlock hands
//                the mutex over
//     queued     the line is not empty
//
// Who changes what:
//
//     locked     set by whoever takes it; cleared by its owner; neither in a hand-over
//     woken      set by an unlock that wakes somebody, or by a spinner; cleared by that one when it
//                takes the mutex, joins the line or gives up
//     queued     set and cleared with the line's lock held
//     starving   set with the line's lock held, and only while locked; cleared by the owner, or with
//                the line's lock held when the line becomes empty
//
// Invariants: starving => locked and queued. queued <=> the line is not empty, whenever the line's
// lock is free.
//
// Nobody waits beside a free mutex:
//
//   a waiter                                    an unlock
//   W1 lock the line                            U1 sees neither `queued`, or sees `woken`: clear
//   W2 one exchange: set `queued`, provided        `locked` by an exchange; done. Otherwise
//      that `locked` is set                     U2 lock the line, take the first out
//   W3 join; park; the line is unlocked         U3 one exchange: clear `locked`, set `woken`
//                                               U4 unlock the line; wake it
//
// Claim      If the mutex is free and the line is not empty, somebody is on the way.
// Proof      W2 and U1 (or U3) change the same word, so one is first. U first: W2 finds the mutex
//            free and does not wait. W2 first: U1 sees `queued`. If `woken` is not set it goes to U2
//            and finds the waiter, for W1 to W3 is one critical section of the line's lock. If
//            `woken` is set, whoever it stands for has yet to look at the mutex: it takes it (and
//            unlocks it later), or finds it locked, clears `woken` by an exchange that sees
//            `locked`, and the owner's U1 comes after that.
// Deadlines  A waiter whose deadline wins the claim takes itself out under the line's lock. An
//            unlock that finds only such waiters sets no `woken`. Someone woken whose time has passed
//            gives `woken` back only while the mutex is locked, else it takes the mutex.
// Life       U2 to U4 is one critical section, so a waiter that has left the line after U3 has done
//            so after U4 as well, and may destroy the mutex. U3 is done only if U2 finds the line not
//            empty: otherwise nobody else need be inside a call, and whoever takes the mutex after U3
//            may have unlocked and destroyed it before U4.
// Test       MutexTest.*, and the timed storm in test/conformance/sync_mutex_test.cpp
// Source     Go, internal/sync/mutex.go.

#include <tuco/mutex.hpp>

#include "base/fatal.hpp"
#include "base/pause.hpp"
#include "os/clock.hpp"
#include "sync/caller.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1 {

using namespace sync;

namespace {

constexpr std::uint32_t locked = 1;
constexpr std::uint32_t woken = 2;
constexpr std::uint32_t starving = 4;
constexpr std::uint32_t queued = 8;

constexpr std::int64_t starvation_threshold_ns = 1'000'000;
constexpr std::uint32_t claimed_by_unlock = 1;

constexpr int spin_rounds = 4;
constexpr int pauses_per_round = 30;

constexpr auto relaxed = std::memory_order_relaxed;

std::uint64_t id_of(const sched::goroutine* g) noexcept { return g->id.load(relaxed); }

}  // namespace

void mutex::lock() noexcept {
  std::uint32_t expected = 0;
  if (state_.compare_exchange_strong(expected, locked, std::memory_order_acquire, relaxed))
      [[likely]] {
    owner_.store(caller_id(), relaxed);
    return;
  }
  lock_slow(detail::no_deadline);
}

bool mutex::try_lock() noexcept {
  std::uint32_t old = state_.load(relaxed);
  // Not past a line that is being served in order.
  while ((old & (locked | starving)) == 0) {
    if (state_.compare_exchange_weak(old, old | locked, std::memory_order_acquire, relaxed)) {
      owner_.store(caller_id(), relaxed);
      return true;
    }
  }
  return false;
}

bool mutex::lock_until(std::int64_t deadline) noexcept {
  return try_lock() || lock_slow(deadline);
}

bool mutex::lock_slow(std::int64_t deadline) noexcept {
  sched::runtime_section section;
  sched::goroutine* const self = section.self();
  std::int64_t wait_start = 0;
  bool waited = false;
  bool is_starving = false;
  bool awake = false;  // `woken` in the state word stands for us
  int spins = 0;

  const auto passed = [&] {
    return deadline != detail::no_deadline && deadline <= os::steady_now_ns();
  };

  std::uint32_t old = state_.load(relaxed);
  for (;;) {
    if ((old & (locked | starving)) == locked && spins < spin_rounds && spinning_pays()) {
      if (!awake && (old & woken) == 0 && (old & queued) != 0 &&
          state_.compare_exchange_weak(old, old | woken, relaxed)) {
        awake = true;
      }
      for (int i = 0; i < pauses_per_round; ++i) base::pause();
      ++spins;
      old = state_.load(relaxed);
      continue;
    }
    if ((old & (locked | starving)) == 0) {
      const std::uint32_t taken = (old | locked) & (awake ? ~woken : ~0u);
      if (state_.compare_exchange_weak(old, taken, std::memory_order_acquire, relaxed)) break;
      continue;
    }

    if (passed()) {
      // The right to be the one on the way goes back, but only while an unlock is still to come.
      if (!awake || state_.compare_exchange_weak(old, old & ~woken, relaxed)) return false;
      continue;
    }

    sync::lock(waiters_);
    bool joins = false;
    while ((old & (locked | starving)) != 0) {
      std::uint32_t joined = old | queued;
      if (is_starving) joined |= starving;
      if (awake) joined &= ~woken;
      // release: the line that an unlock finds through `queued` is the one that we have locked.
      if (state_.compare_exchange_weak(old, joined, std::memory_order_release, relaxed)) {
        joins = true;
        break;
      }
    }
    if (!joins) {
      sync::unlock(waiters_);
      continue;
    }
    awake = false;
    wait_node node;
    node.g = self;
    if (deadline != detail::no_deadline) {
      sched::arm_claim(self);
      node.claim = claimed_by_unlock;
    }
    // Woken before and overtaken by somebody: not to the end again.
    if (waited) waiters_.list.push_front(node);
    else waiters_.list.push_back(node);
    if (!waited) wait_start = os::steady_now_ns();
    waited = true;

    sync::pass_to_commit_action(waiters_);
    if (deadline == detail::no_deadline) {
      sched::park(&unlock_queue, &waiters_, wait_reason::mutex_lock, this);
    } else if (sched::park_until(deadline, &unlock_queue, &waiters_, wait_reason::mutex_lock,
                                 this) == sched::claimed_by_deadline) {
      sync::lock(waiters_);
      waiters_.list.remove(node);
      if (waiters_.list.front() == nullptr) state_.fetch_and(~(queued | starving), relaxed);
      sync::unlock(waiters_);
      return false;
    }

    is_starving = is_starving || os::steady_now_ns() - wait_start > starvation_threshold_ns;
    if (node.result == wait_result::done) {  // handed over: `locked` was never cleared
      // The line has moved on: back to the fast way unless it still moves too slowly.
      // No order is needed here: what the last owner did happened before ready(), and that before us.
      if (!is_starving) state_.fetch_and(~starving, relaxed);
      break;
    }
    awake = true;
    spins = 0;
    old = state_.load(relaxed);
  }
  owner_.store(id_of(self), relaxed);
  return true;
}

void mutex::unlock() noexcept {
  owner_.store(0, relaxed);
  std::uint32_t expected = locked;
  if (state_.compare_exchange_strong(expected, 0, std::memory_order_release, relaxed)) [[likely]] {
    return;
  }
  unlock_slow(expected);
}

void mutex::unlock_slow(std::uint32_t old) noexcept {
  if ((old & locked) == 0) base::fatal("sync: unlock of unlocked mutex");
  sched::runtime_section section;
  for (;;) {
    if ((old & queued) == 0 || (old & (woken | starving)) == woken) {
      if (state_.compare_exchange_weak(old, old & ~locked, std::memory_order_release, relaxed)) {
        return;
      }
      continue;
    }

    sync::lock(waiters_);
    old = state_.load(relaxed);
    if ((old & queued) == 0 || (old & (woken | starving)) == woken) {
      sync::unlock(waiters_);
      continue;
    }
    wait_node* const next = take_first(waiters_.list);
    std::uint32_t gone = waiters_.list.front() == nullptr ? queued | starving : 0;
    if ((old & starving) != 0 && next != nullptr) {
      if (gone != 0) state_.fetch_and(~gone, relaxed);
      sync::unlock(waiters_);
      wake(*next, wait_result::done);
      // It owns the mutex and has waited long: let it run at once rather than after our slice.
      sched::yield_in_section();
      return;
    }
    gone |= locked;
    const std::uint32_t come = next != nullptr ? woken : 0;
    while (!state_.compare_exchange_weak(old, (old & ~gone) | come, std::memory_order_release,
                                         relaxed)) {
    }
    sync::unlock(waiters_);
    if (next != nullptr) wake(*next, wait_result::retry);
    return;
  }
}

}  // namespace tuco::inline v1
