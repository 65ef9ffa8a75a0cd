// SPDX-License-Identifier: Apache-2.0
// A condition variable in two steps: a waiter joins the line, then the caller unlocks its lock, then
// it parks. Between the first and the last step somebody may notify it, and then it must not be made
// runnable, because it still runs; and once it has been notified, the condition variable may be gone.
// So the two meet in a word of the waiter's own:
//
//     announced   in line, or taken out of it by a notifier that has not come to the word yet
//     parked      saved; the notifier is to make it runnable
//     notified    the notifier has come: it is not to park, or has been made runnable
//
//   the waiter's commit action                  the notifier, which owns the wake-up
//   C1 announced -> parked by exchange;         N1 exchange with notified
//      if that fails (notified): do not park    N2 if it was parked: make it runnable
//
// Claim      It is made runnable exactly if it has parked.
// Proof      Both change one word, once each. C1 first: N1 finds parked. N1 first: C1 fails.
//
// With a deadline a third party may end the wait, also before C1 ran: the word of the waiter lies on
// its stack, and C1 would write where that stack has gone on. So a waiter that was woken by its
// deadline waits until C1 has happened, which is a matter of nanoseconds: the commit action is on its
// way already.

#include <tuco/condition_variable.hpp>

#include "base/pause.hpp"
#include "os/clock.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1::detail {

using namespace sync;

namespace {

constexpr std::uint8_t announced = 0;
constexpr std::uint8_t parked = 1;
constexpr std::uint8_t notified = 2;
constexpr std::uint32_t claimed_by_notifier = 1;

}  // namespace

void condition_core::announce(waiter& w, bool timed) noexcept {
  sched::runtime_section section;
  w.g = section.self();
  if (timed) {
    sched::arm_claim(w.g);
    w.claim = claimed_by_notifier;
  }
  sync::lock(waiters_);
  waiters_.list.push_back(w);
  sync::unlock(waiters_);
}

bool condition_core::commit(task::goroutine*, void* argument) noexcept {
  auto& stage = static_cast<waiter*>(argument)->stage;
  std::uint8_t expected = announced;
  // release: the deadline's side goes on when it sees this, and may reuse the word's memory.
  // acquire, on failure: what the notifier did before.
  return stage.compare_exchange_strong(expected, parked, std::memory_order_acq_rel,
                                       std::memory_order_acquire);
}

bool condition_core::wait(waiter& w, std::int64_t deadline) noexcept {
  if (w.stage.load(std::memory_order_acquire) == notified) return true;
  sched::runtime_section section;
  if (deadline == no_deadline) {
    sched::park(&commit, &w, wait_reason::cond_wait, this);
    return true;
  }
  if (sched::park_until(deadline, &commit, &w, wait_reason::cond_wait, this) ==
      claimed_by_notifier) {
    return true;
  }
  for (int i = 0; w.stage.load(std::memory_order_acquire) == announced; ++i) {
    if (i < 64) base::pause();
    else base::spin_wait_yield();
  }
  sync::lock(waiters_);
  waiters_.list.remove(w);
  sync::unlock(waiters_);
  return false;
}

void condition_core::withdraw(waiter& w) noexcept {
  sched::runtime_section section;
  sync::lock(waiters_);
  // Notifiers say so with the lock held; the node may be in a list of theirs then.
  const bool was_in_line = w.result == wait_result::none && waiters_.list.remove(w);
  sync::unlock(waiters_);
  if (was_in_line) return;
  // Somebody has notified us, or is about to; it was meant for a waiter.
  while (w.stage.load(std::memory_order_acquire) != notified) base::spin_wait_yield();
  notify_one();
}

void condition_core::notify_one() noexcept {
  // Without the lock: a waiter is in line before it unlocks. Whoever has changed the state under
  // that lock since then sees the line as it was, or longer.
  if (waiters_.list.empty()) return;
  sched::runtime_section section;
  sync::lock(waiters_);
  auto* const w = static_cast<waiter*>(take_first(waiters_.list));
  if (w != nullptr) w->result = wait_result::done;
  sync::unlock(waiters_);
  if (w == nullptr) return;
  task::goroutine* const g = w->g;
  if (w->stage.exchange(notified, std::memory_order_acq_rel) == parked) sched::ready(g);
}

void condition_core::notify_all() noexcept {
  if (waiters_.list.empty()) return;
  sched::runtime_section section;
  sched::ready_list woken;
  sync::lock(waiters_);
  wait_list ours;  // their nodes stay until N1
  while (wait_node* node = take_first(waiters_.list)) {
    node->result = wait_result::done;
    ours.push_back(*node);
  }
  sync::unlock(waiters_);
  while (wait_node* node = ours.pop_front()) {
    auto* const w = static_cast<waiter*>(node);
    task::goroutine* const g = w->g;
    if (w->stage.exchange(notified, std::memory_order_acq_rel) == parked) woken.push_back(g);
  }
  if (woken.head != nullptr) sched::ready_all(woken);
}

}  // namespace tuco::inline v1::detail
