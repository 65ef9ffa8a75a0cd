// SPDX-License-Identifier: Apache-2.0
#include "sync/channel.hpp"

#include <limits>
#include <new>

#include "os/clock.hpp"
#include "sync/misuse.hpp"

namespace tuco::inline v1::sync {
namespace {

constexpr const char* send_on_closed = "send on closed channel";

channel& of(detail::chan_core* core) noexcept { return *static_cast<channel*>(core); }
const channel& of(const detail::chan_core* core) noexcept {
  return *static_cast<const channel*>(core);
}

bool unlock_channel(sched::goroutine*, void* c) noexcept {
  static_cast<channel*>(c)->lock.unlock();
  return true;
}

bool stay_parked(sched::goroutine*, void*) noexcept { return true; }

/// The nil channel: nobody will ever end this wait ...
[[noreturn, gnu::noinline, gnu::cold]] void wait_forever_on_nil(wait_reason reason) noexcept {
  sched::runtime_section section;
  for (;;) sched::park(&stay_parked, nullptr, reason, nullptr);
}

/// ... but a deadline may.
void wait_on_nil(wait_reason reason, std::int64_t deadline) noexcept {
  if (deadline == detail::no_deadline) wait_forever_on_nil(reason);
  if (deadline <= os::steady_now_ns()) return;
  sched::runtime_section section;
  sched::arm_claim(section.self());
  sched::park_until(deadline, &stay_parked, nullptr, reason, nullptr);
}

constexpr std::uint32_t claimed_by_channel = 1;

/// Waits in `line`. Inside the runtime, lock held; it is released. Apart from the operations, which seldom
/// come here, so that they keep their registers.
[[gnu::noinline]] wait_result wait_in_line(channel& c, wait_list& line, sched::goroutine* self,
                                           void* slot, deliver_function deliver, wait_reason reason) {
  chan_node node;
  node.g = self;
  node.slot = slot;
  node.deliver = deliver;
  line.push_back(node);
  c.lock.pass_to_commit_action();
  sched::park(&unlock_channel, &c, reason, &c);
  // Whoever took the node out has done all the work: `c` may be gone.
  return node.result;
}

/// The same until `deadline`: `none` when that has passed.
[[gnu::noinline]] wait_result wait_in_line_until(channel& c, wait_list& line, sched::goroutine* self,
                                                 void* slot, deliver_function deliver,
                                                 wait_reason reason, std::int64_t deadline) {
  if (deadline <= os::steady_now_ns()) {
    c.lock.unlock();
    return wait_result::none;
  }
  chan_node node;
  node.g = self;
  node.slot = slot;
  node.deliver = deliver;
  node.claim = claimed_by_channel;
  sched::arm_claim(self);
  line.push_back(node);
  c.lock.pass_to_commit_action();
  if (sched::park_until(deadline, &unlock_channel, &c, reason, &c) == claimed_by_channel) {
    return node.result;
  }
  c.lock.lock();
  line.remove(node);
  c.lock.unlock();
  return wait_result::none;
}

enum class direction : bool { send, receive };

/// Returns would_block only when `deadline` has passed. One function for each direction and use, with all
/// of it inside: what is called is the waiting.
template <direction Direction>
[[gnu::always_inline]] inline attempt operate(channel& c, void* slot, deliver_function deliver,
                                              std::int64_t deadline) {
  constexpr bool sends = Direction == direction::send;
  for (;;) {
    sched::runtime_section section;
    c.lock.lock();
    const attempt first = sends ? try_send_locked(c, slot, unlock_one{c})
                                : try_recv_locked(c, slot, deliver, unlock_one{c});
    if (first != attempt::would_block) return first;
    wait_list& line = sends ? c.senders : c.receivers;
    constexpr wait_reason reason = sends ? wait_reason::chan_send : wait_reason::chan_receive;
    switch (deadline == detail::no_deadline
                ? wait_in_line(c, line, section.self(), slot, deliver, reason)
                : wait_in_line_until(c, line, section.self(), slot, deliver, reason, deadline)) {
      case wait_result::done: return attempt::done;
      case wait_result::closed: return attempt::closed;
      case wait_result::none: return attempt::would_block;
      case wait_result::retry: break;
    }
  }
}

[[gnu::noinline]] void send_in_section(channel& c, void* source) {
  if (operate<direction::send>(c, source, nullptr, detail::no_deadline) == attempt::closed) throw_closed(send_on_closed);
}

[[gnu::noinline]] bool recv_in_section(channel& c, void* slot, deliver_function deliver) {
  return operate<direction::receive>(c, slot, deliver, detail::no_deadline) == attempt::done;
}

chan_status status_of(attempt result, chan_status otherwise) noexcept {
  switch (result) {
    case attempt::done: return chan_status::ok;
    case attempt::closed: return chan_status::closed;
    case attempt::would_block: break;
  }
  return otherwise;
}

constexpr std::size_t alignment_for(const element_type& type) noexcept {
  return type.alignment > alignof(channel) ? type.alignment : alignof(channel);
}

constexpr std::size_t buffer_offset(const element_type& type) noexcept {
  return (sizeof(channel) + type.alignment - 1) / type.alignment * type.alignment;
}

}  // namespace

void deliver_and_wake(chan_node& waiter, void* slot, void* source, deliver_function deliver) {
  try {
    deliver(slot, source);
  } catch (...) {
    wake(waiter, wait_result::retry);
    throw;
  }
  wake(waiter, wait_result::done);
}

bool offer(detail::chan_core* core, const void* source, sched::ready_list& woken) noexcept {
  channel& c = of(core);
  bool sent = false;
  c.lock.lock();
  if (!c.closed.load(std::memory_order_relaxed)) {
    if (wait_node* first = take_first(c.receivers)) {
      auto& receiver = static_cast<chan_node&>(*first);
      if (receiver.deliver == nullptr) copy_bytes(receiver.slot, source, c.value_size);
      else receiver.deliver(receiver.slot, const_cast<void*>(source));
      receiver.result = wait_result::done;
      woken.push_back(receiver.g);
      sent = true;
    } else if (c.size() != c.capacity) {
      copy_bytes(c.slot(c.tail), source, c.value_size);
      c.tail = c.after(c.tail);
      c.set_size(c.size() + 1);
      sent = true;
    }
  }
  c.lock.unlock();
  return sent;
}

}  // namespace tuco::inline v1::sync

