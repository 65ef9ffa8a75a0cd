// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "task/goroutine.hpp"

namespace tuco::inline v1::task {

/// Goroutines that may run now, linked by `next`: how timers and the poller hand their findings to
/// the scheduler, which they never call. A list belongs to whoever fills or empties it, and what is in
/// it waits in no other: nothing for ThreadSanitizer, which may know some of the callers only.
struct ready_list {
  goroutine* head = nullptr;
  goroutine* tail = nullptr;
  std::uint32_t count = 0;

  TUCO_UNSEEN_BY_TSAN void push_back(goroutine* g) noexcept {
    g->next = nullptr;
    (tail != nullptr ? tail->next : head) = g;
    tail = g;
    ++count;
  }

  TUCO_UNSEEN_BY_TSAN goroutine* pop_front() noexcept {
    goroutine* g = head;
    if (g == nullptr) return nullptr;
    head = g->next;
    if (head == nullptr) tail = nullptr;
    g->next = nullptr;
    --count;
    return g;
  }
};

}  // namespace tuco::inline v1::task
