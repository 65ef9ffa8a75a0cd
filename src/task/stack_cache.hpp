// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A processor's pile of stacks, last in first out, so that a new goroutine gets the stack whose top
/// page is still in the cache.
///
/// **Thread safety.** Its owner's alone; no lock.
/// **Failure.** noexcept throughout; an empty stack and a stack_failure.
/// **Tests.** stack_pool_test.cpp.

#include <array>
#include <cstddef>
#include <cstdint>

#include "task/stack_pool.hpp"

namespace tuco::inline v1::task {

class stack_cache {
 public:
  static constexpr unsigned capacity = 64;

  explicit stack_cache(stack_pool& pool = the_stack_pool()) noexcept : pool_(&pool) {}
  stack_cache(const stack_cache&) = delete;
  stack_cache& operator=(const stack_cache&) = delete;
  ~stack_cache() { drain(); }

  /// At most 64 stacks and 16 MiB of address space per class, at least one.
  static constexpr unsigned capacity_of(unsigned size_class) noexcept {
    const std::size_t fit = (std::size_t{16} << 20) / slot_bytes(size_class);
    return fit >= capacity ? capacity : fit == 0 ? 1u : static_cast<unsigned>(fit);
  }

  stack allocate(unsigned size_class, stack_failure& why) noexcept {
    if (size_class >= stack_class_count) [[unlikely]] {
      refill(size_class, why);  // says why not
      return {};
    }
    pile& p = piles_[size_class];
    if (p.count == 0 && !refill(size_class, why)) [[unlikely]] return {};
    return pool_->prepare(size_class, p.slots[--p.count]);
  }

  /// Nothing may run on `s` any more.
  void release(const stack& s) noexcept {
    const unsigned size_class = stack_class_of(s);
    if (size_class >= stack_class_count) __builtin_unreachable();  // not a stack of ours
    pile& p = piles_[size_class];
    if (p.count == capacity_of(size_class)) [[unlikely]] spill(size_class);
    p.slots[p.count++] = stack_pool::retire(s);
  }

  /// Returns all to the pool. Also right when the owner will not run for a while.
  void drain() noexcept;

 private:
  struct pile {
    unsigned count = 0;
    std::array<std::uintptr_t, capacity> slots;
  };
  bool refill(unsigned size_class, stack_failure& why) noexcept;
  void spill(unsigned size_class) noexcept;

  stack_pool* pool_;
  std::array<pile, stack_class_count> piles_;
};

}  // namespace tuco::inline v1::task
