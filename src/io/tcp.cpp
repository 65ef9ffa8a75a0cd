// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <tuco/tcp.hpp>

#include <algorithm>
#include <climits>
#include <string>
#include <vector>

#include "io/net_error.hpp"
#include "io/net_fd.hpp"
#include "io/socket_setup.hpp"
#include "io/split_address.hpp"
#include "io/time_point.hpp"
#include "os/clock.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1 {

using io::net_fd;
using io::net_kind;
using io::throw_if;
using io::to_error_code;
using io::to_ns;

namespace {

constexpr int default_idle_s = 15;
constexpr int default_probes = 9;

int family_of(const endpoint& e) noexcept {
  switch (e.kind()) {
    case endpoint::family::ipv4: return AF_INET;
    case endpoint::family::ipv6: return AF_INET6;
    default: return AF_UNSPEC;
  }
}

// Set on listeners too: Linux lets accepted sockets inherit them, which saves five calls for each.
// None of them is worth failing for.
void set_defaults(int descriptor) noexcept {
  os::set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
  os::set_option(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1);
  os::set_option(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, default_idle_s);
  os::set_option(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, default_idle_s);
  os::set_option(descriptor, IPPROTO_TCP, TCP_KEEPCNT, default_probes);
}

// One attempt. On success `out` is connected and has no deadline.
int connect_once(const endpoint& remote, std::int64_t deadline_ns, net_fd*& out) noexcept {
  const int family = family_of(remote);
  if (family == AF_UNSPEC) return -EAFNOSUPPORT;
  io::scoped_descriptor socket(os::socket_open(family, SOCK_STREAM, IPPROTO_TCP));
  if (socket.get() < 0) return socket.get();
  set_defaults(socket.get());
  // Registered only after connect() has begun: before, the socket counts as hung up and writable.
  const int begun = os::socket_connect(socket.get(), remote.data(), remote.size());
  if (begun < 0 && begun != -EINPROGRESS) return begun;
  net_fd* fd = nullptr;
  if (const int error = net_fd::open(socket.get(), net_kind::tcp, &remote, fd); error < 0) {
    return error;
  }
  socket.taken();
  if (begun < 0) {
    fd->set_deadline(false, true, deadline_ns);
    if (const int error = fd->wait_connected(); error < 0) {
      net_fd::destroy(fd);
      return error;
    }
    fd->set_deadline(false, true, poll::no_deadline);
  }
  fd->refresh_local();
  out = fd;
  return 0;
}

// A connect to a local port that nobody listens on may be given that very port as its own, and two
// halves of TCP's simultaneous open then meet in one socket.
bool met_itself(net_fd& fd, const endpoint& remote) noexcept { return fd.local() == remote; }

int connect(const endpoint& remote, std::int64_t deadline_ns, net_fd*& out) noexcept {
  if (deadline_ns <= os::steady_now_ns()) return io::error_deadline;
  for (int attempt = 0;; ++attempt) {
    const int error = connect_once(remote, deadline_ns, out);
    if (error == 0) {
      if (!met_itself(*out, remote)) return 0;
      net_fd::destroy(out);
      out = nullptr;
      if (attempt == 2) return -ECONNREFUSED;
    } else if (error != -EADDRNOTAVAIL || attempt == 2) {  // the port chosen was taken meanwhile
      return error;
    }
  }
}

// The time until the deadline in equal shares for the addresses that are left, at least two seconds
// each where there is as much: a first address that never answers must not use up all of it.
std::int64_t share_of(std::int64_t deadline_ns, std::size_t addresses_left) noexcept {
  if (deadline_ns == poll::no_deadline) return deadline_ns;
  constexpr std::int64_t least = 2'000'000'000;
  const std::int64_t now = os::steady_now_ns();
  const std::int64_t left = deadline_ns - now;
  if (left <= 0) return deadline_ns;
  const std::int64_t share =
      std::max(left / static_cast<std::int64_t>(addresses_left), std::min(left, least));
  return now + share;
}

/// @param subject  of an error: what it is about
net_fd* dial_address(std::string_view address, std::int64_t deadline_ns, std::string& subject,
                     std::error_code& ec) {
  std::string_view host;
  std::string_view service;
  subject = "tcp " + std::string(address);
  ec = net_errc::bad_address;
  if (!io::split_address(address, host, service)) return nullptr;
  const std::vector<endpoint> addresses = resolve(host, service, ec);
  if (ec) {
    subject = "tcp: lookup " + std::string(address);
    return nullptr;
  }
  net_fd* fd = nullptr;
  for (std::size_t i = 0; i < addresses.size() && fd == nullptr; ++i) {
    subject = "tcp " + addresses[i].to_string();
    ec = to_error_code(connect(addresses[i], share_of(deadline_ns, addresses.size() - i), fd));
  }
  return fd;
}

int listen_on(const endpoint& local, int backlog, net_fd*& out) noexcept {
  const int family = family_of(local);
  if (family == AF_UNSPEC) return -EAFNOSUPPORT;
  io::scoped_descriptor socket(os::socket_open(family, SOCK_STREAM, IPPROTO_TCP));
  if (socket.get() < 0) return socket.get();
  if (const int error = os::set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1); error < 0) {
    return error;
  }
  // "[::]" means every address, whatever the system's bindv6only says.
  if (family == AF_INET6) os::set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  set_defaults(socket.get());
  if (const int error = os::socket_bind(socket.get(), local.data(), local.size()); error < 0) {
    return error;
  }
  return io::start_listening(socket, backlog, net_kind::tcp_listener, out);
}

