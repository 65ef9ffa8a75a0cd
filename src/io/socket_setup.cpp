// SPDX-License-Identifier: Apache-2.0
#include "io/socket_setup.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <string>

#include "io/net_error.hpp"
#include "os/clock.hpp"
#include "sched/park.hpp"

namespace tuco::inline v1::io {

namespace {

int check_kind(int descriptor, net_kind kind) noexcept {
  const int type = os::get_option(descriptor, SOL_SOCKET, SO_TYPE);
  if (type < 0) return type;
  const int domain = os::get_option(descriptor, SOL_SOCKET, SO_DOMAIN);
  if (domain < 0) return domain;
  const bool right_family =
      is_tcp(kind) ? domain == AF_INET || domain == AF_INET6 : domain == AF_UNIX;
  if (type != SOCK_STREAM || !right_family) return -EPROTOTYPE;
  const int accepts = os::get_option(descriptor, SOL_SOCKET, SO_ACCEPTCONN);
  if (accepts < 0) return accepts;
  return (accepts != 0) == is_listener(kind) ? 0 : -EINVAL;
}

}  // namespace

int start_listening(scoped_descriptor& socket, int backlog, net_kind kind, net_fd*& out) noexcept {
  // The kernel cuts the number down to net.core.somaxconn.
  int error = os::socket_listen(socket.get(), backlog <= 0 ? INT_MAX : backlog);
  if (error == 0) error = net_fd::open(socket.get(), kind, nullptr, out);
  if (error == 0) socket.taken();
  return error;
}

net_fd* adopt(int descriptor, net_kind kind, std::error_code& ec) noexcept {
  net_fd* fd = nullptr;
  int error = check_kind(descriptor, kind);
  if (error == 0) error = os::set_nonblocking(descriptor);
  if (error == 0) error = net_fd::open(descriptor, kind, nullptr, fd);
  ec = to_error_code(error);
  return fd;
}

net_fd* adopt(int descriptor, net_kind kind) {
  std::error_code ec;
  net_fd* const fd = adopt(descriptor, kind, ec);
  throw_if(ec, "adopt",
           (is_tcp(kind) ? "tcp descriptor " : "unix descriptor ") + std::to_string(descriptor));
  return fd;
}

net_fd* accept(net_fd* listener, net_kind kind, std::error_code& ec) noexcept {
  ec = net_errc::closed;
  if (listener == nullptr) return nullptr;
  endpoint peer;
  net_fd* fd = nullptr;
  const int descriptor = listener->accept(peer);
  int error = descriptor;
  if (descriptor >= 0) {
    error = net_fd::open(descriptor, kind, &peer, fd);
    if (error < 0) os::close_descriptor(descriptor);
  }
  ec = to_error_code(error);
  return fd;
}

net_fd* accept(net_fd* listener, net_kind kind) {
  std::error_code ec;
  net_fd* const fd = accept(listener, kind, ec);
  throw_if(ec, "accept", listener);
  return fd;
}

bool pause_for(std::int64_t ns, std::int64_t deadline_ns) noexcept {
  const std::int64_t until = os::saturating_add(os::steady_now_ns(), ns);
  sched::runtime_section section;
  sched::arm_claim(section.self());
  sched::park_until(
      std::min(until, deadline_ns), [](sched::goroutine*, void*) noexcept { return true; }, nullptr,
      wait_reason::io_wait, nullptr);
  return until < deadline_ns;
}

}  // namespace tuco::inline v1::io
