// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Lines of parked goroutines, as every primitive of tuco has them.
///
/// A node lies on the stack of the goroutine that waits, so that waiting allocates nothing. It is
/// in at most one list, and all of it but `g` and `claim` belongs to whoever holds the lock of that
/// list, until somebody has taken it out and owns the wake-up; the goroutine looks at `result` when
/// it runs again.

#include <atomic>
#include <cstdint>

#include <tuco/config.hpp>

namespace tuco::inline v1::task {
struct goroutine;
}

namespace tuco::inline v1::detail {

/// What became of a wait, filled in by the party that ended it.
enum class wait_result : std::uint8_t {
  none,    ///< nobody did: the deadline passed, or another case of the select won
  done,    ///< the value was moved; the lock was handed over; ...
  closed,  ///< the channel was closed
  retry,   ///< begin again: the lock may be free now; the other side failed to move the value
};

struct wait_node {
  wait_node* next = nullptr;
  wait_node* previous = nullptr;
  task::goroutine* g = nullptr;
  /// 0: one list and no deadline; whoever unlinks the node owns the wake-up. Otherwise the value
  /// with which the wake-up is claimed (sched/park.hpp).
  std::uint32_t claim = 0;
  bool linked = false;
  wait_result result = wait_result::none;
};

/// First come, first served. Guarded by the lock of the primitive; `empty()` may be asked without
/// it, as a hint or where the primitive argues why that is enough.
class wait_list {
 public:
  [[nodiscard]] bool empty() const noexcept {
    return head_.load(std::memory_order_acquire) == nullptr;
  }
  [[nodiscard]] wait_node* front() const noexcept { return head_.load(std::memory_order_relaxed); }

  void push_back(wait_node& node) noexcept {
    node.next = nullptr;
    node.previous = tail_;
    node.linked = true;
    if (tail_ != nullptr) tail_->next = &node;
    else head_.store(&node, std::memory_order_release);
    tail_ = &node;
  }

  void push_front(wait_node& node) noexcept {
    wait_node* const first = front();
    node.next = first;
    node.previous = nullptr;
    node.linked = true;
    if (first != nullptr) first->previous = &node;
    else tail_ = &node;
    head_.store(&node, std::memory_order_release);
  }

  /// @return False if the node was taken out before.
  bool remove(wait_node& node) noexcept {
    if (!node.linked) return false;
    if (node.previous != nullptr) node.previous->next = node.next;
    else head_.store(node.next, std::memory_order_release);
    if (node.next != nullptr) node.next->previous = node.previous;
    else tail_ = node.previous;
    node.linked = false;
    return true;
  }

  wait_node* pop_front() noexcept {
    wait_node* const node = front();
    if (node != nullptr) remove(*node);
    return node;
  }

 private:
  std::atomic<wait_node*> head_{nullptr};
  wait_node* tail_ = nullptr;
};

/// A line with a lock of its own, for primitives that live in the user's objects. Its operations
/// are in src/sync/wait_queue.hpp.
struct wait_queue {
  std::atomic<std::uint32_t> lock_word{0};
  wait_list list;
};

}  // namespace tuco::inline v1::detail
