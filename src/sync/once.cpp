// SPDX-License-Identifier: Apache-2.0
#include <tuco/once.hpp>

#include "sync/caller.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1 {

using namespace sync;

bool once::begin() noexcept {
  sched::runtime_section section;
  for (;;) {
    sync::lock(waiters_);
    switch (state_.load(std::memory_order_acquire)) {
      case finished: sync::unlock(waiters_); return false;
      case fresh:
        state_.store(running, std::memory_order_relaxed);
        owner_.store(caller_id(), std::memory_order_relaxed);
        sync::unlock(waiters_);
        return true;
      default: break;
    }
    wait_node node;
    node.g = section.self();
    waiters_.list.push_back(node);
    sync::pass_to_commit_action(waiters_);
    sched::park(&unlock_queue, &waiters_, wait_reason::once_wait, this);
    // Done: the object may be gone. Otherwise the function has thrown, and somebody else tries.
    if (node.result == wait_result::done) return false;
  }
}

void once::end(bool success) noexcept {
  sched::runtime_section section;
  sched::ready_list woken;
  sync::lock(waiters_);
  owner_.store(0, std::memory_order_relaxed);
  state_.store(success ? finished : fresh, std::memory_order_release);
  take_all(waiters_.list, success ? wait_result::done : wait_result::retry, woken);
  sync::unlock(waiters_);
  if (woken.head != nullptr) sched::ready_all(woken);
}

}  // namespace tuco::inline v1
