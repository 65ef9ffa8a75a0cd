// SPDX-License-Identifier: Apache-2.0
// select: the first of several channel operations.
//
//   1  one by one     In random order, each channel by itself: is this case ready? Usually one is,
//                     and then the select has cost one lock.
//   2  all together   Lock all channels, look again in the same order. Only now "none is ready" is
//                     a fact: default and an expired deadline are decided here.
//   3  wait           A node in the line of each channel, all with the same claim word, one park;
//                     its commit action unlocks the channels.
//   4  leave          The case that won is known from the claim; take the other nodes out.
//
// Locks are taken in order of the channels' addresses, each once, so that two selects cannot wait
// for each other.
//
// The commit action walks over the cases, which lie on the parked stack, while the first channels
// that it unlocked may already have woken that goroutine. They stay valid until the last unlock:
//
//   commit                                    the goroutine, woken early
//   C1 unlock channel 1 ... n-1               G1 lock every channel but the one that won, in turn
//   C2 unlock channel n; touches nothing      G2 return from select: the cases are gone
//
// Claim      C1 never reads a case after G2.
// Proof      Let L be the channel that is unlocked last. If L did not win, G1 waits for its lock,
//            that is for C2. If L did win, its lock was free, that is after C2. If the deadline won,
//            G1 locks every channel, L too.
// Test       SelectTest.CommitRacesWithWakers (run under ASan).
// Source     Go, runtime/select.go, selparkcommit.

#include <tuco/select.hpp>

#include <atomic>

#include "base/cache_line.hpp"
#include "os/clock.hpp"
#include "sync/channel.hpp"
#include "sync/misuse.hpp"

namespace tuco::inline v1::sync {
namespace {

using detail::select_entry;
using detail::select_kind;

TUCO_UNSEEN_BY_TSAN channel& of(const select_entry& e) noexcept { return *static_cast<channel*>(e.channel); }

/// Randomness for the poll order: a few generators without locks, found by the goroutine's address.
/// Two goroutines that hit one at a time draw the same number, which does no harm.
class poll_random {
 public:
  explicit poll_random(const sched::goroutine* g) noexcept
      : cell_(cells[(reinterpret_cast<std::uintptr_t>(g) >> 9) % cell_count]),
        state_(cell_.state.load(std::memory_order_relaxed) ^
               static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(g) >> 6)) {
    if (state_ == 0) state_ = 0x9e3779b9u;
  }
  ~poll_random() { cell_.state.store(state_, std::memory_order_relaxed); }
  poll_random(const poll_random&) = delete;
  poll_random& operator=(const poll_random&) = delete;

  std::uint32_t below(std::uint32_t bound) noexcept {
    state_ ^= state_ << 13;  // Marsaglia, "Xorshift RNGs" (2003)
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return static_cast<std::uint32_t>((std::uint64_t{state_ * 0x9e3779b1u} * bound) >> 32);
  }

 private:
  static constexpr std::size_t cell_count = 32;
  struct alignas(base::cache_line) cell {
    std::atomic<std::uint32_t> state{0x6c078965u};
  };
  static cell cells[cell_count];

  cell& cell_;
  std::uint32_t state_;
};

poll_random::cell poll_random::cells[poll_random::cell_count];

/// The cases of one select and the two orders over those that have a channel.
class selection {
 public:
  selection(select_entry* entries, std::size_t count) noexcept : entries_(entries), count_(count) {}

  /// Random poll order over the live cases.
  void shuffle(const sched::goroutine* self) noexcept {
    poll_random random(self);
    live_ = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      entries_[i].node.result = wait_result::none;
      if (entries_[i].channel == nullptr || entries_[i].kind == select_kind::none) continue;
      const std::uint32_t n = live_++;
      const std::uint32_t j = n == 0 ? 0 : random.below(n + 1);
      entries_[n].poll = entries_[j].poll;
      entries_[j].poll = static_cast<std::uint32_t>(i);
    }
  }

  /// Lock order: by address.
  void sort() noexcept {
    for (std::uint32_t k = 0; k < live_; ++k) entries_[k].lock = entries_[k].poll;
    if (live_ <= 12) {
      for (std::uint32_t k = 1; k < live_; ++k) {
        const std::uint32_t x = entries_[k].lock;
        std::uint32_t j = k;
        for (; j > 0 && before(x, entries_[j - 1].lock); --j) {
          entries_[j].lock = entries_[j - 1].lock;
        }
        entries_[j].lock = x;
      }
      return;
    }
    // Heap sort: the order is scattered over the cases, and the stack may be small.
    for (std::uint32_t k = live_ / 2; k-- > 0;) sift(k, live_);
    for (std::uint32_t end = live_; end-- > 1;) {
      swap_order(0, end);
      sift(0, end);
    }
  }