bool is_without_ipv6(int error) noexcept {
  return error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL;
}

}  // namespace

// ---------------------------------------------------------------------------------- tcp_conn

tcp_conn tcp_conn::dial(const endpoint& remote, time_point deadline,
                        std::error_code& ec) noexcept {
  net_fd* fd = nullptr;
  ec = to_error_code(connect(remote, to_ns(deadline), fd));
  return tcp_conn(fd);
}

tcp_conn tcp_conn::dial(const endpoint& remote, std::error_code& ec) noexcept {
  return dial(remote, no_deadline, ec);
}

tcp_conn tcp_conn::dial(const endpoint& remote, time_point deadline) {
  std::error_code ec;
  tcp_conn conn = dial(remote, deadline, ec);
  throw_if(ec, "dial", "tcp " + remote.to_string());
  return conn;
}

tcp_conn tcp_conn::dial(std::string_view address, time_point deadline, std::error_code& ec) {
  std::string subject;
  return tcp_conn(dial_address(address, to_ns(deadline), subject, ec));
}

tcp_conn tcp_conn::dial(std::string_view address, std::error_code& ec) {
  return dial(address, no_deadline, ec);
}

tcp_conn tcp_conn::dial(std::string_view address, time_point deadline) {
  std::error_code ec;
  std::string subject;
  net_fd* const fd = dial_address(address, to_ns(deadline), subject, ec);
  throw_if(ec, "dial", subject);
  return tcp_conn(fd);
}

tcp_conn tcp_conn::adopt(int descriptor, std::error_code& ec) noexcept {
  return tcp_conn(io::adopt(descriptor, net_kind::tcp, ec));
}
tcp_conn tcp_conn::adopt(int descriptor) {
  return tcp_conn(io::adopt(descriptor, net_kind::tcp));
}

void tcp_conn::set_no_delay(bool on, std::error_code& ec) noexcept {
  ec = to_error_code(fd_ == nullptr ? io::error_closed
                                    : fd_->set_option(IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0));
}

void tcp_conn::set_no_delay(bool on) {
  std::error_code ec;
  set_no_delay(on, ec);
  throw_if(ec, "set", fd_);
}

