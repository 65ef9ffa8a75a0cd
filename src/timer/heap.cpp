// SPDX-License-Identifier: Apache-2.0
#include "timer/heap.hpp"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <functional>
#include <mutex>

#include "base/sanitizer.hpp"
#include "task/claim.hpp"

namespace tuco::inline v1::timers {

heap::~heap() { std::free(slots_); }

bool heap::add(entry& e) noexcept {
  std::scoped_lock guard(lock_);
  insert(e, order_++);
  return publish();
}

remove_result heap::remove(entry& e) noexcept {
  for (;;) {
    // Acquire: whoever took the entry out (release below) is done with it.
    heap* h = e.place.load(std::memory_order_acquire);
    if (h == nullptr) return remove_result::not_there;
    if (h == firing()) return remove_result::firing;
    std::scoped_lock guard(h->lock_);
    // It may have expired or moved between the load and the lock; under the lock it can do neither.
    if (e.place.load(std::memory_order_relaxed) != h) continue;
    h->unlink(e);
    h->publish();
    e.place.store(nullptr, std::memory_order_release);
    return remove_result::removed;
  }
}

void heap::finish(entry& e) noexcept {
  // Not a plain store: the owner may have added the entry again.
  heap* expected = firing();
  e.place.compare_exchange_strong(expected, nullptr, std::memory_order_release,
                                  std::memory_order_relaxed);
}

std::size_t heap::run_due(std::int64_t now_ns, task::ready_list& out, std::size_t limit) noexcept {
  std::size_t expired = 0;
  while (expired < limit && next() <= now_ns) {
    const std::size_t before_batch = expired;
    entry* fired = nullptr;
    entry::fire_function fire = nullptr;
    {
      std::scoped_lock guard(lock_);
      const std::size_t end = expired + std::min(batch, limit - expired);
      while (expired < end && fired == nullptr) {
        const slot s = earliest();
        if (s.when_ns > now_ns || s.when_ns == INT64_MAX) break;
        entry* e = s.e;
        unlink(*e);
        ++expired;
        if (count_ != 0) __builtin_prefetch(slots_[0].e, 1);
        if (task::goroutine* g = e->g; g != nullptr) {
          // The claim comes before the release store. The other way round, a goroutine that was
          // claimed by somebody else could return from remove(), arm its claim for another wait, and
          // then be hit by this deadline.
          const bool won = task::try_claim(g, task::claimed_by_deadline);
          e->place.store(nullptr, std::memory_order_release);
          if (won) out.push_back(g);
        } else {
          // One at a time, so that B keeps its place in the order among A.
          fired = e;
          fire = e->fire;
          e->place.store(firing(), std::memory_order_relaxed);
        }
      }
      publish();
    }
    if (fired != nullptr) fire(fired, now_ns, out);
    if (expired == before_batch) break;
  }
  return expired;
}

bool heap::merge_into(heap& other) noexcept {
  assert(this != &other);
  const bool this_first = std::less<>{}(this, &other);
  std::scoped_lock first((this_first ? this : &other)->lock_);
  std::scoped_lock second((this_first ? &other : this)->lock_);

  // Orders are kept: entries of one heap stay in their order, those of two heaps never had one.
  for (std::size_t i = 0; i < count_; ++i) other.insert(*slots_[i].e, slots_[i].order);
  for (entry* e = overflow_; e != nullptr;) {
    entry* following = e->next_overflow;
    other.insert(*e, e->order);
    e = following;
  }
  other.order_ = std::max(other.order_, order_);
  const base::unseen_by_tsan unseen;
  std::free(slots_);
  slots_ = nullptr;
  count_ = 0;
  capacity_ = 0;
  overflow_ = nullptr;
  size_.store(0, std::memory_order_relaxed);
  publish();
  return other.publish();
}

void heap::drop_sleepers() noexcept {
  std::scoped_lock guard(lock_);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    const slot s = slots_[i];
    if (s.e->g != nullptr) s.e->place.store(nullptr, std::memory_order_release);
    else sift_up(kept++, s);  // writes no further than `kept`, which is at most i
  }
  count_ = kept;
  for (entry** link = &overflow_; *link != nullptr;) {
    entry* e = *link;
    if (e->g != nullptr) {
      *link = e->next_overflow;
      e->place.store(nullptr, std::memory_order_release);
    } else {
      link = &e->next_overflow;
      ++kept;
    }
  }
  size_.store(kept, std::memory_order_relaxed);
  take_in_overflow();
  shrink_if_sparse();
  publish();
}

std::size_t heap::memory() noexcept {
  std::scoped_lock guard(lock_);
  return capacity_ * sizeof(slot);
}