  void lock_all() noexcept {
    channel* last = nullptr;
    for (std::uint32_t k = 0; k < live_; ++k) {
      channel& c = of(in_lock_order(k));
      if (&c != last) c.lock.lock();
      last = &c;
    }
  }

  /// See the head of the file: touches nothing after the last unlock.
  TUCO_UNSEEN_BY_TSAN void unlock_all() const noexcept {
    channel* previous = nullptr;
    const std::uint32_t n = live_;
    for (std::uint32_t k = 0; k < n; ++k) {
      channel* const c = &of(in_lock_order(k));
      if (c == previous) continue;
      if (previous != nullptr) previous->lock.unlock();
      previous = c;
    }
    if (previous != nullptr) previous->lock.unlock();
  }

  void enqueue_all(sched::goroutine* self) noexcept {
    sched::arm_claim(self);
    for (std::uint32_t k = 0; k < live_; ++k) {
      const std::uint32_t i = entries_[k].lock;
      chan_node& node = entries_[i].node;
      node.g = self;
      node.claim = claim_of(i);
      line_of(entries_[i]).push_back(node);
      of(entries_[i]).lock.pass_to_commit_action();
    }
  }

  /// Takes the nodes out of all lines but the winner's, where it is no more. `winner` may be npos.
  void dequeue_losers(std::size_t winner) noexcept {
    for (std::uint32_t k = 0; k < live_; ++k) {
      const std::uint32_t i = entries_[k].lock;
      if (i == winner) continue;
      channel& c = of(entries_[i]);
      c.lock.lock();
      line_of(entries_[i]).remove(entries_[i].node);
      c.lock.unlock();
    }
  }

  [[nodiscard]] std::uint32_t live() const noexcept { return live_; }
  [[nodiscard]] std::uint32_t polled(std::uint32_t k) const noexcept { return entries_[k].poll; }
  [[nodiscard]] select_entry& operator[](std::size_t i) const noexcept { return entries_[i]; }

  /// The one channel of all cases, or null if there are several: what a dump can name.
  [[nodiscard]] const void* object() const noexcept {
    if (live_ == 0) return nullptr;
    const channel* first = &of(in_lock_order(0));
    return first == &of(in_lock_order(live_ - 1)) ? first : nullptr;
  }

  static constexpr std::size_t npos = SIZE_MAX;
  static std::uint32_t claim_of(std::uint32_t i) noexcept { return 1 + i; }

 private:
  static wait_list& line_of(select_entry& e) noexcept {
    return e.kind == select_kind::send ? of(e).senders : of(e).receivers;
  }
  [[nodiscard]] TUCO_UNSEEN_BY_TSAN const select_entry& in_lock_order(std::uint32_t k) const noexcept {
    return entries_[entries_[k].lock];
  }
  [[nodiscard]] bool before(std::uint32_t a, std::uint32_t b) const noexcept {
    return reinterpret_cast<std::uintptr_t>(entries_[a].channel) <
           reinterpret_cast<std::uintptr_t>(entries_[b].channel);
  }
  void swap_order(std::uint32_t a, std::uint32_t b) noexcept {
    const std::uint32_t x = entries_[a].lock;
    entries_[a].lock = entries_[b].lock;
    entries_[b].lock = x;
  }
  void sift(std::uint32_t root, std::uint32_t end) noexcept {
    for (std::uint32_t child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && before(entries_[child].lock, entries_[child + 1].lock)) ++child;
      if (!before(entries_[root].lock, entries_[child].lock)) return;
      swap_order(root, child);
    }
  }

  select_entry* entries_;
  std::size_t count_;
  std::uint32_t live_ = 0;
};

TUCO_UNSEEN_BY_TSAN bool unlock_selection(sched::goroutine*, void* s) noexcept {
  static_cast<const selection*>(s)->unlock_all();
  return true;
}

bool stay_parked(sched::goroutine*, void*) noexcept { return true; }