namespace tuco::inline v1::detail {

using namespace sync;

chan_core* chan_make(const element_type& type, std::size_t capacity) {
  const std::size_t offset = buffer_offset(type);
  std::size_t bytes = 0;
  // A negative number arrives here as a huge one.
  constexpr auto limit = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max());
  if (capacity > limit || __builtin_mul_overflow(type.size, capacity, &bytes) ||
      bytes > limit - offset) {
    throw_misuse("makechan: size out of range");
  }
  void* memory = ::operator new(offset + bytes, std::align_val_t{alignment_for(type)});
  return ::new (memory) channel(type, capacity, static_cast<std::byte*>(memory) + offset);
}

void chan_destroy(chan_core* core) noexcept {
  channel& c = of(core);
  if (c.owner != nullptr) return c.owner->last_handle_gone(c.owner);
  const element_type& type = *c.type;
  if (type.destroy != nullptr) {
    for (std::size_t left = c.size(); left > 0; --left, c.head = c.after(c.head)) {
      type.destroy(c.slot(c.head));
    }
  }
  c.~channel();
  ::operator delete(&c, std::align_val_t{alignment_for(type)});
}

void chan_send(chan_core* core, void* source) {
  if (core == nullptr) [[unlikely]] wait_forever_on_nil(wait_reason::chan_send_nil);
  channel& c = of(core);
  if (send_outside(c, source)) [[likely]] return;
  send_in_section(c, source);
}

bool chan_recv(chan_core* core, void* slot, deliver_function deliver) {
  if (core == nullptr) [[unlikely]] wait_forever_on_nil(wait_reason::chan_receive_nil);
  channel& c = of(core);
  if (recv_outside(c, slot, deliver)) [[likely]] return true;
  return recv_in_section(c, slot, deliver);
}

