// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Where goroutine stacks come from and go to.
///
///     stack_cache    one per processor, no lock: a short pile of stacks, last in first out, so that
///                    a new goroutine gets the stack whose top page is still in the cache
///     stack_pool     one per process, a lock: arenas of 64 MiB of address space, carved into slots
///
/// **Slots.** A size class c is 16 KiB << c of *address space*, up to 64 MiB. The lowest sixteenth of
/// a slot (at least a page, at most 64 KiB) is its guard, the rest the stack:
///
///     slot    16 K   32 K   64 K   128 K   256 K   512 K   1 M ... 64 M
///     guard    4 K    4 K    4 K     8 K    16 K    32 K          64 K
///
/// The guard lies inside, not beside the slot: a slot that is a power of two wastes no page table
/// (each 4 KiB of it maps 2 MiB; a parked goroutine costs a page, its record and this share). Code
/// compiled with -fstack-clash-protection hits a guard of one page already; the rest is for libraries
/// that were not, whose frames may jump over it. Goroutines that call deep into such code ask for
/// 1 MiB, which costs nothing but address space, and get 64 KiB of guard with it.
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
/// **Colour.** `top` is 64 to 960 bytes below `high`, by a hash of the slot: otherwise the hot lines of
/// all parked goroutines would compete for the same few sets of the cache. A shallow stack still
/// touches one page only.
///
/// **Thread safety.** stack_pool: any thread. stack_cache: its owner.
/// **Failure.** noexcept throughout; an empty stack and a stack_failure.
/// **Tests.** stack_pool_test.cpp; guards and overflows in stack_guard_test.cpp.
/// The whole story: docs/design/memory.md.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/sanitizer.hpp"
#include "os/lock.hpp"
#include "os/memory.hpp"
#include "task/stack.hpp"

#ifdef TUCO_BASE_ASAN
extern "C" void __asan_poison_memory_region(const volatile void* address, std::size_t size);
#endif

namespace tuco::inline v1::task {

inline constexpr unsigned stack_class_count = 13;
inline constexpr std::size_t min_slot_bytes = std::size_t{16} << 10;
inline constexpr std::size_t max_slot_bytes = min_slot_bytes << (stack_class_count - 1);
inline constexpr std::size_t max_guard_bytes = std::size_t{64} << 10;
inline constexpr std::size_t default_slot_bytes = std::size_t{256} << 10;

/// Address space of a stack of class `c`, guard included.
constexpr std::size_t slot_bytes(unsigned c) noexcept { return min_slot_bytes << c; }

inline std::size_t guard_bytes(unsigned c) noexcept {
  const std::size_t sixteenth = slot_bytes(c) / 16;
  const std::size_t wanted = sixteenth < max_guard_bytes ? sixteenth : max_guard_bytes;
  return wanted > os::page_size() ? wanted : os::page_size();
}

/// The smallest class whose slots have at least `slot` bytes; stack_class_count when none has.
constexpr unsigned smallest_stack_class(std::size_t slot) noexcept {
  if (slot <= min_slot_bytes) return 0;
  if (slot > max_slot_bytes) return stack_class_count;
  return static_cast<unsigned>(std::bit_width((slot - 1) / min_slot_bytes));
}

/// The class that serves a request for `bytes`, guard included; stack_class_count when none does.
/// Larger than the smallest where the machine's pages are so large that a guard of one page would
/// take more than a quarter of the slot.
unsigned stack_class_for(std::size_t bytes) noexcept;

inline constexpr unsigned default_stack_class = smallest_stack_class(default_slot_bytes);

/// The class of a stack of ours: the guard takes less than half of a slot.
constexpr unsigned stack_class_of(const stack& s) noexcept {
  return smallest_stack_class(std::bit_ceil(s.size()));
}

namespace stack_detail {

/// The stack of a slot, with its colour: a multiplicative hash, so that neighbours differ.
inline stack stack_at(unsigned size_class, std::uintptr_t slot) noexcept {
  const std::uint64_t hash = (slot / min_slot_bytes) * 0x9e3779b97f4a7c15u;
  stack s;
  s.low = slot + guard_bytes(size_class);
  s.high = slot + slot_bytes(size_class);
  s.top = s.high - 64 * (1 + (hash >> 32) % 15);
  return s;
}

inline std::uint64_t& word_at(std::uintptr_t address) noexcept {
  return *reinterpret_cast<std::uint64_t*>(address);
}
/// Differs from stack to stack, so that one stack copied over another does not look right.
inline std::uint64_t canary_of(std::uintptr_t address) noexcept {
  return (address * 0x9e3779b97f4a7c15u) ^ 0x7475636f73746b00u;
}
inline std::uintptr_t high_canary(const stack& s) noexcept { return s.high - 8; }

inline void poison([[maybe_unused]] std::uintptr_t low, [[maybe_unused]] std::size_t size) noexcept {
#ifdef TUCO_BASE_ASAN
  __asan_poison_memory_region(reinterpret_cast<void*>(low), size);
#endif
}
inline void unpoison([[maybe_unused]] std::uintptr_t low,
                     [[maybe_unused]] std::size_t size) noexcept {
#ifdef TUCO_BASE_ASAN
  __asan_unpoison_memory_region(reinterpret_cast<void*>(low), size);
#endif
}

}  // namespace detail

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
  int install_guard(unsigned size_class, std::uintptr_t slot, bool& mapped) noexcept;
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

// -- what is known of one stack

/// Whether `address` lies in the guard below `s`.
bool in_guard(const stack& s, std::uintptr_t address) noexcept;

/// Bytes of `s` that were touched, counted from `high` in whole pages, since its pages last came from
/// the system: a recycled stack shows the deepest of its tenants, and pages that were swapped out
/// are not seen. For a figure of one goroutine alone give it a fresh stack. 0 when unknown.
std::size_t high_water(const stack& s) noexcept;

/// False when somebody wrote where nobody may: over the word at the very top (a frame of the
/// neighbour above jumped over its guard), or, with options::low_canary, over the lowest word (this
/// goroutine used its last word, and has most likely gone on below). Two loads; one without low_canary.
[[nodiscard]] bool check_canary(const stack& s, bool low) noexcept;

}  // namespace tuco::inline v1::task
