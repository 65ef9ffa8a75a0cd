// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Doubly linked lists through members of the elements: O(1) removal of an element that lies
/// anywhere in the list, and no allocation. The list does not own its elements.

#include <cstddef>

namespace tuco::inline v1::base {

/// A link embedded in an element. `owner` tells whether (and where) the element is linked, so that
/// removing twice is harmless.
template <class T>
struct list_link {
  T* next = nullptr;
  T* previous = nullptr;
  const void* owner = nullptr;
};

template <class T, list_link<T> T::*Link>
class intrusive_list {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }
  [[nodiscard]] T* front() const noexcept { return head_; }
  [[nodiscard]] T* back() const noexcept { return tail_; }
  [[nodiscard]] static T* next(const T& element) noexcept { return (element.*Link).next; }
  [[nodiscard]] bool contains(const T& element) const noexcept {
    return (element.*Link).owner == this;
  }

  void push_back(T& element) noexcept {
    element.*Link = {nullptr, tail_, this};
    (tail_ ? (tail_->*Link).next : head_) = &element;
    tail_ = &element;
  }

  void push_front(T& element) noexcept {
    element.*Link = {head_, nullptr, this};
    (head_ ? (head_->*Link).previous : tail_) = &element;
    head_ = &element;
  }

  /// @return False if `element` was not in this list; then nothing changes.
  bool remove(T& element) noexcept {
    auto& link = element.*Link;
    if (link.owner != this) return false;
    (link.previous ? (link.previous->*Link).next : head_) = link.next;
    (link.next ? (link.next->*Link).previous : tail_) = link.previous;
    link = {};
    return true;
  }

  T* pop_front() noexcept {
    T* element = head_;
    if (element != nullptr) remove(*element);
    return element;
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
};

}  // namespace tuco::inline v1::base
