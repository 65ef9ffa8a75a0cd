// SPDX-License-Identifier: Apache-2.0
// The timer behind <tuco/time.hpp>: an entry in a processor's heap and a channel of one slot.
//
// Three parties meet at a timer: who stops or resets it, the thread that runs the heap and calls
// expire(), and the last handle that goes. Each does its part under `lock`; the heap's removal alone
// would not do, for an entry that has left the heap may have its expiry still to come.
//
//   stop() / reset()                            expire(), called by the heap
//   T1  lock                                    X1  lock
//   T2  remove the entry from the heap          X2  armed and now >= when_ns ?
//   T3  armed = false; take back the value         yes: armed = false; send
//   T4  reset: when_ns = new; armed = true;     X3  unlock
//       add the entry
//   T5  unlock
//
// Claim      A value received after T5 belongs to a setting made at or after T4.
// Proof      X before T: whatever X2 sent was received already, is handed to a receiver, or lies in
//            the slot and is taken back in T3. X after T: after stop(), `armed` is false and nothing
//            is sent. After reset(), an expiry of the earlier setting (its entry had left the heap
//            before T2) is told from one of the new setting by its time: it sends only if the new
//            moment has come, too, and then it is not early and the later expiry finds `armed` false.
// References One for all handles of the channel together, one for the entry while it is queued or
//            firing. T2 hands the entry's back if it found it queued; X drops its own at the end.
// Lock order timer < channel, heap. The scheduler's lock is not taken inside.
#include <tuco/time.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "os/clock.hpp"
#include "sched/park.hpp"
#include "sched/timer_home.hpp"
#include "sync/channel.hpp"
#include "sync/misuse.hpp"
#include "timer/heap.hpp"

namespace tuco::inline v1::sync {
namespace {

using time_point = timer::time_point;
static_assert(detail::is_plain<time_point>, "offer() copies bytes");

time_point to_time_point(std::int64_t ns) noexcept {
  return time_point(
      std::chrono::duration_cast<time_point::duration>(std::chrono::nanoseconds(ns)));
}

struct timer_state final : channel_owner {
  struct deadline_entry : timers::entry {
    timer_state* of = nullptr;
  };

  timer_state() noexcept
      : channel_owner{&handles_gone},
        values(detail::element_of<time_point>, 1, slot, this) {
    deadline.of = this;
    deadline.fire = &expire;
  }

  /// Null when the handle is.
  static timer_state* of(detail::chan_core* core) noexcept {
    return core == nullptr ? nullptr
                           : static_cast<timer_state*>(static_cast<channel*>(core)->owner);
  }

  static void expire(timers::entry* e, std::int64_t now, task::ready_list& out) noexcept;
  static void handles_gone(channel_owner* self) noexcept;

  /// Lock held. @return Whether that kept a value from being received.
  bool disarm() noexcept {
    if (armed) {
      armed = false;
      return true;
    }
    alignas(time_point) std::byte taken_back[sizeof(time_point)];
    values.lock.lock();
    const attempt result = try_recv_locked(values, taken_back, nullptr, unlock_one{values});
    if (result == attempt::would_block) values.lock.unlock();
    return result == attempt::done;
  }

  void drop_reference() noexcept {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  base::spin_lock lock;
  bool armed = false;  ///< the value of the present setting is still to be sent
  std::atomic<std::uint32_t> references{1};
  deadline_entry deadline;  ///< `when_ns` is written under `lock` while it is not queued
  alignas(time_point) std::byte slot[sizeof(time_point)];
  channel values;
};

void timer_state::expire(timers::entry* e, std::int64_t now, task::ready_list& out) noexcept {
  base::tsan_acquire(e);
  timer_state& t = *static_cast<deadline_entry*>(e)->of;
  task::ready_list woken;
  t.lock.lock();
  if (t.armed && now >= e->when_ns) {
    t.armed = false;
    const time_point value = to_time_point(now);
    offer(&t.values, &value, woken);
  }
  timers::heap::finish(*e);
  t.lock.unlock();
  t.drop_reference();
  while (task::goroutine* g = woken.pop_front()) {
    // A plain thread needs no processor, and not every caller of the heap knows what to do with one.
    if ((g->flags & task::flag_plain_thread) != 0) sched::ready(g);
    else out.push_back(g);
  }
}

void timer_state::handles_gone(channel_owner* self) noexcept {
  auto& t = *static_cast<timer_state*>(self);
  sched::runtime_section section;
  t.lock.lock();
  t.armed = false;
  const auto removed = timers::heap::remove(t.deadline);
  t.lock.unlock();
  if (removed == timers::remove_result::removed) t.drop_reference();
  t.drop_reference();
}

/// Whether a value was kept from being received. @pre `home` is not null
bool set(timer_state& t, std::int64_t when, timers::heap& home) noexcept {
  t.lock.lock();
  if (timers::heap::remove(t.deadline) != timers::remove_result::removed) {
    t.references.fetch_add(1, std::memory_order_relaxed);
  }
  const bool was_pending = t.disarm();
  t.armed = true;
  // A deadline that has always passed passes now. A run of the heap that began earlier would send its own
  // time, which lies before this call.
  if (when == detail::past_deadline) when = os::steady_now_ns();
  t.deadline.when_ns = when;
  base::tsan_release(&t.deadline);  // pairs with expire()
  const bool earliest = home.add(t.deadline);
  t.lock.unlock();
  if (earliest) sched::timer_became_earliest(when);
  return was_pending;
}

constexpr const char* no_runtime = "timer started outside run()";

}  // namespace
}  // namespace tuco::inline v1::sync

namespace tuco::inline v1::detail {

using namespace sync;

chan_core* timer_make(std::int64_t deadline) {
  auto* t = new timer_state;
  {
    sched::runtime_section section;
    if (timers::heap* home = sched::timer_home(); home != nullptr) [[likely]] {
      set(*t, deadline, *home);
      return &t->values;
    }
  }
  delete t;
  throw_misuse(no_runtime);
}

bool timer_stop(chan_core* timer) {
  timer_state* t = timer_state::of(timer);
  if (t == nullptr) throw_misuse("time: Stop called on uninitialized Timer");
  sched::runtime_section section;
  t->lock.lock();
  const auto removed = timers::heap::remove(t->deadline);
  const bool was_pending = t->disarm();
  t->lock.unlock();
  if (removed == timers::remove_result::removed) t->drop_reference();
  return was_pending;
}

bool timer_reset(chan_core* timer, std::int64_t deadline) {
  timer_state* t = timer_state::of(timer);
  if (t == nullptr) throw_misuse("time: Reset called on uninitialized Timer");
  {
    sched::runtime_section section;
    if (timers::heap* home = sched::timer_home(); home != nullptr) [[likely]] {
      return set(*t, deadline, *home);
    }
  }
  throw_misuse(no_runtime);
}

}  // namespace tuco::inline v1::detail
