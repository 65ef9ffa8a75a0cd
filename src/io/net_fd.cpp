// SPDX-License-Identifier: Apache-2.0
#include "io/net_fd.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "base/sanitizer.hpp"
#include "io/net_fd_scope.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::io {

using poll::poll_descriptor;
using poll::the_poller;

std::error_code to_error_code(std::int64_t result) noexcept {
  if (result >= 0) return {};
  if (result == error_closed) return make_error_code(net_errc::closed);
  if (result == error_deadline) return std::make_error_code(std::errc::timed_out);
  return {static_cast<int>(-result), std::system_category()};
}

// ---------------------------------------------------------------------------- open and close

void net_fd::short_address::set(const endpoint& e) noexcept {
  if (e.size() > sizeof bytes) return;
  size = static_cast<std::uint8_t>(e.size());
  std::memcpy(bytes, e.data(), size);
}

net_fd::net_fd(int descriptor, net_kind kind, poll_descriptor* record) noexcept
    : descriptor_(descriptor),
      kind_(kind),
      short_read_drains_(kind == net_kind::tcp),
      epoch_(the_poller().epoch()),
      record_(record) {}

int net_fd::open(int descriptor, net_kind kind, const endpoint* remote, net_fd*& out) noexcept {
  poll_descriptor* record = nullptr;
  if (const int error = the_poller().open(descriptor, record); error < 0) return error;
  net_fd* fd = new (std::nothrow) net_fd(descriptor, kind, record);
  if (fd == nullptr) {
    the_poller().close(record);
    return -ENOMEM;
  }
  fd->local_.set(fd->local());
  if (!is_listener(kind)) {
    fd->remote_.set(remote != nullptr ? *remote : fd->remote());
    const base::unseen_by_tsan unseen;
    // For dumps: what a goroutine that waits here is talking to.
    record->peer_size = fd->remote_.size;
    std::memcpy(record->peer, fd->remote_.bytes, fd->remote_.size);
  }
  out = fd;
  return 0;
}

// Waits are ended in three steps, in this order: nobody new gets in (the mutex), whoever is about to
// wait sees `closing` (poll_word.hpp, I), whoever waits is woken. Then the users leave, and only then
// the registration and the number are given back.
bool net_fd::shut() noexcept {
  if (!mutex_.close()) return false;
  record_->closing.store(true, std::memory_order_seq_cst);
  kick(direction::read);
  kick(direction::write);
  return true;
}

void net_fd::finish() noexcept {
  const base::unseen_by_tsan unseen;  // the users have left, in an order that only fd_mutex knows
  the_poller().close(record_);
  os::close_descriptor(descriptor_);
  finished_ = true;
}

bool net_fd::close() noexcept {
  if (!shut()) return false;
  if (unlink_.load(std::memory_order_relaxed)) remove_path();
  // A run() that ended has left its goroutines where they stood. One that stood in here never
  // leaves, and waiting for it would hang a static destructor at exit: destroy() sees to the rest.
  if (epoch_ == the_poller().epoch()) {
    mutex_.wait_until_unused();
  } else if (!mutex_.is_unused()) {
    return true;
  }
  finish();
  return true;
}

// While the descriptor is still bound: afterwards somebody else may have taken the name.
void net_fd::remove_path() noexcept {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  if (os::socket_name(descriptor_, &name, &size) < 0 || name.sun_family != AF_UNIX) return;
  if (size > offsetof(sockaddr_un, sun_path) && name.sun_path[0] != 0) {
    os::remove_name(name.sun_path);
  }
}

int net_fd::release() noexcept {
  if (!shut()) return -1;
  mutex_.wait_until_unused();
  the_poller().close(record_);
  finished_ = true;
  return descriptor_;
}

void net_fd::destroy(net_fd* fd) noexcept {
  fd->close();
  if (!fd->finished_) {
    if (fd->mutex_.disown()) return;  // the last user, if it ever leaves, does it
    fd->finish();
  }
  delete fd;
}

void net_fd::left_orphan() noexcept {
  finish();
  delete this;
}

// ------------------------------------------------------------------------------------- others

int net_fd::shut_down(int how) noexcept {
  user inside(*this);
  return inside ? os::socket_shutdown(descriptor_, how) : error_closed;
}

int net_fd::set_option(int level, int option, int value) noexcept {
  return set_option(level, option, &value, sizeof value);
}

int net_fd::set_option(int level, int option, const void* value, socklen_t size) noexcept {
  user inside(*this);
  return inside ? os::set_option(descriptor_, level, option, value, size) : error_closed;
}

int net_fd::get_option(int level, int option, void* value, socklen_t* size) noexcept {
  user inside(*this);
  return inside ? os::get_option(descriptor_, level, option, value, size) : error_closed;
}

endpoint net_fd::address(const short_address& kept, ask_kernel ask) noexcept {
  if (kept.size != 0) return kept.get();
  user inside(*this);
  unsigned char bytes[112];
  socklen_t size = sizeof bytes;
  if (!inside || ask(descriptor_, bytes, &size) < 0) return {};
  return {bytes, std::min<std::size_t>(size, sizeof bytes)};
}

endpoint net_fd::local() noexcept { return address(local_, os::socket_name); }
endpoint net_fd::remote() noexcept { return address(remote_, os::socket_peer); }

const char* net_fd::network() const noexcept { return is_tcp(kind_) ? "tcp" : "unix"; }

}  // namespace tuco::inline v1::io
