// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The channel: a ring of slots, a line of senders, a line of receivers, one lock.
///
/// Invariants, whenever the lock is free:
///   * Receivers in line  =>  count == 0 and no sender in line, but for waiters that have been
///     claimed already (deadline passed, other case of their select won) and those of one select
///     that waits in both lines.
///   * Senders in line    =>  count == capacity.
///   * closed             =>  both lines are empty, and stay so.
///
/// Not touched after the last wake-up or unlock of an operation: the handle may be the other side's,
/// which then destroys the channel.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <tuco/chan.hpp>
#include <tuco/detail/chan_core.hpp>

#include "base/spin_lock.hpp"
#include "sched/park.hpp"
#include "sync/wait_queue.hpp"

namespace tuco::inline v1::sync {

using detail::chan_node;
using detail::deliver_function;
using detail::element_type;

/// What a channel is a part of, if it is (a timer). It destroys the channel then.
struct channel_owner {
  /// No handle of the channel is left.
  void (*last_handle_gone)(channel_owner* self) noexcept;
};

struct alignas(64) channel : detail::chan_core {
  channel(const element_type& t, std::size_t slots, std::byte* first,
          channel_owner* part_of = nullptr) noexcept
      : value_size(t.size), capacity(slots), buffer(first), type(&t), owner(part_of) {}

  // -- guarded by `lock`; `closed` and `count` may be read without
  base::spin_lock lock;
  std::atomic<bool> closed{false};      ///< false -> true, once
  std::atomic<std::size_t> count{0};    ///< values in the buffer
  std::size_t head = 0;                 ///< slot of the oldest value
  std::size_t tail = 0;                 ///< slot for the next one

  // -- constant
  const std::size_t value_size;
  const std::size_t capacity;
  std::byte* const buffer;

  // -- guarded by `lock`; whether a line is empty may be asked without
  wait_list receivers;
  wait_list senders;

  const element_type* const type;       ///< constant
  channel_owner* const owner;           ///< constant

