// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file global_queue.hpp
/// `global_queue<T>`: the runnable goroutines that belong to no processor: readied from outside,
/// spilled from a full ring, or sent to the end of the line by yield().
///
/// An intrusive list, first in, first out, through one pointer member of the element. It never
/// allocates, so it cannot fail, whatever is out of memory.
///
/// **Thread safety.** The caller holds the lock that guards the queue, except for empty() and
/// size(): anyone may call these at any time, and idle workers do before they take the lock.
/// **Ordering.** empty() and size() carry none. A searcher that is about to park orders them by its
/// full fence, the submitter by its own, after the push (test/model/idle_model.cpp).
/// **Cost.** push and pop O(1), batch pop O(batch).

#include <cstddef>
#include <utility>

#include "base/atomic.hpp"

namespace tuco::inline v1::queue {

template <class T, T* T::*Next = &T::next, base::atomics_policy Atomics = base::real_atomics>
class global_queue {
  using order = std::memory_order;

 public:
  /// Elements taken out together, linked by `Next`, null-terminated.
  struct batch {
    T* first = nullptr;
    T* last = nullptr;
    std::size_t count = 0;
  };

  global_queue() = default;
  global_queue(const global_queue&) = delete;
  global_queue& operator=(const global_queue&) = delete;

  /// @pre `item` is in no queue that uses the same link.
  void push_back(T* item) noexcept { push_back_batch(item, item, 1); }

  /// Appends the chain `first` .. `last` of `count` elements, linked by `Next`.
  void push_back_batch(T* first, T* last, std::size_t count) noexcept {
    if (count == 0) return;
    last->*Next = nullptr;
    (tail_ != nullptr ? tail_->*Next : head_) = first;
    tail_ = last;
    grow_size(count);
  }

  /// Appends `count` elements that are not linked yet, as run_queue::take_half() hands them out.
  void push_back_all(T* const* items, std::size_t count) noexcept {
    if (count == 0) return;
    for (std::size_t i = 0; i + 1 < count; ++i) items[i]->*Next = items[i + 1];
    push_back_batch(items[0], items[count - 1], count);
  }

  /// To the head: for a goroutine that was taken out and could not be run.
  void push_front(T* item) noexcept {
    item->*Next = head_;
    head_ = item;
    if (tail_ == nullptr) tail_ = item;
    grow_size(1);
  }

  /// @return The oldest, its link null, or null.
  [[nodiscard]] T* pop_front() noexcept { return pop_front_batch(1).first; }

  /// Takes the oldest, at most `max` of them.
  [[nodiscard]] batch pop_front_batch(std::size_t max) noexcept {
    batch out;
    if (head_ == nullptr || max == 0) return out;
    out.first = out.last = head_;
    out.count = 1;
    while (out.count < max && out.last->*Next != nullptr) {
      // Each step waits for the link of the one before, from far away when the queue is long. What was made
      // together often lies together: a guess that costs nothing when it is wrong.
      __builtin_prefetch(out.last + 8, 1);
      out.last = out.last->*Next;
      ++out.count;
    }
    head_ = std::exchange(out.last->*Next, nullptr);
    if (head_ == nullptr) tail_ = nullptr;
    size_.store(size_.load(order::relaxed) - out.count, order::relaxed);
    return out;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_.load(order::relaxed); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }

  /// The oldest, not taken; follow `Next`. For dumps, under the lock.
  [[nodiscard]] T* front() const noexcept { return head_; }

 private:
  // Written under the lock only, so no read-modify-write; atomic for the readers without it.
  void grow_size(std::size_t by) noexcept {
    size_.store(size_.load(order::relaxed) + by, order::relaxed);
  }

  T* head_ = nullptr;
  T* tail_ = nullptr;
  typename Atomics::template atomic<std::size_t> size_{0};
};

}  // namespace tuco::inline v1::queue