void heap::insert(entry& e, std::uint64_t order) noexcept {
  assert(e.place.load(std::memory_order_relaxed) != this);
  e.order = order;
  size_.store(size_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (count_ < capacity_ || grow()) {
    sift_up(count_++, {e.when_ns, order, &e});
    take_in_overflow();  // memory came back
  } else {
    e.index = in_overflow;
    e.next_overflow = overflow_;
    overflow_ = &e;
  }
  e.place.store(this, std::memory_order_relaxed);
}

void heap::take_in_overflow() noexcept {
  while (overflow_ != nullptr && count_ < capacity_) {
    entry* moved = overflow_;
    overflow_ = moved->next_overflow;
    sift_up(count_++, {moved->when_ns, moved->order, moved});
  }
}

void heap::unlink(entry& e) noexcept {
  size_.store(size_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  if (e.index == in_overflow) {
    entry** link = &overflow_;
    while (*link != &e) link = &(*link)->next_overflow;
    *link = e.next_overflow;
    return;
  }

  // The hole is filled by an entry of the list, if there is one: it must be empty unless the array
  // is full. Otherwise by the last of the array.
  slot filler;
  if (overflow_ != nullptr) {
    entry* moved = overflow_;
    overflow_ = moved->next_overflow;
    filler = {moved->when_ns, moved->order, moved};
  } else {
    filler = slots_[--count_];
    if (e.index == count_) {
      shrink_if_sparse();
      return;
    }
  }
  const std::size_t hole = e.index;
  if (hole != 0 && before(filler, slots_[(hole - 1) / 4])) {
    sift_up(hole, filler);
  } else {
    sift_down(hole, filler);
  }
  shrink_if_sparse();
}

heap::slot heap::earliest() const noexcept {
  slot best = count_ != 0 ? slots_[0] : slot{};
  for (entry* e = overflow_; e != nullptr; e = e->next_overflow) {
    const slot s{e->when_ns, e->order, e};
    if (best.e == nullptr || before(s, best)) best = s;
  }
  return best;
}

void heap::place_at(std::size_t i, const slot& s) noexcept {
  slots_[i] = s;
  s.e->index = i;
}

void heap::sift_up(std::size_t i, slot s) noexcept {
  while (i != 0) {
    const std::size_t parent = (i - 1) / 4;
    if (!before(s, slots_[parent])) break;
    place_at(i, slots_[parent]);
    i = parent;
  }
  place_at(i, s);
}

void heap::sift_down(std::size_t i, slot s) noexcept {
  for (;;) {
    const std::size_t first = 4 * i + 1;
    if (first >= count_) break;
    std::size_t least = first;
    const std::size_t end = std::min(first + 4, count_);
    for (std::size_t child = first + 1; child < end; ++child) {
      if (before(slots_[child], slots_[least])) least = child;
    }
    if (!before(slots_[least], s)) break;
    place_at(i, slots_[least]);
    i = least;
  }
  place_at(i, s);
}

bool heap::grow() noexcept {
  const std::size_t wanted =
      std::min(array_limit_, capacity_ == 0 ? first_capacity : 2 * capacity_);
  if (wanted <= capacity_ || wanted > SIZE_MAX / sizeof(slot)) return false;
  // realloc, not new: the C library moves large blocks by remapping pages. A copy of 24 MB with the
  // lock held would be a pause that everybody on this processor feels.
  const base::unseen_by_tsan unseen;
  auto* bigger = static_cast<slot*>(std::realloc(slots_, wanted * sizeof(slot)));
  if (bigger == nullptr) return false;
  slots_ = bigger;
  capacity_ = wanted;
  return true;
}

void heap::shrink_if_sparse() noexcept {
  // An eighth, then a quarter: between a shrinking and the next change of size lie as many calls as
  // there are entries.
  if (capacity_ <= 16 * first_capacity || count_ >= capacity_ / 8) [[likely]] return;
  const std::size_t wanted = capacity_ / 4;
  const base::unseen_by_tsan unseen;
  auto* smaller = static_cast<slot*>(std::realloc(slots_, wanted * sizeof(slot)));
  if (smaller == nullptr) return;
  slots_ = smaller;
  capacity_ = wanted;
}

/// @return True when the earliest deadline changed.
bool heap::publish() noexcept {
  const std::int64_t when = earliest().when_ns;
  // Not stored when equal: other processors keep the line in their caches.
  if (next_.load(std::memory_order_relaxed) == when) return false;
  next_.store(when, std::memory_order_relaxed);
  return true;
}

}  // namespace tuco::inline v1::timers
