// SPDX-License-Identifier: Apache-2.0
// How a net_fd waits: goroutines parked in the poller, plain threads in poll(2).
#include <poll.h>

#include <algorithm>

#include "io/net_fd_scope.hpp"
#include "os/clock.hpp"
#include "os/eventfd.hpp"
#include "os/sleep.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::io {
namespace {

using poll::poll_descriptor;
using poll::the_poller;

struct commit_argument {
  poll_descriptor* record;
  direction which;
  bool has_deadline;
};

bool commit_wait(sched::goroutine* self, void* argument) noexcept {
  // Copied first: as soon as the word holds the goroutine, it may run and end this frame.
  const commit_argument a = *static_cast<commit_argument*>(argument);
  return the_poller().commit(*a.record, a.which, self, a.has_deadline);
}

bool is_plain_thread(const sched::goroutine* g) noexcept {
  return (g->flags & task::flag_plain_thread) != 0;
}

}  // namespace

// Deadlines. A descriptor has no timer of its own (Go has two). It has a word per direction that holds
// the deadline, and the goroutine that waits parks with that as its own timeout.
//   - set_deadline() is a store, and a wake-up only when somebody waits and the new deadline is
//     earlier. A server that moves an idle deadline before each of a thousand reads that find data
//     pays a thousand stores; Go modifies a timer each time.
//   - A deadline that was moved to later while somebody waits costs one superfluous wake-up: the
//     waiter finds, at the old deadline, that there is a new one.
//   - No timer can fire for a descriptor that was closed and reused: Go needs sequence numbers there.
// The price: a read that parks puts an entry into the timer heap and takes it out, also if the
// deadline is the same as last time (docs/design/poller.md has the comparison).

// Returns when trying again may help (0), or why it will not. The caller holds the lock of `d`.
int net_fd::wait(direction d) noexcept {
  {
    sched::runtime_section section;
    if (!is_plain_thread(section.self())) return wait_parked(d, section.self());
  }
  return wait_on_thread(d);
}

// Inside the caller's section.
int net_fd::wait_parked(direction d, sched::goroutine* self) noexcept {
  poll::poll_word<>& word = record_->of(d);
  for (;;) {
    if (!word.arm()) return 0;
    if (record_->closing.load(std::memory_order_seq_cst)) {
      word.disarm();
      return error_closed;
    }
    const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_seq_cst);
    if (deadline == poll::no_deadline) {
      commit_argument argument{record_, d, false};
      sched::park(commit_wait, &argument, wait_reason::io_wait, record_);
      break;
    }
    if (deadline <= os::steady_now_ns()) {
      word.disarm();
      return error_deadline;
    }
    commit_argument argument{record_, d, true};
    sched::arm_claim(self);
    const std::uint32_t by =
        sched::park_until(deadline, commit_wait, &argument, wait_reason::io_wait, record_);
    if (by != sched::claimed_by_deadline) break;
    the_poller().withdraw(*record_, d, self);
    // Once more around: the deadline may have been moved while we waited.
  }
  return record_->closing.load(std::memory_order_acquire) ? error_closed : 0;
}

