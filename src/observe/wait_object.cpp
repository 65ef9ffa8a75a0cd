// SPDX-License-Identifier: Apache-2.0
#include "observe/wait_object.hpp"

#include <tuco/barrier.hpp>
#include <tuco/latch.hpp>
#include <tuco/mutex.hpp>
#include <tuco/once.hpp>
#include <tuco/resolve.hpp>
#include <tuco/semaphore.hpp>
#include <tuco/shared_mutex.hpp>
#include <tuco/wait_group.hpp>

#include "base/pause.hpp"
#include "observe/hexadecimal.hpp"
#include "observe/stack_of.hpp"
#include "poll/poll_descriptor.hpp"
#include "sync/channel.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr std::size_t most_counted = 1000;  // of waiters in a line

std::size_t length_of(const sync::wait_list& line) noexcept {
  std::size_t n = 0;
  for (const auto* node = line.front(); node != nullptr && n < most_counted; node = node->next) ++n;
  return n;
}

std::string number_in_line(std::size_t n) {
  return n == most_counted ? std::to_string(n) + " or more" : std::to_string(n);
}

void append_goroutine_id(std::string& out, std::uint64_t id) {
  if (id == 0) out.append("nobody or a plain thread");
  else out.append("goroutine ").append(std::to_string(id));
}

void append_channel(std::string& out, const void* object) {
  if (object == nullptr) {
    out.append("several channels");
    return;
  }
  auto& c = *static_cast<sync::channel*>(const_cast<void*>(object));
  out.append("chan ").append(hexadecimal(object));
  out.append(", ").append(std::to_string(c.size()));
  out.append(" of ").append(std::to_string(c.capacity)).append(" buffered");
  // Whoever has the lock may be stopped for good; what was not learned is left out.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    if (!c.lock.try_lock()) {
      base::pause();
      continue;
    }
    const std::size_t receivers = length_of(c.receivers);
    const std::size_t senders = length_of(c.senders);
    c.lock.unlock();
    out.append(", ").append(number_in_line(receivers)).append(" wait to receive, ");
    out.append(number_in_line(senders)).append(" to send");
    return;
  }
}

void append_descriptor(std::string& out, const task::goroutine& g, const void* object) {
  if (object == nullptr) {
    out.append("a descriptor");
    return;
  }
  const auto& d = *static_cast<const poll::poll_descriptor*>(object);
  out.append("descriptor ").append(std::to_string(d.descriptor.load(std::memory_order_relaxed)));
  if (d.waits(&g, poll::direction::read)) out.append(" to be readable");
  else if (d.waits(&g, poll::direction::write)) out.append(" to be writable");
  // A path that was cut off there would be a wrong one.
  if (d.peer_size == 0 || d.peer_size >= sizeof d.peer) return;
  const std::string peer = endpoint(d.peer, d.peer_size).to_string();
  if (!peer.empty()) out.append(", peer ").append(peer);
}

void append_shared_mutex(std::string& out, const shared_mutex& m) {
  out.append("shared_mutex ").append(hexadecimal(&m)).append(", held by ");
  const std::uint32_t readers = m.readers();
  if (readers == 0) return append_goroutine_id(out, m.owner());
  out.append(std::to_string(readers)).append(readers == 1 ? " reader" : " readers");
}

void append_object(std::string& out, const task::goroutine& g, wait_reason reason,
                   const void* object) {
  switch (reason) {
    case wait_reason::chan_receive:
    case wait_reason::chan_send:
    case wait_reason::select:
      return append_channel(out, object);
    case wait_reason::io_wait:
      return append_descriptor(out, g, object);
    case wait_reason::mutex_lock:
      out.append("mutex ").append(hexadecimal(object)).append(", held by ");
      return append_goroutine_id(out, static_cast<const mutex*>(object)->owner());
    case wait_reason::shared_mutex_lock:
    case wait_reason::shared_mutex_rlock:
      return append_shared_mutex(out, *static_cast<const shared_mutex*>(object));
    case wait_reason::semaphore_acquire: {
      const auto& s = *static_cast<const semaphore*>(object);
      out.append("semaphore ").append(hexadecimal(object)).append(", ").append(std::to_string(s.available()));
      out.append(" of ").append(std::to_string(s.size())).append(" free");
      return;
    }
    case wait_reason::barrier_wait: {
      const auto& b = *static_cast<const detail::barrier_core*>(object);
      out.append("barrier ").append(hexadecimal(object)).append(", ").append(std::to_string(b.missing()));
      out.append(" of ").append(std::to_string(b.expected())).append(" still to come, phase ");
      out.append(std::to_string(b.phase()));
      return;
    }
    case wait_reason::once_wait:
      out.append("once ").append(hexadecimal(object)).append(", run by ");
      return append_goroutine_id(out, static_cast<const once*>(object)->owner());
    case wait_reason::wait_group_wait:
      out.append("wait_group ").append(hexadecimal(object)).append(", counter ");
      out.append(std::to_string(static_cast<const wait_group*>(object)->count()));
      return;
    case wait_reason::latch_wait:
      out.append("latch ").append(hexadecimal(object)).append(", ");
      out.append(std::to_string(static_cast<const latch*>(object)->count())).append(" still to come");
      return;
    case wait_reason::cond_wait:
      out.append("condition_variable ").append(hexadecimal(object));
      return;
    default:
      out.append(object != nullptr ? hexadecimal(object) : "nothing that another goroutine has");
  }
}

}  // namespace

void append_wait(std::string& out, task::goroutine& g, const goroutine_info& info) {
  std::string fraction = std::to_string(info.waiting.count() % 1'000'000'000);
  fraction.insert(0, 9 - fraction.size(), '0');
  std::string line = "\twaiting " + std::to_string(info.waiting.count() / 1'000'000'000) + "." +
                     fraction + " s for ";
  const parked_pin pin(&g);
  // The same wait, not a later one: what a later one waits for may be something else.
  if (!pin.held() || g.id.load(std::memory_order_acquire) != info.id ||
      g.switches.load(std::memory_order_relaxed) != info.switches ||
      g.status.load(std::memory_order_acquire) != goroutine_status::waiting) {
    return;
  }
  append_object(line, g, info.reason, info.wait_object);
  out.append(line).append("\n");
}

}  // namespace tuco::inline v1::observe
