// SPDX-License-Identifier: Apache-2.0
#include "task/registry.hpp"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include "base/sanitizer.hpp"
#include "os/memory.hpp"

namespace tuco::inline v1::task {
namespace {

// Records are not constructed: a page of zeros is a page of records at rest. That is what makes the
// memory returnable, and what the reader of a core sees in pages that the core does not hold.
static_assert(static_cast<int>(goroutine_status::idle) == 0);
static_assert(static_cast<int>(wait_reason::none) == 0);

constexpr std::size_t directory_bytes = max_segments * sizeof(void*);

// Not destroyed: goroutines of a process that exits may still run.
union immortal {
  constexpr immortal() noexcept : all() {}
  ~immortal() {}
  registry all;
};
constinit immortal process_registry;

}  // namespace

registry& the_registry() noexcept { return process_registry.all; }

registry::~registry() {
  if (slabs_.load() == nullptr) return;
  const std::size_t segments = roots_.segment_count.load();
  for (std::size_t i = 0; i < segments; ++i) {
    base::lsan_no_root(roots_.segments.load()[i].load(), segment_bytes);
    os::release(roots_.segments.load()[i].load(), segment_bytes);
    delete[] slabs_.load()[i].load();
  }
  base::lsan_no_root(slabs_.load(), 2 * directory_bytes);
  os::release(slabs_.load(), 2 * directory_bytes);
}

// Under the lock. The directories: mapped and not in the object, where they would be 256 KiB of
// every program's file, and touched as far as they are used.
bool registry::open() noexcept {
  if (slabs_.load(std::memory_order_relaxed) != nullptr) return true;
  const os::mapping memory = os::reserve(2 * directory_bytes, os::page_size());
  if (!memory) return false;
  os::name_region(memory.address, 2 * directory_bytes, "tuco goroutine directory");
  base::lsan_root(memory.address, 2 * directory_bytes);
  auto* const bytes = static_cast<std::byte*>(memory.address);
  slabs_.store(reinterpret_cast<std::atomic<slab*>*>(bytes), std::memory_order_relaxed);
  roots_.segments.store(reinterpret_cast<std::atomic<std::byte*>*>(bytes + directory_bytes),
                        std::memory_order_release);
  return true;
}

// Under the lock. A segment more; its slabs count as returned, as they have no pages yet.
bool registry::grow() noexcept {
  const std::size_t number = roots_.segment_count.load(std::memory_order_relaxed);
  if (number == max_segments || !open()) return false;
  slab* const slabs = new (std::nothrow) slab[slabs_per_segment];
  if (slabs == nullptr) return false;
  const os::mapping memory = os::reserve(segment_bytes, segment_bytes);
  if (!memory) {
    delete[] slabs;
    return false;
  }
  os::refuse_huge_pages(memory.address, segment_bytes);
  os::name_region(memory.address, segment_bytes, "tuco goroutines");
  base::lsan_root(memory.address, segment_bytes);  // the closures of goroutines
  slabs_.load(std::memory_order_relaxed)[number].store(slabs, std::memory_order_relaxed);
  roots_.segments.load(std::memory_order_relaxed)[number].store(
      static_cast<std::byte*>(memory.address), std::memory_order_relaxed);
  // Last, and release: who sees the count sees the pointers.
  roots_.segment_count.store(number + 1, std::memory_order_release);
  // The lowest on top: records in use crowd at the low end.
  for (std::size_t i = slabs_per_segment; i-- > 0;) {
    slab& s = slabs[i];
    for (std::size_t k = 0; k < records_per_slab; ++k) {
      s.free[k / 64] |= std::uint64_t{1} << (k % 64);
    }
    s.free_count = static_cast<std::uint16_t>(records_per_slab);
    move(static_cast<std::uint32_t>(number * slabs_per_segment + i), place::returned);
  }
  return true;
}

registry::list& registry::list_of(place p) noexcept {
  return p == place::partial ? partial_ : p == place::idle ? idle_ : returned_;
}

// Under the lock: from the list that it is in to another. `full` and `going` are no lists.
void registry::move(std::uint32_t index, place to) noexcept {
  slab& s = slab_at(index);
  if (s.where != place::full && s.where != place::going) {
    list& l = list_of(s.where);
    (s.previous != none ? slab_at(s.previous).next : l.head) = s.next;
    if (s.next != none) slab_at(s.next).previous = s.previous;
    --l.count;
  }
  s.where = to;
  s.next = s.previous = none;
  if (to != place::full && to != place::going) {
    list& l = list_of(to);
    s.next = l.head;
    if (l.head != none) slab_at(l.head).previous = index;
    l.head = index;
    ++l.count;
  }
}

std::size_t registry::allocate(goroutine** records, std::size_t wanted) noexcept {
  std::size_t taken = 0;
  lock_.lock();
  while (taken < wanted) {
    std::uint32_t index = partial_.head;
    if (index == none) index = idle_.head;
    if (index == none) index = returned_.head;
    if (index == none) {
      if (!grow()) break;
      continue;
    }
    slab& s = slab_at(index);
    // Before a record of it can be in use: a reader that skips the slab skips no goroutine.
    s.alive.store(true, std::memory_order_release);
    for (std::size_t w = 0; w < words; ++w) {
      while (s.free[w] != 0 && taken < wanted) {
        const auto k = w * 64 + static_cast<std::size_t>(std::countr_zero(s.free[w]));
        s.free[w] &= s.free[w] - 1;
        --s.free_count;
        auto* const g = reinterpret_cast<goroutine*>(memory_of(index) + k * sizeof(goroutine));
        g->slab_index = index;
        records[taken++] = g;
      }
    }
    const place now = s.free_count == 0 ? place::full : place::partial;
    if (s.where != now) {
      move(index, now);
      never_needed_ = std::min(never_needed_, idle_.count);
    }
  }
  in_use_.store(in_use_.load(std::memory_order_relaxed) + taken, std::memory_order_relaxed);
  lock_.unlock();
  // Caches hand out the last one first; neighbours then come in the order of their addresses.
  std::reverse(records, records + taken);
  return taken;
}

void registry::release(goroutine* const* records, std::size_t count) noexcept {
  lock_.lock();
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t index = records[i]->slab_index;
    slab& s = slab_at(index);
    const auto offset =
        static_cast<std::size_t>(reinterpret_cast<std::byte*>(records[i]) - memory_of(index));
    const std::size_t k = offset / sizeof(goroutine);
    s.free[k / 64] |= std::uint64_t{1} << (k % 64);
    ++s.free_count;
    const place now = s.free_count == records_per_slab ? place::idle : place::partial;
    if (s.where != now) move(index, now);
  }
  in_use_.store(in_use_.load(std::memory_order_relaxed) - count, std::memory_order_relaxed);
  lock_.unlock();
}