// A thread that is not a worker blocks in poll(2): no runtime may be there to poll for it. Whoever
// kicks the descriptor reaches it through an eventfd.
int net_fd::wait_on_thread(direction d) noexcept {
  const int which = static_cast<int>(d);
  const int wake = os::eventfd_open();
  record_->plain_lock.lock();
  record_->plain_wake[which] = wake;
  record_->plain_lock.unlock();
  record_->plain_waiters.fetch_add(1, std::memory_order_seq_cst);  // as W1 in poll_word.hpp

  int result = 0;
  for (;;) {
    if (record_->closing.load(std::memory_order_seq_cst)) {
      result = error_closed;
      break;
    }
    const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_seq_cst);
    std::int64_t timeout = -1;
    if (deadline != poll::no_deadline) {
      timeout = deadline - os::steady_now_ns();
      if (timeout <= 0) {
        result = error_deadline;
        break;
      }
    }
    // No descriptor left for the eventfd: look around every 10 ms instead.
    constexpr std::int64_t blind = 10'000'000;
    if (wake < 0) timeout = timeout < 0 ? blind : std::min(timeout, blind);
    const short events = d == direction::read ? POLLIN | POLLRDHUP : POLLOUT;
    const int what = os::poll_descriptors(descriptor_, events, wake, timeout);
    if (what < 0) {
      if (what == -EINTR) continue;
      result = what;  // no memory, or a limit below the two descriptors (RLIMIT_NOFILE): it may last
      break;
    }
    if ((what & 1) != 0) {
      if (record_->closing.load(std::memory_order_acquire)) result = error_closed;
      break;
    }
    if ((what & 2) != 0 && (result = os::eventfd_drain(wake)) < 0) break;
  }

  record_->plain_waiters.fetch_sub(1, std::memory_order_relaxed);
  record_->plain_lock.lock();
  record_->plain_wake[which] = -1;  // from here on nobody writes to the number
  record_->plain_lock.unlock();
  if (wake >= 0) os::close_descriptor(wake);
  return result;
}

void net_fd::kick(direction d) noexcept {
  sched::runtime_section section;
  if (sched::goroutine* g = the_poller().kick(*record_, d)) sched::ready(g);
  if (record_->plain_waiters.load(std::memory_order_seq_cst) > 0) {
    record_->plain_lock.lock();
    const int wake = record_->plain_wake[static_cast<int>(d)];
    if (wake >= 0) poll::must_signal(wake);
    record_->plain_lock.unlock();
  }
}

// Waits until `until`, whatever edges come; ended early by close() and by the deadline.
int net_fd::pause_until(direction d, std::int64_t until) noexcept {
  {
    sched::runtime_section section;
    if (!is_plain_thread(section.self())) return pause_parked(d, section.self(), until);
  }
  // In slices, because nothing wakes this sleep: a thread that accepts without a worker, while the
  // process is out of descriptors, is too rare for a wake-up of its own.
  for (;;) {
    if (record_->closing.load(std::memory_order_acquire)) return error_closed;
    if (const int error = check(d)) return error;
    const std::int64_t left = until - os::steady_now_ns();
    if (left <= 0) return 0;
    os::sleep_for(std::min<std::int64_t>(left, 10'000'000));
  }
}

int net_fd::pause_parked(direction d, sched::goroutine* self, std::int64_t until) noexcept {
  poll::poll_word<>& word = record_->of(d);
  for (;;) {
    if (!word.arm()) continue;  // consumes the edge; the caller tries again anyway
    const bool closing = record_->closing.load(std::memory_order_seq_cst);
    const std::int64_t deadline = record_->deadline_of(d).load(std::memory_order_seq_cst);
    const std::int64_t now = os::steady_now_ns();
    if (closing || deadline <= now || until <= now) {
      word.disarm();
      return closing ? error_closed : deadline <= now ? error_deadline : 0;
    }
    commit_argument argument{record_, d, true};
    sched::arm_claim(self);
    const std::uint32_t by = sched::park_until(std::min(until, deadline), commit_wait, &argument,
                                               wait_reason::io_wait, record_);
    if (by == sched::claimed_by_deadline) the_poller().withdraw(*record_, d, self);
  }
}

int net_fd::set_deadline(bool read, bool write, std::int64_t ns) noexcept {
  user inside(*this);
  if (!inside) return error_closed;
  for (direction d : {direction::read, direction::write}) {
    if (d == direction::read ? !read : !write) continue;
    // seq_cst: K1 of poll_word.hpp. Against the latest value and not the one the waiter has seen: a
    // waiter with an older one is woken by the time it has, and looks again.
    const std::int64_t old = record_->deadline_of(d).exchange(ns, std::memory_order_seq_cst);
    if (ns < old) kick(d);
  }
  return 0;
}

}  // namespace tuco::inline v1::io