// Refusing without the lock.
//
// A try_ operation that cannot proceed says so after two plain loads. It may: there is one moment
// between the two at which the channel was as the answer says.
//
//   try_send   1 closed?   no      A channel that is open at 2 was open at 1, so at the moment of 1
//              2 full?     yes     or of 2 it was open ...
//   Claim      At some moment it was open and full.
//   Proof      Closed at 1: not this path. Open at 1 and full at 2: either it was still open at 2,
//              or it was closed between; close() empties neither the buffer nor adds receivers, so
//              being full at 2 it was full when it was closed, and open just before.
//   try_recv   1 empty?    yes
//              2 closed?   no
//   Claim      At some moment it was empty and open.
//   Proof      Open at 2 means open at 1 (closing is final), where it was empty.
//   Closed     If 2 says yes, values may have come between 1 and the closing, so it looks again:
//              3 empty? yes, and closed since 2: drained for good.
//   Orders     acquire: 2 is not read before 1. On the closed path it also pairs with the release
//              of close(): what happened before it is seen by who is told of it.
//   Too weak   relaxed: a processor that reads `closed` first may combine "open" of long ago with
//              "empty" of now, although a value was there until after the closing.
//   Test       ChanTryTest.RefusesWithoutLock*, test/conformance/chan_try_test.cpp
//   Source     Go, runtime/chan.go, chansend and chanrecv.

chan_status chan_try_send(chan_core* core, void* source) {
  if (core == nullptr) return chan_status::would_block;
  channel& c = of(core);
  if (!c.closed.load(std::memory_order_acquire) && looks_full(c)) return chan_status::would_block;
  if (send_outside(c, source)) return chan_status::ok;
  attempt result;
  {
    sched::runtime_section section;
    c.lock.lock();
    result = try_send_locked(c, source, unlock_one{c});
    if (result == attempt::would_block) c.lock.unlock();
  }
  if (result == attempt::closed) throw_closed(send_on_closed);
  return status_of(result, chan_status::would_block);
}

chan_status chan_try_recv(chan_core* core, void* slot, deliver_function deliver) {
  if (core == nullptr) return chan_status::would_block;
  channel& c = of(core);
  if (looks_empty(c)) {
    if (!c.closed.load(std::memory_order_acquire)) return chan_status::would_block;
    if (looks_empty(c)) return chan_status::closed;
  }
  sched::runtime_section section;
  c.lock.lock();
  const attempt result = try_recv_locked(c, slot, deliver, unlock_one{c});
  if (result == attempt::would_block) c.lock.unlock();
  return status_of(result, chan_status::would_block);
}

chan_status chan_send_until(chan_core* core, void* source, std::int64_t deadline) {
  if (core == nullptr) {
    wait_on_nil(wait_reason::chan_send_nil, deadline);
    return chan_status::timed_out;
  }
  const attempt result = operate<direction::send>(of(core), source, nullptr, deadline);
  if (result == attempt::closed) throw_closed(send_on_closed);
  return status_of(result, chan_status::timed_out);
}

chan_status chan_recv_until(chan_core* core, void* slot, deliver_function deliver,
                            std::int64_t deadline) {
  if (core == nullptr) {
    wait_on_nil(wait_reason::chan_receive_nil, deadline);
    return chan_status::timed_out;
  }
  return status_of(operate<direction::receive>(of(core), slot, deliver, deadline),
                   chan_status::timed_out);
}

void chan_close(chan_core* core) {
  if (core == nullptr) throw_misuse("close of nil channel");
  channel& c = of(core);
  bool closed_before;
  {
    sched::runtime_section section;
    sched::ready_list woken;
    c.lock.lock();
    closed_before = c.closed.load(std::memory_order_relaxed);
    if (!closed_before) {
      c.closed.store(true, std::memory_order_release);
      take_all(c.receivers, wait_result::closed, woken);
      take_all(c.senders, wait_result::closed, woken);
    }
    c.lock.unlock();
    if (woken.head != nullptr) sched::ready_all(woken);
  }
  if (closed_before) throw_closed("close of closed channel");
}

bool chan_is_closed(const chan_core* core) noexcept {
  return core != nullptr && of(core).closed.load(std::memory_order_acquire);
}

std::size_t chan_size(const chan_core* core) noexcept { return core == nullptr ? 0 : of(core).size(); }

std::size_t chan_capacity(const chan_core* core) noexcept {
  return core == nullptr ? 0 : of(core).capacity;
}

}  // namespace tuco::inline v1::detail
