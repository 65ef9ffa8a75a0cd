// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Where goroutine stacks come from and go to.
///
///     stack_cache    one per processor, no lock: stack_cache.hpp
///     stack_pool     one per process, a lock: arenas of 64 MiB of address space, carved into slots
///                    (stack_slot.hpp)
///
/// **Memory.** Pages appear when touched. A slot keeps its pages and its guard while it is cached.
/// The pool keeps the pages of `idle_stacks` free slots, those freed last; of others they go back to
/// the system in batches, page tables too where 2 MiB are free, and an arena that is free as a whole
/// is unmapped, but for one per class. The cost of a spike is gone when it is over.
///
/// **Guards.** MADV_GUARD_INSTALL where the kernel has it: no mapping of its own. Else mprotect,
/// which takes two mappings per stack, until vm.max_map_count is near; then allocation fails with
/// ENOMEM and a text that says so. Never a stack without guard.
///
/// **Thread safety.** Any thread.
/// **Failure.** noexcept throughout; an empty stack and a stack_failure.
/// **Tests.** stack_pool_test.cpp; guards and overflows in stack_guard_test.cpp.
/// The whole story: docs/design/memory.md.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "os/lock.hpp"
#include "task/stack_slot.hpp"

namespace tuco::inline v1::task {

/// Why there is no stack.
struct stack_failure {
  int error = 0;               ///< an errno value (positive), for std::system_error
  const char* text = nullptr;  ///< what to tell the user; static
};

struct stack_statistics {
  std::size_t arenas = 0;        ///< 64 MiB each
  std::size_t slots = 0;         ///< in those arenas
  std::size_t free_slots = 0;    ///< not in use and in no cache
  std::size_t idle_dirty = 0;    ///< free slots that kept their pages
  std::size_t mapped_guards = 0; ///< guards that cost mappings
};

enum class guard_kind : std::uint8_t {
  automatic,  ///< the kernel's light guards if it has them, else mprotect
  mprotect,
};

struct stack_pool_options {
  guard_kind guards = guard_kind::automatic;
  /// Free slots that keep their pages (at most 64 KiB each).
  std::size_t idle_stacks = 256;
  /// Free slots that keep guard and page table without pages.
  std::size_t idle_slots = 4096;
  /// A second canary at the low end, which costs a page per stack. See check_canary().
  bool low_canary = false;
  /// Mappings left to the rest of the program when guards are made by mprotect.
  std::size_t spare_mappings = 8192;
  /// In place of vm.max_map_count, for tests; 0: ask the kernel.
  std::size_t max_mappings = 0;
};

class stack_pool {
 public:
  using options = stack_pool_options;

  constexpr stack_pool() noexcept = default;
  explicit stack_pool(const options& o) noexcept : options_(o) {}
  stack_pool(const stack_pool&) = delete;
  stack_pool& operator=(const stack_pool&) = delete;
  /// Unmaps all. No stack of this pool may be in use. The process's own pool is never destroyed.
  ~stack_pool();

  /// Replaces the options; only before the first allocation.
  void configure(const options& o) noexcept { options_ = o; }

  /// Hands out up to `wanted` slots of a class, at least one unless it fails.
  /// Warm ones first: those with pages, then those with a guard, then new ones (at most 8).
  std::size_t take(unsigned size_class, std::uintptr_t* slots, std::size_t wanted,
                   stack_failure& why) noexcept;
  /// Takes slots back; the last of them will be handed out first.
  void give(unsigned size_class, const std::uintptr_t* slots, std::size_t count) noexcept;

  /// One stack without a cache: for tests and rare callers.
  stack allocate(unsigned size_class, stack_failure& why) noexcept;
  void release(const stack& s) noexcept;

  /// Gives back everything that free slots hold. Does nothing while another thread does it.
  void trim() noexcept;

  /// Makes the stack of a slot ready for a new goroutine.
  stack prepare(unsigned size_class, std::uintptr_t slot) const noexcept {
    const stack s = stack_detail::stack_at(size_class, slot);
    stack_detail::unpoison(s.low, s.size());
    // The page is touched the next moment anyway.
    stack_detail::word_at(stack_detail::high_canary(s)) = stack_detail::canary_of(stack_detail::high_canary(s));
    if (options_.low_canary) [[unlikely]] stack_detail::word_at(s.low) = stack_detail::canary_of(s.low);
    return s;
  }
  /// What follows the end of a goroutine: under ASan its stack must not be touched any more.
  static std::uintptr_t retire(const stack& s) noexcept {
    stack_detail::poison(s.low, s.size());
    return s.high - slot_bytes(stack_class_of(s));
  }

  /// The stack, of any goroutine, on or in whose guard `address` lies; empty if none. `top` is set.
  /// Async-signal-safe. Says nothing about whether it is in use.
  [[nodiscard]] stack find(std::uintptr_t address) const noexcept;

  [[nodiscard]] stack_statistics statistics() noexcept;

 private:
  struct arena;
  struct list {
    arena* head = nullptr;
    arena* tail = nullptr;
  };
  struct shelf {
    list partial;           ///< arenas with free slots and used ones; those with dirty slots in front
    arena* idle = nullptr;  ///< one without used slots; a second one is unmapped
  };
  static constexpr unsigned arena_shift = 26;
  static constexpr std::size_t arena_bytes = std::size_t{1} << arena_shift;
  static constexpr unsigned map_bits = 11;  // two levels of 2048: 48 bits of address
  using map_leaf = std::array<std::atomic<std::uintptr_t>, 1u << map_bits>;

  static void unlink(list& l, arena* a) noexcept;
  static void link(list& l, arena* a, bool front) noexcept;
  arena* lookup(std::uintptr_t address) const noexcept;
  bool map_set(std::uintptr_t base, std::uintptr_t value) noexcept;
  arena* grow(unsigned size_class, stack_failure& why) noexcept;
  static void destroy(arena* a) noexcept;
  static void destroy_all(arena* chain) noexcept;
  void forget(arena* a) noexcept;
  void put_back(std::uintptr_t slot, bool dirty, arena*& doomed) noexcept;
  arena* find_victim(std::uint32_t trim_pass) noexcept;
  bool give_back_one(std::uint32_t trim_pass) noexcept;
  bool install_guard(unsigned size_class, std::uintptr_t slot, bool& mapped,
                     stack_failure& why) noexcept;
  bool may_map_guard() noexcept;

  mutable os::lock lock_;
  options options_{};
  std::array<shelf, stack_class_count> shelves_{};
  std::array<std::atomic<map_leaf*>, 1u << map_bits> map_{};
  std::size_t arena_count_ = 0;
  std::size_t slot_count_ = 0;
  std::size_t free_count_ = 0;
  std::size_t dirty_count_ = 0;
  std::size_t guarded_free_ = 0;  ///< free, clean, with a guard
  std::size_t mapped_guards_ = 0;
  std::size_t mappings_limit_ = 0;  ///< for mapped guards: what the program had not used at first
  std::uint32_t trim_passes_ = 0;
  bool trimming_ = false;
  bool reset_works_ = true;
};

/// The process's pool; never destroyed, goroutines may outlive static destructors.
stack_pool& the_stack_pool() noexcept;

}  // namespace tuco::inline v1::task
