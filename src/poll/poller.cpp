// SPDX-License-Identifier: Apache-2.0
#include "poll/poller.hpp"

#include <new>

#include "base/fatal.hpp"
#include "base/pause.hpp"
#include "os/clock.hpp"
#include "os/epoll.hpp"
#include "os/eventfd.hpp"
#include "os/futex.hpp"
#include "os/memory.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::poll {
namespace {

constexpr int batch = 128;

// Both directions and the end of the stream, each reported once per change. PRI: an urgent mark in
// the stream makes reads stop short in front of data that was announced already.
constexpr std::uint32_t interest = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
constexpr std::uint32_t makes_readable = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;
constexpr std::uint32_t makes_writable = EPOLLOUT | EPOLLHUP | EPOLLERR;
constexpr std::uint32_t ends_stream = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI;

constinit poller instance;

std::uint64_t event_data(const poll_descriptor& d) noexcept {
  return std::uint64_t{d.sequence.load(std::memory_order_relaxed)} << 32 | d.index;
}

task::goroutine* to_goroutine(std::uintptr_t value) noexcept {
  return reinterpret_cast<task::goroutine*>(value);
}

}  // namespace

poller& the_poller() noexcept { return instance; }

void must_signal(int eventfd) noexcept {
  if (os::eventfd_signal(eventfd) < 0) {
    base::fatal("wake-up failed: somebody closed the runtime's descriptor");
  }
}

int poller::start() noexcept {
  const int wake = os::eventfd_open();
  if (wake < 0) return wake;
  const int epoll = os::epoll_open();
  if (epoll < 0) {
    os::close_descriptor(wake);
    return epoll;
  }
  // Level-triggered: a thread that only looks sees the signal and leaves it to the blocked one.
  if (const int error = os::epoll_add(epoll, wake, EPOLLIN, wake_data); error < 0) {
    os::close_descriptor(epoll);
    os::close_descriptor(wake);
    return error;
  }
  wake_ = wake;
  epoll_.store(epoll, std::memory_order_release);
  // Whoever sleeps on the futex must go and sleep in epoll. The eventfd too: an interrupt() that saw
  // no epoll has left it to us to tell a thread that is in epoll already.
  interrupted_.exchange(1, std::memory_order_acq_rel);
  must_signal(wake);
  os::futex_wake(interrupted_);
  return 0;
}

void poller::sleep(std::int64_t timeout_ns) noexcept {
  if (timeout_ns == 0) return;
  const std::int64_t deadline =
      timeout_ns < 0 ? os::no_deadline : os::saturating_add(os::steady_now_ns(), timeout_ns);
  os::futex_wait(interrupted_, 0, deadline);
  // Created meanwhile: the word belongs to the eventfd now, which was signalled.
  if (!initialized()) interrupted_.exchange(0, std::memory_order_acq_rel);
}

poll_descriptor* poller::find(std::uint32_t index) noexcept {
  if (index >= slab_size * slab_count) return nullptr;
  poll_descriptor* slab = slabs_[index / slab_size].load(std::memory_order_acquire);
  return slab == nullptr ? nullptr : slab + index % slab_size;
}

// Under lock_.
poll_descriptor* poller::allocate() noexcept {
  if (poll_descriptor* d = free_; d != nullptr) {
    free_ = d->next_free;
    return d;
  }
  if (carved_ == slab_size * slab_count) return nullptr;
  auto& slab = slabs_[carved_ / slab_size];
  if (slab.load(std::memory_order_relaxed) == nullptr) {
    constexpr std::size_t bytes = slab_size * sizeof(poll_descriptor);
    const os::mapping memory = os::reserve(bytes, os::page_size());
    if (!memory) return nullptr;
    os::name_region(memory.address, bytes, "tuco: poll descriptors");
    slab.store(static_cast<poll_descriptor*>(memory.address), std::memory_order_release);
  }
  auto* d = ::new (slab.load(std::memory_order_relaxed) + carved_ % slab_size) poll_descriptor;
  d->index = carved_++;
  return d;
}

// Under lock_.
void poller::give_back(poll_descriptor* d) noexcept {
  // From here on events that were collected earlier are recognised as stale.
  d->sequence.fetch_add(1, std::memory_order_release);
  d->descriptor.store(-1, std::memory_order_relaxed);
  d->next_free = free_;
  free_ = d;
}

int poller::open(int descriptor, poll_descriptor*& out) noexcept {
  lock_.lock();
  if (!initialized()) {
    if (const int error = start(); error < 0) {
      lock_.unlock();
      return error;
    }
  }
  poll_descriptor* d = allocate();
  lock_.unlock();
  if (d == nullptr) return -ENOMEM;

  for (poll_word<>& word : d->word) word.reset();
  for (auto& deadline : d->deadline) deadline.store(no_deadline, std::memory_order_relaxed);
  d->closing.store(false, std::memory_order_relaxed);
  d->ended.store(false, std::memory_order_relaxed);
  d->peer_size = 0;
  d->descriptor.store(descriptor, std::memory_order_relaxed);

  const int error =
      os::epoll_add(epoll_.load(std::memory_order_relaxed), descriptor, interest, event_data(*d));
  if (error < 0) {
    lock_.lock();
    give_back(d);
    lock_.unlock();
    return error;
  }
  out = d;
  return 0;
}