[[nodiscard]] bool looks_ready(const select_entry& e) noexcept {
  const channel& c = of(e);
  if (c.closed.load(std::memory_order_acquire)) return true;
  return e.kind == select_kind::send ? !looks_full(c) || !c.receivers.empty()
                                     : !looks_empty(c) || !c.senders.empty();
}

template <class Unlock>
attempt try_entry(const select_entry& e, Unlock unlock) {
  channel& c = of(e);
  return e.kind == select_kind::send
             ? try_send_locked(c, e.node.slot, unlock)
             : try_recv_locked(c, e.node.slot, e.node.deliver, unlock);
}

/// One round: the index of the case that happened, its result in the node; or select_default,
/// select_timed_out; or `again`, if the other side could not move its value.
constexpr std::ptrdiff_t again = -3;

std::ptrdiff_t run_once(selection& cases, bool has_default, std::int64_t deadline) {
  sched::runtime_section section;
  cases.shuffle(section.self());

  const auto happened = [&](std::uint32_t i, attempt result) {
    cases[i].node.result = result == attempt::done ? wait_result::done : wait_result::closed;
    return static_cast<std::ptrdiff_t>(i);
  };

  for (std::uint32_t k = 0; k < cases.live(); ++k) {
    const std::uint32_t i = cases.polled(k);
    if (!looks_ready(cases[i])) continue;
    channel& c = of(cases[i]);
    c.lock.lock();
    const attempt result = try_entry(cases[i], unlock_one{c});
    if (result != attempt::would_block) return happened(i, result);
    c.lock.unlock();
  }

  cases.sort();
  cases.lock_all();
  for (std::uint32_t k = 0; k < cases.live(); ++k) {
    const std::uint32_t i = cases.polled(k);
    const attempt result = try_entry(cases[i], [&] { cases.unlock_all(); });
    if (result != attempt::would_block) return happened(i, result);
  }
  if (has_default) {
    cases.unlock_all();
    return detail::select_default;
  }
  if (deadline != detail::no_deadline && deadline <= os::steady_now_ns()) {
    cases.unlock_all();
    return detail::select_timed_out;
  }

  cases.enqueue_all(section.self());
  const std::uint32_t claim = sched::park_until(deadline, &unlock_selection, &cases,
                                                wait_reason::select, cases.object());
  if (claim == sched::claimed_by_deadline) {
    cases.dequeue_losers(selection::npos);
    return detail::select_timed_out;
  }
  const std::uint32_t winner = claim - 1;
  cases.dequeue_losers(winner);
  if (cases[winner].node.result == wait_result::retry) return again;
  return static_cast<std::ptrdiff_t>(winner);
}

}  // namespace
}  // namespace tuco::inline v1::sync

namespace tuco::inline v1::detail {

std::ptrdiff_t select_run(select_entry* entries, std::size_t count, bool has_default,
                          std::int64_t deadline) {
  if (!has_default && deadline == no_deadline) {
    bool any = false;
    for (std::size_t i = 0; i < count; ++i) any = any || entries[i].channel != nullptr;
    if (!any) select_forever();
  }
  sync::selection cases(entries, count);
  std::ptrdiff_t result;
  do {
    result = sync::run_once(cases, has_default, deadline);
  } while (result == sync::again);
  if (result >= 0 && entries[result].kind == select_kind::send &&
      entries[result].node.result == wait_result::closed) {
    sync::throw_closed("send on closed channel");
  }
  return result;
}

void select_forever() {
  sched::runtime_section section;
  for (;;) {
    sched::park(&sync::stay_parked, nullptr, wait_reason::select_no_cases, nullptr);
  }
}

}  // namespace tuco::inline v1::detail

namespace tuco::inline v1 {

std::ptrdiff_t select_case::run(std::span<select_case> cases, bool has_default,
                                std::int64_t deadline) {
  static_assert(sizeof(select_case) == sizeof(detail::select_entry));
  detail::select_entry* const entries = cases.empty() ? nullptr : &cases.front().entry_;
  const std::ptrdiff_t result =
      detail::select_run(entries, cases.size(), has_default, deadline);
  if (result >= 0) {
    detail::select_entry& e = entries[result];
    const bool drained = e.node.result == detail::wait_result::closed;
    if (drained && e.kind == detail::select_kind::recv) e.node.deliver(e.node.slot, nullptr);
  }
  return result;
}

}  // namespace tuco::inline v1