// Gives back one slab when more than `keep` are idle.
bool registry::discard_one(std::size_t keep) noexcept {
  lock_.lock();
  if (idle_.count <= keep) {
    lock_.unlock();
    return false;
  }
  const std::uint32_t index = idle_.head;
  move(index, place::going);  // nobody can take from it now
  slab_at(index).alive.store(false, std::memory_order_relaxed);
  lock_.unlock();

  base::full_fence();                                                                     // G2
  const bool gone = readings_.load(std::memory_order_acquire) == 0 &&                     // G3
                    os::discard(memory_of(index), slab_bytes) == 0;
  lock_.lock();
  // Refused: a reader is at work, or the memory is locked. A later call tries again.
  move(index, gone ? place::returned : place::idle);
  lock_.unlock();
  return gone;
}

void registry::tidy() noexcept {
  lock_.lock();
  std::size_t unneeded = std::exchange(never_needed_, idle_.count);
  lock_.unlock();
  for (; unneeded > idle_slabs_kept && discard_one(idle_slabs_kept); --unneeded) {
  }
}

void registry::trim() noexcept {
  while (discard_one(0)) {
  }
}

goroutine* registry::find(std::uint64_t id) const noexcept {
  goroutine* found = nullptr;
  for_each([&](goroutine& g) {
    if (g.id.load(std::memory_order_acquire) == id) found = &g;
    return found == nullptr;
  });
  return found;
}

registry::status_counts registry::count_by_status() const noexcept {
  status_counts counts{};
  for_each([&](goroutine& g) {
    const auto status = static_cast<std::size_t>(g.status.load(std::memory_order_relaxed));
    if (status < counts.size()) ++counts[status];
  });
  return counts;
}

registry_statistics registry::statistics() const noexcept {
  lock_.lock();
  registry_statistics result;
  result.slabs = roots_.segment_count.load(std::memory_order_relaxed) * slabs_per_segment;
  result.free_records = result.slabs * records_per_slab - in_use();
  result.idle_slabs = idle_.count;
  result.returned_slabs = returned_.count;
  lock_.unlock();
  return result;
}

void goroutine_cache::spill() noexcept {
  // The older half leaves: the younger one is warmer.
  const base::unseen_by_tsan unseen;
  registry_->release(records_.data(), capacity / 2);
  std::copy(records_.begin() + capacity / 2, records_.end(), records_.begin());
  count_ = capacity / 2;
}

void goroutine_cache::drain() noexcept {
  if (count_ != 0) registry_->release(records_.data(), count_);
  count_ = 0;
}

}  // namespace tuco::inline v1::task
