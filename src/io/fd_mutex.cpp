// SPDX-License-Identifier: Apache-2.0
#include "io/fd_mutex.hpp"

namespace tuco::inline v1::io {
namespace {

bool release_lock(sched::goroutine*, void* lock) noexcept {
  static_cast<base::spin_lock*>(lock)->unlock();
  return true;
}

}  // namespace

bool fd_mutex::lock_slow(direction d) noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  std::uint32_t old = state_.load(std::memory_order_relaxed);
  for (;;) {
    if ((old & closed) != 0) {
      list_lock_.unlock();
      return false;
    }
    const bool free = (old & locked(d)) == 0;
    const std::uint32_t next = free ? (old | locked(d)) + user : old | waiters(d);
    if (!state_.compare_exchange_weak(old, next, std::memory_order_acquire,
                                      std::memory_order_relaxed)) {
      continue;
    }
    if (free) {
      list_lock_.unlock();
      return true;
    }
    break;
  }
  // The waiter bit is set and the holder's unlock() will come through the list.
  waiter self{section.self()};
  queue& q = queue_[static_cast<int>(d)];
  (q.tail != nullptr ? q.tail->next : q.head) = &self;
  q.tail = &self;
  list_lock_.pass_to_commit_action();
  sched::park(release_lock, &list_lock_, wait_reason::semacquire, this);
  return self.granted;
}

bool fd_mutex::unlock_slow(direction d) noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  queue& q = queue_[static_cast<int>(d)];
  if (waiter* next = q.head; next != nullptr) {
    // The lock and our place among the users pass to the next one as they are.
    q.head = next->next;
    if (q.head == nullptr) {
      q.tail = nullptr;
      state_.fetch_and(~waiters(d), std::memory_order_relaxed);
    }
    next->granted = true;
    sched::goroutine* g = next->g;
    list_lock_.unlock();
    sched::ready(g);
    return false;
  }
  // close() has emptied the list since we looked.
  list_lock_.unlock();
  std::uint32_t old = state_.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint32_t next = (old & ~locked(d)) - user;
    if (state_.compare_exchange_weak(old, next, std::memory_order_release,
                                     std::memory_order_relaxed)) {
      return is_over(next) && last_user_left();
    }
  }
}

bool fd_mutex::close() noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  const std::uint32_t old = state_.fetch_or(closed, std::memory_order_acq_rel);
  if ((old & closed) != 0) {
    list_lock_.unlock();
    return false;
  }
  state_.fetch_and(~(waiters(direction::read) | waiters(direction::write)),
                   std::memory_order_relaxed);
  sched::ready_list woken;
  for (queue& q : queue_) {
    for (waiter* w = q.head; w != nullptr;) {
      waiter* next = w->next;  // *w is gone as soon as its goroutine runs
      woken.push_back(w->g);
      w = next;
    }
    q = {};
  }
  // Without users nobody will come to last_user_left().
  if (old < user) unused_ = true;
  list_lock_.unlock();
  sched::ready_all(woken);
  return true;
}

// The state says "closed and no users" only once. The closer, which may free this object, is let go
// under the list lock: our unlock() of it is our last access.
bool fd_mutex::last_user_left() noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  unused_ = true;
  const bool orphan = disowned_;
  sched::goroutine* closer = closer_;
  list_lock_.unlock();
  if (closer != nullptr) sched::ready(closer);
  return orphan;
}

void fd_mutex::wait_until_unused() noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  if (unused_) {
    list_lock_.unlock();
  } else {
    closer_ = section.self();
    list_lock_.pass_to_commit_action();
    sched::park(release_lock, &list_lock_, wait_reason::semacquire, this);
  }
  // What all users did happens before what the closer does next: each left by a releasing
  // read-modify-write of the state, and those form one release sequence.
  (void)state_.load(std::memory_order_acquire);
}

bool fd_mutex::is_unused() noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  const bool answer = unused_;
  list_lock_.unlock();
  (void)state_.load(std::memory_order_acquire);
  return answer;
}

bool fd_mutex::disown() noexcept {
  sched::runtime_section section;
  list_lock_.lock();
  const bool in_use = !unused_;
  disowned_ = in_use;
  list_lock_.unlock();
  return in_use;
}

}  // namespace tuco::inline v1::io