void tcp_conn::set_keep_alive(bool on, std::chrono::seconds idle, std::chrono::seconds interval,
                              int count, std::error_code& ec) noexcept {
  int error = io::error_closed;
  if (fd_ != nullptr) {
    const auto to_int = [](std::chrono::seconds s) {
      return static_cast<int>(std::clamp<std::int64_t>(s.count(), 0, INT_MAX));
    };
    error = fd_->set_option(SOL_SOCKET, SO_KEEPALIVE, on ? 1 : 0);
    if (error == 0 && on) error = fd_->set_option(IPPROTO_TCP, TCP_KEEPIDLE, to_int(idle));
    if (error == 0 && on) error = fd_->set_option(IPPROTO_TCP, TCP_KEEPINTVL, to_int(interval));
    if (error == 0 && on) error = fd_->set_option(IPPROTO_TCP, TCP_KEEPCNT, count);
  }
  ec = to_error_code(error);
}

void tcp_conn::set_keep_alive(bool on, std::chrono::seconds idle, std::chrono::seconds interval,
                              int count) {
  std::error_code ec;
  set_keep_alive(on, idle, interval, count, ec);
  throw_if(ec, "set", fd_);
}

void tcp_conn::set_linger(std::chrono::seconds s, std::error_code& ec) noexcept {
  linger option{};
  option.l_onoff = s.count() < 0 ? 0 : 1;
  option.l_linger = static_cast<int>(std::clamp<std::int64_t>(s.count(), 0, INT_MAX));
  ec = to_error_code(fd_ == nullptr
                         ? io::error_closed
                         : fd_->set_option(SOL_SOCKET, SO_LINGER, &option, sizeof option));
}

void tcp_conn::set_linger(std::chrono::seconds s) {
  std::error_code ec;
  set_linger(s, ec);
  throw_if(ec, "set", fd_);
}

// ------------------------------------------------------------------------------ tcp_listener

tcp_listener tcp_listener::listen(const endpoint& local, int backlog,
                                  std::error_code& ec) noexcept {
  net_fd* fd = nullptr;
  ec = to_error_code(listen_on(local, backlog, fd));
  return tcp_listener(fd);
}

tcp_listener tcp_listener::listen(const endpoint& local, int backlog) {
  std::error_code ec;
  tcp_listener listener = listen(local, backlog, ec);
  throw_if(ec, "listen", "tcp " + local.to_string());
  return listener;
}

tcp_listener tcp_listener::listen(std::string_view address, int backlog, std::error_code& ec) {
  std::string_view host;
  std::string_view service;
  ec = net_errc::bad_address;
  if (!io::split_address(address, host, service)) return {};
  std::vector<endpoint> addresses = resolve(host, service, ec);
  if (ec) return {};
  if (!host.empty()) return listen(addresses.front(), backlog, ec);
  const std::uint16_t port = addresses.front().port();
  net_fd* fd = nullptr;
  int error = listen_on(endpoint::ip("::", port), backlog, fd);
  if (is_without_ipv6(error)) error = listen_on(endpoint::ip("0.0.0.0", port), backlog, fd);
  ec = to_error_code(error);
  return tcp_listener(fd);
}

tcp_listener tcp_listener::listen(std::string_view address, std::error_code& ec) {
  return listen(address, 0, ec);
}

tcp_listener tcp_listener::listen(std::string_view address, int backlog) {
  std::error_code ec;
  tcp_listener listener = listen(address, backlog, ec);
  throw_if(ec, "listen", "tcp " + std::string(address));
  return listener;
}

tcp_listener tcp_listener::adopt(int descriptor, std::error_code& ec) noexcept {
  return tcp_listener(io::adopt(descriptor, net_kind::tcp_listener, ec));
}
tcp_listener tcp_listener::adopt(int descriptor) {
  return tcp_listener(io::adopt(descriptor, net_kind::tcp_listener));
}

tcp_conn tcp_listener::accept(std::error_code& ec) noexcept {
  return tcp_conn(io::accept(fd_, net_kind::tcp, ec));
}
tcp_conn tcp_listener::accept() { return tcp_conn(io::accept(fd_, net_kind::tcp)); }

}  // namespace tuco::inline v1
