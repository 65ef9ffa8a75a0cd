// SPDX-License-Identifier: Apache-2.0
#include "task/stack_pool.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <new>

#include "os/memory.hpp"
#include "task/stack_arena.hpp"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#ifndef VALGRIND_STACK_REGISTER
#define VALGRIND_STACK_REGISTER(start, end) 0u
#define VALGRIND_STACK_DEREGISTER(id) static_cast<void>(id)
#define RUNNING_ON_VALGRIND 0
#endif

namespace tuco::inline v1::task {
namespace {

using stack_detail::stack_at;

constexpr std::size_t keep_resident = std::size_t{64} << 10;
constexpr std::size_t fresh_batch = 8;

constexpr std::array<const char*, stack_class_count> region_names = {
    "tuco stacks 16K", "tuco stacks 32K",  "tuco stacks 64K", "tuco stacks 128K",
    "tuco stacks 256K", "tuco stacks 512K", "tuco stacks 1M",  "tuco stacks 2M",
    "tuco stacks 4M",  "tuco stacks 8M",   "tuco stacks 16M", "tuco stacks 32M",
    "tuco stacks 64M"};

constexpr const char* too_large_text = "a goroutine's stack has at most 64 MiB";

}  // namespace

void name_arena(unsigned size_class, void* address, std::size_t size) noexcept {
  os::refuse_huge_pages(address, size);
  os::name_region(address, size, region_names[size_class]);
}

// ------------------------------------------------------------------------------------------------
// Arenas

void stack_pool::unlink(list& l, arena* a) noexcept {
  (a->previous ? a->previous->next : l.head) = a->next;
  (a->next ? a->next->previous : l.tail) = a->previous;
  a->next = a->previous = nullptr;
  a->linked = false;
}

void stack_pool::link(list& l, arena* a, bool front) noexcept {
  a->previous = front ? nullptr : l.tail;
  a->next = front ? l.head : nullptr;
  (a->next ? a->next->previous : l.tail) = a;
  (a->previous ? a->previous->next : l.head) = a;
  a->linked = true;
}

bool stack_pool::map_set(std::uintptr_t base, std::uintptr_t value) noexcept {
  const std::uintptr_t index = base >> arena_shift;
  const std::uintptr_t root = index >> map_bits;
  if (root >= map_.size()) return false;
  map_leaf* leaf = map_[root].load(std::memory_order_relaxed);
  if (leaf == nullptr) {
    leaf = new (std::nothrow) map_leaf{};
    if (leaf == nullptr) return false;
    // Release: a signal handler that finds the leaf finds zeros in it.
    map_[root].store(leaf, std::memory_order_release);
  }
  (*leaf)[index & (leaf->size() - 1)].store(value, std::memory_order_release);
  return true;
}

stack_pool::arena* stack_pool::lookup(std::uintptr_t address) const noexcept {
  const std::uintptr_t index = address >> arena_shift;
  const map_leaf* const leaf = map_[index >> map_bits].load(std::memory_order_relaxed);
  const std::uintptr_t entry =
      (*leaf)[index & (leaf->size() - 1)].load(std::memory_order_relaxed);
  return reinterpret_cast<arena*>(entry & ~(arena_alignment - 1));
}

stack stack_pool::find(std::uintptr_t address) const noexcept {
  const std::uintptr_t index = address >> arena_shift;
  const std::uintptr_t root = index >> map_bits;
  if (root >= map_.size()) return {};
  const map_leaf* const leaf = map_[root].load(std::memory_order_acquire);
  if (leaf == nullptr) return {};
  const std::uintptr_t entry =
      (*leaf)[index & (leaf->size() - 1)].load(std::memory_order_acquire);
  if (entry == 0) return {};
  const auto size_class = static_cast<unsigned>(entry & (arena_alignment - 1));
  return stack_at(size_class, address & ~(slot_bytes(size_class) - 1));
}

stack_pool::arena* stack_pool::grow(unsigned size_class, stack_failure& why) noexcept {
  why = {ENOMEM, no_memory_text};
  const auto slots = static_cast<unsigned>(arena_bytes / slot_bytes(size_class));
  const unsigned words = (slots + 63) / 64;
  // One block: the record, four bitmaps, and what valgrind calls the stacks.
  std::size_t bytes = sizeof(arena) + 4 * words * sizeof(std::uint64_t);
  const std::size_t ids_at = bytes;
  if (RUNNING_ON_VALGRIND) bytes += slots * sizeof(unsigned);
  void* const memory = ::operator new(bytes, std::align_val_t{arena_alignment}, std::nothrow);
  if (memory == nullptr) return nullptr;
  const os::mapping region = os::reserve(arena_bytes, arena_bytes);
  if (!region) {
    ::operator delete(memory, std::align_val_t{arena_alignment});
    why.error = -region.error;
    return nullptr;
  }
  name_arena(size_class, region.address, arena_bytes);

  arena* const a = ::new (memory) arena;
  a->base = reinterpret_cast<std::uintptr_t>(region.address);
  a->size_class = size_class;
  a->slots = slots;
  a->words = words;
  a->free_slots = slots;
  a->free = reinterpret_cast<std::uint64_t*>(a + 1);
  a->dirty = a->free + words;
  a->guarded = a->dirty + words;
  a->mapped = a->guarded + words;
  std::fill_n(a->free, 4 * words, 0);
  for (unsigned i = 0; i < slots; ++i) arena::set(a->free, i);
  if (RUNNING_ON_VALGRIND) {
    a->valgrind_ids = reinterpret_cast<unsigned*>(static_cast<std::byte*>(memory) + ids_at);
    for (unsigned i = 0; i < slots; ++i) {
      [[maybe_unused]] const stack s = stack_at(size_class, a->slot(i));
      a->valgrind_ids[i] = VALGRIND_STACK_REGISTER(s.low, s.high - 1);
    }
  }
  if (!map_set(a->base, reinterpret_cast<std::uintptr_t>(a) | size_class)) {
    destroy(a);
    return nullptr;
  }
  ++arena_count_;
  slot_count_ += slots;
  free_count_ += slots;
  return a;
}

// Nothing refers to it any more but the caller, who does not hold the lock: unmapping 64 MiB that
// were in use takes its time.
void stack_pool::destroy(arena* a) noexcept {
  if (a->valgrind_ids != nullptr) {
    for (unsigned i = 0; i < a->slots; ++i) VALGRIND_STACK_DEREGISTER(a->valgrind_ids[i]);
  }
  for (unsigned i = 0; i < a->slots; ++i) {
    if (arena::test(a->guarded, i)) stack_detail::unpoison(a->slot(i), slot_bytes(a->size_class));
  }
  void* const address = reinterpret_cast<void*>(a->base);
  // Unmapping the middle of a mapping takes one mapping more. Where there is none left, at least the
  // pages go back.
  if (os::release(address, arena_bytes) != 0) os::discard(address, arena_bytes);
  ::operator delete(a, std::align_val_t{arena_alignment});
}

void stack_pool::destroy_all(arena* chain) noexcept {
  while (chain != nullptr) {
    arena* const a = chain;
    chain = a->next;
    destroy(a);
  }
}

// Takes a free arena out of the books.
void stack_pool::forget(arena* a) noexcept {
  --arena_count_;
  slot_count_ -= a->slots;
  free_count_ -= a->free_slots;
  dirty_count_ -= a->dirty_slots;
  guarded_free_ -= a->guarded_free;
  mapped_guards_ -= a->mapped_guards;
  map_set(a->base, 0);
}

stack_pool::~stack_pool() {
  for (auto& root : map_) {
    map_leaf* const leaf = root.load(std::memory_order_relaxed);
    if (leaf == nullptr) continue;
    for (auto& entry : *leaf) {
      const std::uintptr_t value = entry.load(std::memory_order_relaxed);
      if (value != 0) destroy(reinterpret_cast<arena*>(value & ~(arena_alignment - 1)));
    }
    delete leaf;
  }
}

// ------------------------------------------------------------------------------------------------
// Taking and giving

std::size_t stack_pool::take(unsigned size_class, std::uintptr_t* slots, std::size_t wanted,
                             stack_failure& why) noexcept {
  if (size_class >= stack_class_count || guard_bytes(size_class) >= slot_bytes(size_class) / 2) {
    why = {EINVAL, size_class >= stack_class_count ? too_large_text : guard_refused_text};
    return 0;
  }
  shelf& sh = shelves_[size_class];
  std::size_t taken = 0;
  bool fresh = false;  // those without a guard; new memory only when there is nothing warm, and
                       // little at a time
  lock_.lock();
  while (taken < wanted) {
    arena* a = sh.partial.head != nullptr ? sh.partial.head : sh.idle;
    const bool warm = a != nullptr && (a->dirty_slots != 0 || a->guarded_free != 0);
    if (taken != 0 && (warm == fresh || a == nullptr)) break;
    if (a == nullptr && (a = grow(size_class, why)) == nullptr) break;
    if (a == sh.idle) sh.idle = nullptr;
    fresh = !warm;
    wanted = fresh ? std::min(wanted, fresh_batch) : wanted;

    const bool from_dirty = a->dirty_slots != 0;
    unsigned word = 0;
    std::uint64_t candidates = 0;
    for (;; ++word) {
      candidates = from_dirty ? a->dirty[word] : a->free[word];
      if (warm && !from_dirty) candidates &= a->guarded[word];
      if (candidates != 0) break;
    }
    const unsigned i = word * 64 + static_cast<unsigned>(std::countr_zero(candidates));
    arena::clear(a->free, i);
    --a->free_slots;
    --free_count_;
    if (from_dirty) {
      arena::clear(a->dirty, i);
      --a->dirty_slots;
      --dirty_count_;
    } else if (warm) {
      --a->guarded_free;
      --guarded_free_;
    }
    slots[taken++] = a->slot(i);

    if (a->free_slots == 0) {
      if (a->linked) unlink(sh.partial, a);
    } else if (!a->linked) {
      link(sh.partial, a, a->dirty_slots != 0);
    } else if (from_dirty && a->dirty_slots == 0) {
      unlink(sh.partial, a);
      link(sh.partial, a, false);
    }
  }
  lock_.unlock();

  for (std::size_t i = 0; fresh && i < taken; ++i) {
    bool mapped = false;
    const bool guarded = install_guard(size_class, slots[i], mapped, why);
    arena* doomed = nullptr;
    lock_.lock();
    if (guarded) {
      arena* const a = lookup(slots[i]);
      const unsigned index = a->index(slots[i]);
      arena::set(a->guarded, index);
      if (mapped) {
        arena::set(a->mapped, index);
        ++a->mapped_guards;
      }
    } else {
      for (std::size_t j = i; j < taken; ++j) put_back(slots[j], false, doomed);
      taken = i;
    }
    lock_.unlock();
    destroy_all(doomed);
  }
  // The caller's pile hands out the last one first: let that be the warmest.
  std::reverse(slots, slots + taken);
  return taken;
}

// Under the lock. An arena that has become superfluous is added to the chain `doomed`.
void stack_pool::put_back(std::uintptr_t slot, bool dirty, arena*& doomed) noexcept {
  arena* const a = lookup(slot);
  shelf& sh = shelves_[a->size_class];
  const unsigned i = a->index(slot);
  arena::set(a->free, i);
  ++a->free_slots;
  ++free_count_;
  if (dirty) {
    arena::set(a->dirty, i);
    ++a->dirty_slots;
    ++dirty_count_;
  } else if (arena::test(a->guarded, i)) {
    ++a->guarded_free;
    ++guarded_free_;
  }
  if (a->linked) {
    if (a->free_slots != a->slots && !dirty) return;  // stays where it is
    unlink(sh.partial, a);
  }
  if (a->free_slots != a->slots) {
    link(sh.partial, a, dirty || a->dirty_slots != 0);
  } else if (sh.idle == nullptr) {
    sh.idle = a;
  } else {
    forget(a);
    a->next = doomed;
    doomed = a;
  }
}

void stack_pool::give(unsigned size_class, const std::uintptr_t* slots, std::size_t count) noexcept {
  // A stack that went deep once would hold all of that for as long as it is idle. One page tells.
  const std::size_t slot = slot_bytes(size_class);
  const std::size_t page = os::page_size();
  if (slot - guard_bytes(size_class) >= 2 * keep_resident) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::uintptr_t limit = slots[i] + slot - keep_resident;
      unsigned char resident = 0;
      if (os::residency(reinterpret_cast<void*>(limit - page), page, &resident) < 0 ||
          (resident & 1) == 0) {
        continue;
      }
      const std::uintptr_t low = slots[i] + guard_bytes(size_class);
      os::discard(reinterpret_cast<void*>(low), limit - low);
    }
  }

  arena* doomed = nullptr;
  lock_.lock();
  for (std::size_t i = 0; i < count; ++i) put_back(slots[i], true, doomed);
  lock_.unlock();
  destroy_all(doomed);
  while (give_back_one(0)) {
  }
}

stack stack_pool::allocate(unsigned size_class, stack_failure& why) noexcept {
  std::uintptr_t slot = 0;
  if (take(size_class, &slot, 1, why) == 0) return {};
  return prepare(size_class, slot);
}

void stack_pool::release(const stack& s) noexcept {
  const std::uintptr_t slot = retire(s);
  give(stack_class_of(s), &slot, 1);
}

stack_statistics stack_pool::statistics() noexcept {
  lock_.lock();
  const stack_statistics result{arena_count_, slot_count_, free_count_, dirty_count_,
                                mapped_guards_};
  lock_.unlock();
  return result;
}

namespace {
// Not destroyed: goroutines of a process that exits may still run. And not a local of the function:
// signal handlers call that.
union immortal {
  constexpr immortal() noexcept : pool() {}
  ~immortal() {}
  stack_pool pool;
};
constinit immortal process_pool;
}  // namespace

stack_pool& the_stack_pool() noexcept { return process_pool.pool; }

}  // namespace tuco::inline v1::task
