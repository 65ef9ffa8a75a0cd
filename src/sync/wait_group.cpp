// SPDX-License-Identifier: Apache-2.0
// The counter and the number of waiters share a word, so that done() learns in one atomic operation
// whether it is the last one and anybody waits; usually it touches nothing else.
//
// The number of waiters, and the step of the counter to 0 while there are some, change with the
// line's lock held. So
//   * a waiter joins by an exchange that sees a counter above 0, and whoever brings it to 0 after
//     that finds the waiter in line;
//   * "0 with waiters" is never seen: a new round may begin at once, and what Go has to report as
//     "Add called concurrently with Wait" and "reused before previous Wait has returned" cannot be;
//   * a waiter that leaves because its time has passed leaves before that critical section or after
//     it, and may then destroy the object.

#include <tuco/wait_group.hpp>

#include "sync/misuse.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1 {

using namespace sync;

namespace {

constexpr std::uint64_t one = std::uint64_t{1} << 32;

constexpr std::int32_t counter(std::uint64_t state) noexcept {
  return static_cast<std::int32_t>(state >> 32);
}
constexpr std::uint32_t waiters(std::uint64_t state) noexcept {
  return static_cast<std::uint32_t>(state);
}

}  // namespace

void wait_group::add_or_throw(int delta, const char* misuse) {
  const std::uint64_t change = one * static_cast<std::uint64_t>(static_cast<std::int64_t>(delta));
  std::uint64_t old = state_.load(std::memory_order_relaxed);
  for (;;) {
    const std::int64_t count = std::int64_t{counter(old)} + delta;
    if (count < 0 || count > INT32_MAX) [[unlikely]] {
      throw_misuse(misuse);  // Go's word for an overflow, too
    }
    if (count == 0 && waiters(old) != 0) break;
    // acq_rel: everything before each done() happens before what the waiters do.
    if (state_.compare_exchange_weak(old, old + change, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)) {
      return;
    }
  }

  sched::ready_list woken;
  sched::runtime_section section;
  sync::lock(waiters_);
  old = state_.load(std::memory_order_relaxed);
  std::uint64_t now;
  do {
    now = old + change;
    if (counter(now) == 0) now = 0;
    if (counter(now) < 0) [[unlikely]] {
      sync::unlock(waiters_);
      throw_misuse(misuse);
    }
  } while (!state_.compare_exchange_weak(old, now, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
  // With those whose time has passed: they find themselves out of the line and not counted.
  if (now == 0) take_all(waiters_.list, wait_result::done, woken);
  sync::unlock(waiters_);
  if (woken.head != nullptr) sched::ready_all(woken);  // *this may be gone
}

bool wait_group::wait_ns(std::int64_t deadline, wait_reason reason) {
  const bool zero = counter(state_.load(std::memory_order_acquire)) == 0;
  // Zero was stored by an add() that may still hold the line's lock, which it took before and gives back
  // as its last access; our caller may free *this at once. acquire, twice: whoever sees the zero sees the
  // lock taken, or given back.
  if (zero && waiters_.lock_word.load(std::memory_order_acquire) == 0) return true;
  if (!zero && has_passed(deadline)) return false;

  wait_node node;
  {
    sched::runtime_section section;
    sync::lock(waiters_);
    std::uint64_t old = state_.load(std::memory_order_acquire);
    do {
      if (counter(old) == 0) {
        sync::unlock(waiters_);
        return true;
      }
    } while (!state_.compare_exchange_weak(old, old + 1, std::memory_order_acq_rel,
                                           std::memory_order_acquire));
    if (!wait_in_line(waiters_, waiters_.list, node, section.self(), deadline, reason, this)) {
      // Not in line any more: the last done() has passed over us, and counts nobody now.
      if (waiters_.list.remove(node)) state_.fetch_sub(1, std::memory_order_relaxed);
      sync::unlock(waiters_);
      return false;
    }
  }
  return true;
}

}  // namespace tuco::inline v1
