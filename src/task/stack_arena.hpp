// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a stack_pool keeps of 64 MiB of slots. For its own files: stack_pool.cpp, stack_guard.cpp, stack_idle.cpp.

#include <cstddef>
#include <cstdint>

#include "task/stack_pool.hpp"

namespace tuco::inline v1::task {

// All fields are under the pool's lock. Each slot is
//
//     free   dirty   guarded
//     no     no      yes       in use, in a cache, or its pages are being given back
//     no     no      no        its guard is being installed, or given back
//     yes    no      no        new, or its pages, page table and guard were given back
//     yes    no      yes       pages given back
//     yes    yes     yes       as its last goroutine left it
struct stack_pool::arena {
  std::uintptr_t base = 0;
  unsigned size_class = 0;
  unsigned slots = 0;
  unsigned words = 0;
  unsigned free_slots = 0;
  unsigned dirty_slots = 0;
  unsigned guarded_free = 0;  // free and guarded but not dirty
  unsigned mapped_guards = 0;
  std::uint32_t trim_pass = 0;
  bool linked = false;  // in the list of its shelf
  arena* next = nullptr;
  arena* previous = nullptr;
  unsigned* valgrind_ids = nullptr;
  std::uint64_t* free = nullptr;
  std::uint64_t* dirty = nullptr;
  std::uint64_t* guarded = nullptr;
  std::uint64_t* mapped = nullptr;  // guards by mprotect

  [[nodiscard]] unsigned index(std::uintptr_t slot) const noexcept {
    return static_cast<unsigned>((slot - base) / slot_bytes(size_class));
  }
  [[nodiscard]] std::uintptr_t slot(unsigned index) const noexcept {
    return base + index * slot_bytes(size_class);
  }
  static bool test(const std::uint64_t* bits, unsigned i) noexcept {
    return (bits[i / 64] >> (i % 64) & 1) != 0;
  }
  static void set(std::uint64_t* bits, unsigned i) noexcept {
    bits[i / 64] |= std::uint64_t{1} << (i % 64);
  }
  static void clear(std::uint64_t* bits, unsigned i) noexcept {
    bits[i / 64] &= ~(std::uint64_t{1} << (i % 64));
  }
};

// Arena records lie at multiples of 64: the map of arenas keeps the class in the low bits of the
// pointer, so that find() need not read the record, which may be gone by then.
inline constexpr std::size_t arena_alignment = 64;
static_assert(stack_class_count <= arena_alignment);

inline constexpr const char* no_memory_text =
    "no memory or address space for a goroutine's stack (see ulimit -v, vm.overcommit_memory)";
inline constexpr const char* guard_refused_text =
    "the kernel refused to make the guard page of a goroutine's stack";

/// No huge pages, and a name in /proc/self/maps; after the memory was mapped, also when anew.
void name_arena(unsigned size_class, void* address, std::size_t size) noexcept;

}  // namespace tuco::inline v1::task
