// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the primitives do with lines of waiters: lock them, take waiters out, wake them.

#include <tuco/detail/deadline.hpp>
#include <tuco/detail/wait_list.hpp>

#include "base/pause.hpp"
#include "base/sanitizer.hpp"
#include "base/spin_lock.hpp"
#include "os/clock.hpp"
#include "sched/park.hpp"

namespace tuco::inline v1::sync {

using detail::wait_list;
using detail::wait_node;
using detail::wait_queue;
using detail::wait_result;

/// The lock of a wait_queue: base::spin_lock over a word in a public header.
/// Enter a sched::runtime_section first.
inline void lock(wait_queue& q) noexcept {
  while (q.lock_word.exchange(1, std::memory_order_acquire) != 0) {
    for (int i = 0; q.lock_word.load(std::memory_order_relaxed) != 0; ++i) {
      if (i < 64) base::pause();
      else base::spin_wait_yield();
    }
  }
}
inline void unlock(wait_queue& q) noexcept { base::release_lock_word(q.lock_word); }

/// The caller parks, and unlock_queue() will unlock.
inline void pass_to_commit_action(wait_queue& q) noexcept { base::tsan_release(&q.lock_word); }

/// Commit action for a goroutine that parks with a wait_queue locked.
inline bool unlock_queue(sched::goroutine*, void* queue) noexcept {
  unlock(*static_cast<wait_queue*>(queue));
  return true;
}

/// A moment that leaves nothing to wait for.
inline bool has_passed(std::int64_t deadline) noexcept {
  return deadline != detail::no_deadline && deadline <= os::steady_now_ns();
}

/// The claim of whoever takes a node out of a line, where that and the deadline are the only two parties.
inline constexpr std::uint32_t claimed_from_line = 1;

/// Parks the caller as the last of `line`, one of those that `q` guards; `q` is locked.
/// @return True: taken out, `node.result` says why; `q` is not ours and may be gone. False: the deadline has
///         passed first; `q` is locked again, and the node, if it still is in line, is the caller's to remove.
inline bool wait_in_line(wait_queue& q, wait_list& line, wait_node& node, sched::goroutine* self,
                         std::int64_t deadline, wait_reason reason, const void* object) noexcept {
  node.g = self;
  if (deadline == detail::no_deadline) {
    line.push_back(node);
    pass_to_commit_action(q);
    sched::park(&unlock_queue, &q, reason, object);
    return true;
  }
  sched::arm_claim(self);
  node.claim = claimed_from_line;
  line.push_back(node);
  pass_to_commit_action(q);
  if (sched::park_until(deadline, &unlock_queue, &q, reason, object) != sched::claimed_by_deadline) return true;
  lock(q);
  return false;
}

/// The first waiter whose wake-up is ours, or null. Lock held.
///
/// Those that we pass over have been claimed by their deadline or by another case of their select:
/// they are on their way and will find themselves unlinked (task/claim.hpp).
inline wait_node* take_first(wait_list& list) noexcept {
  while (wait_node* node = list.pop_front()) {
    if (node->claim == 0 || sched::try_claim(node->g, node->claim)) return node;
  }
  return nullptr;
}

/// Takes out all, with `result`, and collects those whose wake-up is ours. Lock held.
inline void take_all(wait_list& list, wait_result result, sched::ready_list& woken) noexcept {
  while (wait_node* node = take_first(list)) {
    node->result = result;
    woken.push_back(node->g);
  }
}

/// Wakes a goroutine that was taken out; the node may be gone when this returns.
inline void wake(wait_node& node, wait_result result) noexcept {
  node.result = result;
  sched::ready(node.g);
}

}  // namespace tuco::inline v1::sync
