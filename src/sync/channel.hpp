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

/// Copies a value of plain bytes; the usual sizes without a call.
[[gnu::always_inline]] inline void copy_bytes(void* to, const void* from, std::size_t size) noexcept {
  // Compilers that know one of the places would warn of the sizes that do not occur there.
  asm("" : "+r"(to), "+r"(from));
  if (size == 8) [[likely]] std::memcpy(to, from, 8);
  else if (size == 4) std::memcpy(to, from, 4);
  else if (size == 16) std::memcpy(to, from, 16);
  else if (size != 0) std::memcpy(to, from, size);
}

/// Sizes that copy_few_bytes() knows.
[[nodiscard]] constexpr bool is_few_bytes(std::size_t size) noexcept {
  return size == 1 || size == 4 || (size % 8 == 0 && size <= 64);
}

/// The same with no call at all, so that the caller needs to save no registers.
[[gnu::always_inline]] inline void copy_few_bytes(void* to, const void* from,
                                                  std::size_t size) noexcept {
  asm("" : "+r"(to), "+r"(from));
  if (size == 8) [[likely]] {
    std::memcpy(to, from, 8);
  } else if (size == 4) {
    std::memcpy(to, from, 4);
  } else if (size == 1) {
    std::memcpy(to, from, 1);
  } else {
    auto* d = static_cast<std::byte*>(to);
    auto* s = static_cast<const std::byte*>(from);
    for (std::size_t i = 0; i < size; i += 8) {
      std::memcpy(d + i, s + i, 8);
      asm("" : "+r"(d));  // or compilers make a call to memcpy() of the loop
    }
  }
}

struct alignas(64) channel : detail::chan_core {
  channel(const element_type& t, std::size_t slots, std::byte* first,
          channel_owner* part_of = nullptr) noexcept
      : plain_buffer(slots != 0 && t.store == nullptr && t.destroy == nullptr && is_few_bytes(t.size)),
        value_size(t.size), capacity(slots), buffer(first), type(&t), owner(part_of) {}

  // -- the first line: all that an operation on a buffer touches which is neither full nor empty

  // Guarded by `lock`; `closed` and `count` may be read without.
  base::spin_lock lock;
  std::atomic<bool> closed{false};      ///< false -> true, once
  const bool plain_buffer;              ///< constant: there is a buffer, and copy_few_bytes() serves it
  std::atomic<std::size_t> count{0};    ///< values in the buffer
  std::size_t head = 0;                 ///< slot of the oldest value
  std::size_t tail = 0;                 ///< slot for the next one
  // Constant.
  const std::size_t value_size;
  const std::size_t capacity;
  std::byte* const buffer;

  // -- the second: guarded by `lock`; whether a line is empty may be asked without
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

enum class attempt : std::uint8_t { done, closed, would_block };

struct unlock_one {
  channel& c;
  void operator()() const noexcept { c.lock.unlock(); }
};

/// `deliver(slot, source)` for a waiter that was taken out: it is woken either way.
void deliver_and_wake(chan_node& waiter, void* slot, void* source, deliver_function deliver);

/// Gives the value at `source` to a receiver that was taken out of its line. No lock is held: the
/// receiver's place is ours alone until it is woken.
[[gnu::always_inline]] inline void hand_over(channel& c, chan_node& receiver, void* source) {
  if (receiver.deliver != nullptr) [[unlikely]] {
    return deliver_and_wake(receiver, receiver.slot, source, receiver.deliver);
  }
  copy_bytes(receiver.slot, source, c.value_size);
  wake(receiver, wait_result::done);
}

/// Takes the value of a sender that was taken out of its line. No lock is held.
[[gnu::always_inline]] inline void take_over(channel& c, chan_node& sender, void* slot,
                                             deliver_function deliver) {
  if (deliver != nullptr) [[unlikely]] return deliver_and_wake(sender, slot, sender.slot, deliver);
  copy_bytes(slot, sender.slot, c.value_size);
  wake(sender, wait_result::done);
}

/// Sends if that needs no waiting. Lock held; released by `unlock()` exactly once, unless the
/// answer is would_block.
template <class Unlock>
[[gnu::always_inline]] inline attempt try_send_locked(channel& c, void* source, Unlock unlock) {
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
[[gnu::always_inline]] inline attempt try_recv_locked(channel& c, void* slot, deliver_function deliver, Unlock unlock) {
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

// Without a runtime_section.
//
// Streaming through a buffer that is neither full nor empty wakes nobody and waits for nobody: it
// touches the channel alone, no processor, no queue. All that a section would protect is missing, so
// these two do without one; what is left is the lock and a copy, without a call. They give up, having
// changed nothing, where anything else is to be done, waiting for the lock included.
//
//   Taken away  The monitor may take the processor meanwhile, as from any code outside the runtime. The
//               lock belongs to no processor; its holder is a running thread, and the kernel brings it
//               back as it does one that it has preempted inside a section.
//   Asked       Who never enters a section never answers the monitor. So the word is looked at, as a
//               section would, and what it asks is answered there.
//   Waiters     Live receivers in line mean count == 0, senders count == capacity (head of the file;
//               a select that waits in both lines has no buffer). So a line is looked at only then, and
//               the second cache line is left alone otherwise.

[[gnu::always_inline]] inline bool send_outside(channel& c, const void* source) noexcept {
  if (!c.plain_buffer || sched::entry_has_a_question()) [[unlikely]] return false;
  if (!c.lock.try_lock()) [[unlikely]] return false;
  const std::size_t n = c.size();
  if (n == c.capacity || c.closed.load(std::memory_order_relaxed) ||
      (n == 0 && c.receivers.front() != nullptr)) [[unlikely]] {
    c.lock.unlock();
    return false;
  }
  copy_few_bytes(c.slot(c.tail), source, c.value_size);
  c.tail = c.after(c.tail);
  c.set_size(n + 1);
  c.lock.unlock();
  return true;
}

[[gnu::always_inline]] inline bool recv_outside(channel& c, void* slot,
                                                deliver_function deliver) noexcept {
  if (deliver != nullptr || !c.plain_buffer || sched::entry_has_a_question()) [[unlikely]] {
    return false;
  }
  if (!c.lock.try_lock()) [[unlikely]] return false;
  const std::size_t n = c.size();
  if (n == 0 || (n == c.capacity && c.senders.front() != nullptr)) [[unlikely]] {
    c.lock.unlock();
    return false;
  }
  copy_few_bytes(slot, c.slot(c.head), c.value_size);
  c.head = c.after(c.head);
  c.set_size(n - 1);
  c.lock.unlock();
  return true;
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
