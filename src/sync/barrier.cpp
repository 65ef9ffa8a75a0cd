// SPDX-License-Identifier: Apache-2.0
// Everything changes with the line's lock held. Between the last arrival of a phase and end_phase() nobody
// can arrive: `missing` is 0. The lock is not held then, so the completion function may park.

#include <tuco/barrier.hpp>

#include "sync/misuse.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1::detail {

using namespace sync;

namespace {
constexpr auto relaxed = std::memory_order_relaxed;
}

barrier_core::barrier_core(std::int64_t expected) : missing_(expected), expected_(expected) {
  if (expected < 0) throw_misuse("barrier: negative number");
}

barrier_core::arrival barrier_core::arrive_core(std::int64_t n, bool drop) {
  if (n < 0) throw_misuse("barrier: negative number");
  arrival result{};
  bool too_many = false;
  {
    sched::runtime_section section;
    sync::lock(waiters_);
    const std::int64_t missing = missing_.load(relaxed);
    too_many = n > missing;
    if (!too_many) {
      missing_.store(missing - n, relaxed);
      if (drop) expected_.store(expected_.load(relaxed) - 1, relaxed);
      result = {phase_.load(relaxed), n != 0 && missing == n};
    }
    sync::unlock(waiters_);
  }
  if (too_many) throw_misuse("barrier: more arrivals than expected");
  return result;
}

void barrier_core::end_phase() noexcept {
  sched::ready_list woken;
  sched::runtime_section section;
  sync::lock(waiters_);
  missing_.store(expected_.load(relaxed), relaxed);
  phase_.store(phase_.load(relaxed) + 1, std::memory_order_release);
  take_all(waiters_.list, wait_result::done, woken);
  sync::unlock(waiters_);
  if (woken.head != nullptr) sched::ready_all(woken);  // *this may be gone
}

bool barrier_core::wait_ns(std::uint64_t phase, std::int64_t deadline) noexcept {
  const bool ended = phase_.load(std::memory_order_acquire) != phase;
  // As in wait_group.cpp: end_phase() may still hold the lock, and the caller may free *this at once.
  if (ended && waiters_.lock_word.load(std::memory_order_acquire) == 0) return true;
  if (!ended && has_passed(deadline)) return false;

  sched::runtime_section section;
  sync::lock(waiters_);
  if (phase_.load(relaxed) != phase) {
    sync::unlock(waiters_);
    return true;
  }
  wait_node node;
  if (wait_in_line(waiters_, waiters_.list, node, section.self(), deadline, wait_reason::barrier_wait, this)) {
    return true;
  }
  waiters_.list.remove(node);
  const bool ended_meanwhile = phase_.load(relaxed) != phase;
  sync::unlock(waiters_);
  return ended_meanwhile;
}

}  // namespace tuco::inline v1::detail
