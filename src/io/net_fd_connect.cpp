// SPDX-License-Identifier: Apache-2.0
// How connections come to be: accept() of a listener, and the end of a connect that is in progress.
#include <algorithm>

#include "io/net_fd_scope.hpp"
#include "os/clock.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::io {
namespace {

constexpr std::int64_t first_backoff = 5'000'000;
constexpr std::int64_t last_backoff = 1'000'000'000;

bool is_out_of_resources(int error) noexcept {
  return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

// Errors of a connection that was still in the queue; accept(2) tells them to the listener. The next
// connection has nothing to do with them.
bool is_of_the_connection(int error) noexcept {
  switch (-error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH: return true;
    default: return false;
  }
}

}  // namespace

int net_fd::accept(endpoint& peer) noexcept {
  holder held(*this, direction::read);
  if (!held) return error_closed;
  if (const int error = check(direction::read)) return error;
  std::int64_t backoff = first_backoff;
  for (;;) {
    unsigned char address[112];
    socklen_t size = sizeof address;
    const int fd = os::socket_accept(descriptor_, address, &size);
    if (fd >= 0) {
      peer = endpoint(address, std::min<std::size_t>(size, sizeof address));
      return fd;
    }
    if (fd == -EAGAIN) {
      if (const int error = wait(direction::read)) return error;
    } else if (is_out_of_resources(fd)) {
      // The connection stays in the queue and there will be no second edge for it: wait a while and
      // try again. Failing instead would end the accept loop of a server for a passing shortage.
      const std::int64_t until = os::saturating_add(os::steady_now_ns(), backoff);
      backoff = std::min(backoff * 2, last_backoff);
      if (const int error = pause_until(direction::read, until)) return error;
    } else if (!is_of_the_connection(fd)) {
      return fd;
    }
  }
}

int net_fd::wait_connected() noexcept {
  holder held(*this, direction::write);
  if (!held) return error_closed;
  for (;;) {
    if (const int error = wait(direction::write)) return error;
    if (const int error = os::socket_error(descriptor_)) return error;
    // No error and yet not connected: the wake-up was not for us.
    unsigned char address[112];
    socklen_t size = sizeof address;
    const int connected = os::socket_peer(descriptor_, address, &size);
    if (connected != -ENOTCONN) return connected;
  }
}

void net_fd::refresh_local() noexcept {
  local_ = {};
  local_.set(local());
}

}  // namespace tuco::inline v1::io
