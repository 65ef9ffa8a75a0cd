// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The address space of one stack: its size, its guard, and what can be told of it.
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

#include <bit>
#include <cstddef>
#include <cstdint>

#include "base/sanitizer.hpp"
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

/// The stack of a slot.
inline stack stack_at(unsigned size_class, std::uintptr_t slot) noexcept {
  stack s;
  s.low = slot + guard_bytes(size_class);
  s.high = slot + slot_bytes(size_class);
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

}  // namespace stack_detail

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
