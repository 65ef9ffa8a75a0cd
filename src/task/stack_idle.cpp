// SPDX-License-Identifier: Apache-2.0
// How a stack_pool gives back what its free slots hold.
#include <algorithm>

#include "os/memory.hpp"
#include "task/stack_arena.hpp"

namespace tuco::inline v1::task {
namespace {

constexpr std::size_t block_bytes = std::size_t{2} << 20;  // what one page of page table maps

}  // namespace

// Under the lock. An arena whose free slots hold more than they should; trim_pass 0: above the
// budget, else any that this pass has not seen yet.
stack_pool::arena* stack_pool::find_victim(std::uint32_t trim_pass) noexcept {
  if (trim_pass == 0 && dirty_count_ <= options_.idle_stacks) return nullptr;
  const auto eligible = [&](const arena* a) {
    if (trim_pass == 0) return a->dirty_slots != 0;
    return a->trim_pass != trim_pass && (a->dirty_slots != 0 || a->guarded_free != 0);
  };
  for (shelf& sh : shelves_) {
    // Dirty arenas stand in front, the one that was given something last first of all. The last one
    // of them is the coldest.
    arena* found = nullptr;
    for (arena* a = sh.partial.head; a != nullptr; a = a->next) {
      if (eligible(a)) found = a;
      if (a->dirty_slots == 0 && trim_pass == 0) break;
    }
    if (found == nullptr && sh.idle != nullptr && eligible(sh.idle)) found = sh.idle;
    if (found != nullptr) return found;
  }
  return nullptr;
}

// Gives back what one arena's free slots hold. The pages go while the lock is free: the slots are
// nobody's meanwhile, which also keeps the arena alive.
// @return False when there is no arena to do it for.
bool stack_pool::give_back_one(std::uint32_t trim_pass) noexcept {
  constexpr unsigned max_words = arena_bytes / min_slot_bytes / 64;
  std::uint64_t busy[max_words] = {};   // slots in our hands
  std::uint64_t whole[max_words] = {};  // of those: in blocks that go with page table and guards
  lock_.lock();
  arena* const a = find_victim(trim_pass);
  if (a == nullptr) {
    lock_.unlock();
    return false;
  }
  a->trim_pass = trim_pass;
  shelf& sh = shelves_[a->size_class];
  const std::size_t slot = slot_bytes(a->size_class);
  const auto per_block = static_cast<unsigned>(std::max<std::size_t>(1, block_bytes / slot));
  const bool blocks = reset_works_ && (trim_pass != 0 || guarded_free_ > options_.idle_slots);
  unsigned held = 0;
  for (unsigned begin = 0; begin < a->slots; begin += per_block) {
    bool all_free = blocks;
    bool worth_it = false;
    for (unsigned i = begin; i < begin + per_block; ++i) {
      all_free = all_free && arena::test(a->free, i);
      worth_it = worth_it || (arena::test(a->free, i) && arena::test(a->guarded, i));
    }
    if (!worth_it) continue;
    for (unsigned i = begin; i < begin + per_block; ++i) {
      const bool dirty = arena::test(a->dirty, i);
      if (!all_free && !dirty) continue;
      ++held;
      arena::set(busy, i);
      arena::clear(a->free, i);
      --a->free_slots;
      --free_count_;
      if (dirty) {
        arena::clear(a->dirty, i);
        --a->dirty_slots;
        --dirty_count_;
      } else if (arena::test(a->guarded, i)) {
        --a->guarded_free;
        --guarded_free_;
      }
      if (!all_free) continue;
      arena::set(whole, i);
      arena::clear(a->guarded, i);
      if (arena::test(a->mapped, i)) {
        arena::clear(a->mapped, i);
        --a->mapped_guards;
        --mapped_guards_;
      }
    }
  }
  if (a == sh.idle && held != 0) sh.idle = nullptr;
  if (a->linked) unlink(sh.partial, a);
  if (a != sh.idle && a->free_slots != 0) link(sh.partial, a, false);
  lock_.unlock();
  if (held == 0) return true;  // guards in blocks that are in use: they stay

  // Neighbours in one call; guards between them survive a discard.
  bool failed = false;
  for (unsigned i = 0; i < a->slots;) {
    if (!arena::test(busy, i)) {
      ++i;
      continue;
    }
    const bool block = arena::test(whole, i);
    unsigned end = i + 1;
    while (end < a->slots && arena::test(busy, end) && arena::test(whole, end) == block) ++end;
    void* const address = reinterpret_cast<void*>(a->slot(i));
    const std::size_t size = (end - i) * slot;
    os::discard(address, size);  // refused for locked memory: it stays, as its owner wished
    if (block) {
      if (os::reset(address, size) == 0) {
        name_arena(a->size_class, address, size);
      } else {
        // Out of mappings. The kernel may have unmapped the range before it found that out, so these
        // slots stay busy for ever; and it is not tried again.
        for (unsigned j = i; j < end; ++j) arena::clear(busy, j);
        failed = true;
      }
    }
    i = end;
  }

  arena* doomed = nullptr;
  lock_.lock();
  if (failed) reset_works_ = false;
  for (unsigned i = 0; i < a->slots; ++i) {
    if (arena::test(busy, i)) put_back(a->slot(i), false, doomed);
  }
  lock_.unlock();
  destroy_all(doomed);
  return true;
}

void stack_pool::trim() noexcept {
  arena* doomed = nullptr;
  lock_.lock();
  if (trimming_) {
    lock_.unlock();
    return;
  }
  trimming_ = true;
  if (++trim_passes_ == 0) ++trim_passes_;
  const std::uint32_t pass = trim_passes_;
  for (shelf& sh : shelves_) {
    if (sh.idle == nullptr) continue;
    forget(sh.idle);
    sh.idle->next = doomed;
    doomed = sh.idle;
    sh.idle = nullptr;
  }
  lock_.unlock();
  destroy_all(doomed);
  while (give_back_one(pass)) {
  }
  lock_.lock();
  trimming_ = false;
  lock_.unlock();
}

}  // namespace tuco::inline v1::task