  [[nodiscard]] std::size_t size() const noexcept { return count.load(std::memory_order_relaxed); }
  void set_size(std::size_t n) noexcept {
    // release, as everything that the lock-free looks below read: a value that somebody sees in
    // the buffer has been put there.
    count.store(n, std::memory_order_release);
  }
  [[nodiscard]] std::byte* slot(std::size_t i) const noexcept { return buffer + i * value_size; }
  [[nodiscard]] std::size_t after(std::size_t i) const noexcept {
    return ++i == capacity ? 0 : i;
  }
};

/// Copies a value of plain bytes; the usual sizes without a call.
inline void copy_bytes(void* to, const void* from, std::size_t size) noexcept {
  // Compilers that know one of the places would warn of the sizes that do not occur there.
  asm("" : "+r"(to), "+r"(from));
  switch (size) {
    case 8: std::memcpy(to, from, 8); return;
    case 4: std::memcpy(to, from, 4); return;
    case 16: std::memcpy(to, from, 16); return;
    case 0: return;
    default: std::memcpy(to, from, size);
  }
}

enum class attempt : std::uint8_t { done, closed, would_block };

struct unlock_one {
  channel& c;
  void operator()() const noexcept { c.lock.unlock(); }
};

/// Gives the value at `source` to a receiver that was taken out of its line. No lock is held: the
/// receiver's place is ours alone until it is woken.
inline void hand_over(channel& c, chan_node& receiver, void* source) {
  if (receiver.deliver == nullptr) {
    copy_bytes(receiver.slot, source, c.value_size);
  } else {
    try {
      receiver.deliver(receiver.slot, source);
    } catch (...) {
      wake(receiver, wait_result::retry);
      throw;
    }
  }
  wake(receiver, wait_result::done);
}

/// Takes the value of a sender that was taken out of its line. No lock is held.
inline void take_over(channel& c, chan_node& sender, void* slot, deliver_function deliver) {
  if (deliver == nullptr) {
    copy_bytes(slot, sender.slot, c.value_size);
  } else {
    try {
      deliver(slot, sender.slot);
    } catch (...) {
      wake(sender, wait_result::retry);
      throw;
    }
  }
  wake(sender, wait_result::done);
}

/// Sends if that needs no waiting. Lock held; released by `unlock()` exactly once, unless the
/// answer is would_block.
template <class Unlock>
attempt try_send_locked(channel& c, void* source, Unlock unlock) {
  if (c.closed.load(std::memory_order_relaxed)) {
    unlock();
    return attempt::closed;
  }
  if (c.receivers.front() != nullptr) {
    if (wait_node* receiver = take_first(c.receivers)) {
      unlock();
      hand_over(c, static_cast<chan_node&>(*receiver), source);
      return attempt::done;
    }
  }
  const std::size_t n = c.size();
  if (n == c.capacity) return attempt::would_block;
  if (c.type->store == nullptr) {
    copy_bytes(c.slot(c.tail), source, c.value_size);
  } else {
    try {
      c.type->store(c.slot(c.tail), source);
    } catch (...) {
      unlock();
      throw;
    }
  }
  c.tail = c.after(c.tail);
  c.set_size(n + 1);
  unlock();
  return attempt::done;
}

/// A slot has just become free: the sender that has waited longest puts its value there. Lock held;
/// released. Never throws: a sender whose value cannot be moved tries again by itself and sees the
/// exception then; meanwhile the slot goes to the next, who would otherwise wait beside it.
template <class Unlock>
void refill(channel& c, std::size_t left, Unlock unlock) noexcept {
  wait_node* sender = c.senders.front() != nullptr ? take_first(c.senders) : nullptr;
  if (c.type->store == nullptr) {
    if (sender != nullptr) {
      copy_bytes(c.slot(c.tail), static_cast<chan_node*>(sender)->slot, c.value_size);
      c.tail = c.after(c.tail);
      ++left;
    }
    c.set_size(left);
    unlock();
    if (sender != nullptr) wake(*sender, wait_result::done);
    return;
  }
  sched::ready_list woken;
  for (bool stored = false; sender != nullptr; sender = stored ? nullptr : take_first(c.senders)) {
    try {
      c.type->store(c.slot(c.tail), static_cast<chan_node*>(sender)->slot);
      c.tail = c.after(c.tail);
      ++left;
      stored = true;
    } catch (...) {
    }
    sender->result = stored ? wait_result::done : wait_result::retry;
    woken.push_back(sender->g);
  }
  c.set_size(left);
  unlock();
  if (woken.head != nullptr) sched::ready_all(woken);
}

/// Receives if that needs no waiting. Lock held; released by `unlock()` exactly once, unless the
/// answer is would_block.
template <class Unlock>
attempt try_recv_locked(channel& c, void* slot, deliver_function deliver, Unlock unlock) {
  const std::size_t n = c.size();
  if (n != 0) {
    std::byte* const oldest = c.slot(c.head);
    if (deliver == nullptr) {
      copy_bytes(slot, oldest, c.value_size);
    } else {
      try {
        deliver(slot, oldest);
      } catch (...) {
        unlock();
        throw;
      }
    }
    if (c.type->destroy != nullptr) c.type->destroy(oldest);
    c.head = c.after(c.head);
    refill(c, n - 1, unlock);
    return attempt::done;
  }
  if (c.senders.front() != nullptr) {
    if (wait_node* sender = take_first(c.senders)) {  // capacity 0
      unlock();
      take_over(c, static_cast<chan_node&>(*sender), slot, deliver);
      return attempt::done;
    }
  }
  if (c.closed.load(std::memory_order_relaxed)) {
    unlock();
    return attempt::closed;
  }
  return attempt::would_block;
}

/// Whether a send would find the channel full, without the lock.
[[nodiscard]] inline bool looks_full(const channel& c) noexcept {
  if (c.capacity == 0) return c.receivers.empty();
  return c.count.load(std::memory_order_acquire) == c.capacity;
}

/// Whether a receive would find no value, without the lock.
[[nodiscard]] inline bool looks_empty(const channel& c) noexcept {
  if (c.capacity == 0) return c.senders.empty();
  return c.count.load(std::memory_order_acquire) == 0;
}

/// For the runtime's own timers, which run where no goroutine may be running: sends plain bytes if
/// there is room or a receiver, and leaves it to the caller to make the receiver runnable.
/// The caller is inside the runtime and holds no lock of it.
/// @return False if the channel is full or closed.
bool offer(detail::chan_core* core, const void* source, sched::ready_list& woken) noexcept;

}  // namespace tuco::inline v1::sync
