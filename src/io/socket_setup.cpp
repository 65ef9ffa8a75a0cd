// SPDX-License-Identifier: Apache-2.0
#include "io/socket_setup.hpp"

#include <sys/socket.h>

#include <algorithm>

#include "os/clock.hpp"
#include "sched/park.hpp"

namespace tuco::inline v1::io {

int adopt(int descriptor, int family, bool listening, net_kind kind, net_fd*& out) noexcept {
  const int type = os::get_option(descriptor, SOL_SOCKET, SO_TYPE);
  if (type < 0) return type;
  const int domain = os::get_option(descriptor, SOL_SOCKET, SO_DOMAIN);
  if (domain < 0) return domain;
  const bool right_family =
      family == AF_UNSPEC ? domain == AF_INET || domain == AF_INET6 : domain == family;
  if (type != SOCK_STREAM || !right_family) return -EPROTOTYPE;
  const int accepts = os::get_option(descriptor, SOL_SOCKET, SO_ACCEPTCONN);
  if (accepts < 0) return accepts;
  if ((accepts != 0) != listening) return -EINVAL;
  if (const int error = os::set_nonblocking(descriptor); error < 0) return error;
  return net_fd::open(descriptor, kind, nullptr, out);
}

net_fd* accept(net_fd* listener, net_kind kind, int& error) noexcept {
  error = error_closed;
  if (listener == nullptr) return nullptr;
  endpoint peer;
  const int descriptor = listener->accept(peer);
  if (descriptor < 0) {
    error = descriptor;
    return nullptr;
  }
  net_fd* fd = nullptr;
  error = net_fd::open(descriptor, kind, &peer, fd);
  if (error < 0) os::close_descriptor(descriptor);
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
