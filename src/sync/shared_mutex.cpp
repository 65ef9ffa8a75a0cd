// SPDX-License-Identifier: Apache-2.0
// One word says who has the mutex; two lines hold those who wait, writers and readers, under one lock.
//
//     writing    a writer has it
//     queued     a line is not empty
//     readers    how many share it, above the two bits
//
// Who changes the word:
//
//     while not queued   anybody, by an exchange that sees it not queued
//     while queued       only who holds the lines' lock: exchanges of the others fail, as they ask for
//                        a word without it, and go to the lock
//     queued             set by an exchange, and cleared, with the lines' lock held
//
// Invariant: queued <=> a line is not empty, whenever the lines' lock is free.
//
// Nobody waits beside a free mutex. A waiter joins in one critical section of the lines' lock, after an
// exchange that has set `queued` in a word that did not let it in. From then on every unlock takes the
// lines' lock, sees the waiter, and lets in whom the new word lets in (let_in). A waiter that gives up does
// the same: it may have been the writer that kept readers out.
//
// Order. An unlock that sees no `queued` releases with its exchange. Whoever sets `queued` acquires in that
// exchange, which continues the release sequence; the lock of the lines hands that on to whoever lets the
// waiter in, and ready() to the waiter.
//
// Life. An unlock that has seen `queued` takes the lines' lock before it gives the mutex back, and gives it
// back only if `queued` is still there: then somebody is still inside one of our calls, so the object lives
// until we have unlocked the lines. If the waiters have gone meanwhile it starts again; had it given the mutex
// back while holding the lock, another goroutine could lock, unlock and destroy the object before that lock
// is free.
//
// Test     SharedMutexTest.*
// Source   Go, sync/rwmutex.go, for who comes before whom.

#include <tuco/shared_mutex.hpp>

#include "base/fatal.hpp"
#include "sync/caller.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1 {

using namespace sync;

namespace {
constexpr auto relaxed = std::memory_order_relaxed;
}

bool shared_mutex::try_lock() noexcept {
  std::uint32_t free = 0;
  if (!state_.compare_exchange_strong(free, writing, std::memory_order_acquire, relaxed)) return false;
  owner_.store(caller_id(), relaxed);
  return true;
}

bool shared_mutex::try_lock_shared() noexcept {
  std::uint32_t old = state_.load(relaxed);
  while ((old & (writing | queued)) == 0) {
    if (state_.compare_exchange_weak(old, old + one_reader, std::memory_order_acquire, relaxed)) return true;
  }
  return false;
}

bool shared_mutex::lock_ns(std::int64_t deadline) noexcept {
  if (try_lock()) return true;
  if (has_passed(deadline)) return false;
  sched::runtime_section section;
  sync::lock(writers_);
  std::uint32_t old = state_.load(relaxed);
  while ((old & queued) == 0) {
    const std::uint32_t next = old == 0 ? writing : old | queued;
    if (!state_.compare_exchange_weak(old, next, std::memory_order_acq_rel, relaxed)) continue;
    if (next != writing) break;
    sync::unlock(writers_);
    owner_.store(caller_id(), relaxed);
    return true;
  }
  wait_node node;
  if (!wait_in_line(writers_, writers_.list, node, section.self(), deadline, wait_reason::shared_mutex_lock,
                    this)) {
    leave_line(writers_.list, node);
    return false;
  }
  return true;
}

bool shared_mutex::lock_shared_ns(std::int64_t deadline) noexcept {
  if (try_lock_shared()) return true;
  if (has_passed(deadline)) return false;
  sched::runtime_section section;
  sync::lock(writers_);
  std::uint32_t old = state_.load(relaxed);
  while ((old & queued) == 0) {
    const bool enters = (old & writing) == 0;
    const std::uint32_t next = enters ? old + one_reader : old | queued;
    if (!state_.compare_exchange_weak(old, next, std::memory_order_acq_rel, relaxed)) continue;
    if (!enters) break;
    sync::unlock(writers_);
    return true;
  }
  wait_node node;
  if (wait_in_line(writers_, readers_, node, section.self(), deadline, wait_reason::shared_mutex_rlock,
                   this)) {
    return true;
  }
  leave_line(readers_, node);
  return false;
}

void shared_mutex::unlock() noexcept {
  owner_.store(0, relaxed);
  for (;;) {
    std::uint32_t old = writing;
    if (state_.compare_exchange_strong(old, 0, std::memory_order_release, relaxed)) [[likely]] return;
    if ((old & writing) == 0) base::fatal("sync: Unlock of unlocked RWMutex");
    sched::runtime_section section;
    sync::lock(writers_);
    old = state_.load(relaxed);
    if ((old & queued) != 0) return let_in(old & ~(writing | queued), true);
    sync::unlock(writers_);
  }
}

void shared_mutex::unlock_shared() noexcept {
  std::uint32_t old = state_.load(relaxed);
  for (;;) {
    if (old < one_reader) base::fatal("sync: RUnlock of unlocked RWMutex");
    if ((old & queued) == 0) {
      if (state_.compare_exchange_weak(old, old - one_reader, std::memory_order_release, relaxed)) return;
      continue;
    }
    sched::runtime_section section;
    sync::lock(writers_);
    old = state_.load(relaxed);
    if ((old & queued) != 0) return let_in((old & ~queued) - one_reader, false);
    sync::unlock(writers_);
  }
}

/// Gives the mutex to those in the lines who can have it now, and unlocks the lines. They were locked, and
/// `queued` was set.
/// @param state  who has the mutex: one or no `writing`, readers, no `queued`
void shared_mutex::let_in(std::uint32_t state, bool readers_first) noexcept {
  sched::ready_list woken;
  const auto admit_readers = [&] {
    while (wait_node* node = take_first(readers_)) {
      node->result = wait_result::done;
      woken.push_back(node->g);
      state += one_reader;
    }
  };
  if ((state & writing) == 0 && readers_first) admit_readers();
  if (state == 0) {
    if (wait_node* node = take_first(writers_.list)) {
      node->result = wait_result::done;
      woken.push_back(node->g);
      owner_.store(node->g->id.load(relaxed), relaxed);
      state = writing;
    }
  }
  // Readers wait for a writer only.
  if ((state & writing) == 0 && writers_.list.front() == nullptr) admit_readers();
  if (writers_.list.front() != nullptr || readers_.front() != nullptr) state |= queued;
  state_.store(state, std::memory_order_release);
  sync::unlock(writers_);
  if (woken.head != nullptr) sched::ready_all(woken);
}

/// Of a waiter whose deadline has passed first. The lines are locked.
void shared_mutex::leave_line(wait_list& line, wait_node& node) noexcept {
  // Passed over by let_in(): no longer in line, and `queued` says what is true without us.
  if (!line.remove(node)) return sync::unlock(writers_);
  let_in(state_.load(relaxed) & ~queued, false);
}

}  // namespace tuco::inline v1
