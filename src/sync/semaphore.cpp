// SPDX-License-Identifier: Apache-2.0
// The word is what is free, and one bit that says whether somebody waits. The protocol is that of
// shared_mutex.cpp, where the argument stands: while the bit is clear the word is changed by exchanges that see
// it clear; while it is set, by whoever holds the line's lock; a release that has seen it takes that lock
// before it gives anything back, and starts again if the line has emptied meanwhile.

#include <tuco/semaphore.hpp>

#include "sync/misuse.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1 {

using namespace sync;

namespace {

constexpr auto relaxed = std::memory_order_relaxed;
constexpr std::int64_t largest = std::int64_t{1} << 62;

/// Somebody in line, and for how much.
struct request : wait_node {
  std::uint64_t n = 0;
};

}  // namespace

semaphore::semaphore(std::int64_t size)
    : state_(static_cast<std::uint64_t>(size) * one), size_(size) {
  if (size < 0 || size > largest) throw_misuse("semaphore: size out of range");
}

bool semaphore::try_take(std::uint64_t n) noexcept {
  std::uint64_t old = state_.load(relaxed);
  while ((old & queued) == 0 && old / one >= n) {
    if (state_.compare_exchange_weak(old, old - n * one, std::memory_order_acquire, relaxed)) return true;
  }
  return false;
}

bool semaphore::try_acquire(std::int64_t n) {
  if (n < 0) throw_misuse("semaphore: negative number");
  return try_take(static_cast<std::uint64_t>(n));
}

bool semaphore::acquire_ns(std::int64_t wanted, std::int64_t deadline) {
  if (wanted < 0) throw_misuse("semaphore: negative number");
  if (wanted > size_) throw_misuse("semaphore: acquire of more than its size");
  const auto n = static_cast<std::uint64_t>(wanted);
  if (try_take(n)) return true;
  if (has_passed(deadline)) return false;

  sched::runtime_section section;
  sync::lock(waiters_);
  std::uint64_t old = state_.load(relaxed);
  while ((old & queued) == 0) {
    const bool fits = old / one >= n;
    const std::uint64_t next = fits ? old - n * one : old | queued;
    if (!state_.compare_exchange_weak(old, next, std::memory_order_acq_rel, relaxed)) continue;
    if (!fits) break;
    sync::unlock(waiters_);
    return true;
  }
  request r;
  r.n = n;
  if (wait_in_line(waiters_, waiters_.list, r, section.self(), deadline, wait_reason::semaphore_acquire, this)) {
    return true;
  }
  // It may have been the one that kept those behind it out.
  if (waiters_.list.remove(r)) let_in(state_.load(relaxed) / one);
  else sync::unlock(waiters_);
  return false;
}

void semaphore::release(std::int64_t returned) {
  if (returned < 0) throw_misuse("semaphore: negative number");
  const auto n = static_cast<std::uint64_t>(returned);
  std::uint64_t old = state_.load(relaxed);
  for (;;) {
    if (n > static_cast<std::uint64_t>(size_) - old / one) throw_misuse("semaphore: released more than held");
    if ((old & queued) == 0) {
      if (state_.compare_exchange_weak(old, old + n * one, std::memory_order_release, relaxed)) return;
      continue;
    }
    sched::runtime_section section;
    sync::lock(waiters_);
    old = state_.load(relaxed);
    if ((old & queued) != 0 && n <= static_cast<std::uint64_t>(size_) - old / one) return let_in(old / one + n);
    sync::unlock(waiters_);
  }
}

/// Gives `free` units to those who come first, as long as they fit, and unlocks the line. It was locked, and
/// `queued` was set. One that does not fit, and whose time has passed, comes here itself when it leaves.
void semaphore::let_in(std::uint64_t free) noexcept {
  sched::ready_list woken;
  while (auto* const first = static_cast<request*>(waiters_.list.front())) {
    if (first->n > free) break;
    waiters_.list.remove(*first);
    if (first->claim != 0 && !sched::try_claim(first->g, first->claim)) continue;  // its time has passed
    first->result = wait_result::done;
    free -= first->n;
    woken.push_back(first->g);
  }
  state_.store(free * one | (waiters_.list.front() != nullptr ? queued : 0), std::memory_order_release);
  sync::unlock(waiters_);
  if (woken.head != nullptr) sched::ready_all(woken);
}

}  // namespace tuco::inline v1