void poller::close(poll_descriptor* d) noexcept {
  // An error (the program closed the number behind our back) leaves nothing to undo.
  os::epoll_delete(epoll_.load(std::memory_order_relaxed),
                   d->descriptor.load(std::memory_order_relaxed));
  lock_.lock();
  give_back(d);
  lock_.unlock();
}

void poller::abandon_waiters() noexcept {
  epoch_.fetch_add(1, std::memory_order_release);
  lock_.lock();
  for (std::uint32_t i = 0; i < carved_; ++i) {
    for (poll_word<>& word : find(i)->word) word.reset();
  }
  waiters_.store(0, std::memory_order_relaxed);
  lock_.unlock();
}

task::goroutine* poller::account(poll_word<>::taken taken) noexcept {
  if (taken.goroutine == 0) return nullptr;
  waiters_.fetch_sub(1, std::memory_order_relaxed);
  return taken.won ? to_goroutine(taken.goroutine) : nullptr;
}

task::goroutine* poller::notify(poll_descriptor& d, direction direction) noexcept {
  return account(d.of(direction).notify([](std::uintptr_t g) {
    return task::try_claim(to_goroutine(g), claimed_by_event);
  }));
}

task::goroutine* poller::kick(poll_descriptor& d, direction direction) noexcept {
  return account(d.of(direction).kick([](std::uintptr_t g) {
    return task::try_claim(to_goroutine(g), claimed_by_kick);
  }));
}

bool poller::commit(poll_descriptor& d, direction direction, task::goroutine* g,
                    bool has_deadline) noexcept {
  // Counted first: who takes the goroutine out of the word may do so, and discount it, at once.
  waiters_.fetch_add(1, std::memory_order_relaxed);
  const std::uintptr_t tag = has_deadline ? poll_word<>::has_deadline : 0;
  if (d.of(direction).commit(reinterpret_cast<std::uintptr_t>(g) | tag)) return true;
  waiters_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void poller::withdraw(poll_descriptor& d, direction direction, task::goroutine* g) noexcept {
  const std::uintptr_t self = reinterpret_cast<std::uintptr_t>(g) | poll_word<>::has_deadline;
  int spins = 0;
  const bool was_there = d.of(direction).withdraw(self, [&] {
    if (++spins % 64 == 0) {
      base::spin_wait_yield();
    } else {
      base::pause();
    }
  });
  if (was_there) waiters_.fetch_sub(1, std::memory_order_relaxed);
}

void poller::poll(std::int64_t timeout_ns, task::ready_list& out) noexcept {
  const int epoll = epoll_.load(std::memory_order_acquire);
  if (epoll < 0) return sleep(timeout_ns);
  epoll_event events[batch];
  const int count = os::epoll_wait(epoll, events, batch, timeout_ns);
  if (count < 0) {
    if (count == -EINTR) return;
    base::fatal("epoll_wait failed: somebody closed the runtime's descriptor");
  }
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[i];
    const std::uint64_t data = event.data.u64;
    if (data == wake_data) {
      // Left to the thread that blocks; a look that consumed it would leave that one asleep.
      if (timeout_ns == 0) continue;
      if (os::eventfd_drain(wake_) < 0) {
        base::fatal("eventfd cannot be read: somebody closed the runtime's descriptor");
      }
      // After the drain: an interrupt() that still finds 1 was made before this exchange, so
      // our caller sees what it was made for; a later one writes again.
      interrupted_.exchange(0, std::memory_order_acq_rel);
      continue;
    }
    poll_descriptor* d = find(static_cast<std::uint32_t>(data));
    if (d == nullptr ||
        d->sequence.load(std::memory_order_acquire) != static_cast<std::uint32_t>(data >> 32)) {
      continue;
    }
    // Before the word, and seq_cst: poll_word.hpp, III.
    if ((event.events & ends_stream) != 0) d->ended.store(true, std::memory_order_seq_cst);
    if ((event.events & makes_readable) != 0) {
      if (task::goroutine* g = notify(*d, direction::read)) out.push_back(g);
    }
    if ((event.events & makes_writable) != 0) {
      if (task::goroutine* g = notify(*d, direction::write)) out.push_back(g);
    }
  }
}

void poller::interrupt() noexcept {
  // Release towards the exchange in poll(). A failed dedupe must still be a read-modify-write: a plain
  // load of 1 could miss that the poller has already looked. Acquire towards the one in start(): if
  // ours comes later, we see the epoll descriptor; if earlier, start() wakes both places after us.
  if (interrupted_.exchange(1, std::memory_order_acq_rel) != 0) return;
  if (initialized()) {
    must_signal(wake_);
  } else {
    os::futex_wake(interrupted_);
  }
}

}  // namespace tuco::inline v1::poll
