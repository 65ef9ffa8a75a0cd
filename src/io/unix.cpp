// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <sys/un.h>

#include <tuco/unix.hpp>

#include <algorithm>
#include <climits>
#include <string>

#include "io/net_error.hpp"
#include "io/net_fd.hpp"
#include "io/socket_setup.hpp"
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

int connect(const endpoint& remote, std::int64_t deadline_ns, net_fd*& out) noexcept {
  if (deadline_ns <= os::steady_now_ns()) return io::error_deadline;
  io::scoped_descriptor socket(os::socket_open(AF_UNIX, SOCK_STREAM, 0));
  if (socket.get() < 0) return socket.get();
  // A unix socket connects at once or, with the listener's backlog full, says EAGAIN; the kernel
  // offers no event for "there is room now". So: again after a while, 1 ms doubling up to 100 ms.
  for (std::int64_t pause = 1'000'000;; pause = std::min<std::int64_t>(pause * 2, 100'000'000)) {
    const int error = os::socket_connect(socket.get(), remote.data(), remote.size());
    if (error == 0) break;
    if (error != -EAGAIN && error != -EINPROGRESS) return error;
    if (!io::pause_for(pause, deadline_ns)) return io::error_deadline;
  }
  const int error = net_fd::open(socket.get(), net_kind::unix_stream, &remote, out);
  if (error == 0) socket.taken();
  return error;
}

int listen_on(const endpoint& local, int backlog, net_fd*& out) noexcept {
  io::scoped_descriptor socket(os::socket_open(AF_UNIX, SOCK_STREAM, 0));
  if (socket.get() < 0) return socket.get();
  if (const int error = os::socket_bind(socket.get(), local.data(), local.size()); error < 0) {
    return error;
  }
  const int error = io::start_listening(socket, backlog, net_kind::unix_listener, out);
  if (error < 0) {
    // bind() has made the name.
    const auto* name = reinterpret_cast<const sockaddr_un*>(local.data());
    if (name->sun_path[0] != 0) os::remove_name(name->sun_path);
  }
  return error;
}

}  // namespace

// --------------------------------------------------------------------------------- unix_conn

unix_conn unix_conn::dial(std::string_view path, time_point deadline,
                          std::error_code& ec) noexcept {
  const endpoint remote = endpoint::unix_path(path, ec);
  if (ec) return {};
  net_fd* fd = nullptr;
  ec = to_error_code(connect(remote, to_ns(deadline), fd));
  return unix_conn(fd);
}

unix_conn unix_conn::dial(std::string_view path, std::error_code& ec) noexcept {
  return dial(path, no_deadline, ec);
}

unix_conn unix_conn::dial(std::string_view path, time_point deadline) {
  std::error_code ec;
  unix_conn conn = dial(path, deadline, ec);
  throw_if(ec, "dial", "unix " + std::string(path));
  return conn;
}

std::pair<unix_conn, unix_conn> unix_conn::pair(std::error_code& ec) noexcept {
  int ends[2];
  int error = os::socket_pair(SOCK_STREAM, ends);
  if (error < 0) {
    ec = to_error_code(error);
    return {};
  }
  io::scoped_descriptor first(ends[0]);
  io::scoped_descriptor second(ends[1]);
  std::pair<unix_conn, unix_conn> result;
  for (auto* end : {&first, &second}) {
    net_fd* fd = nullptr;
    error = net_fd::open(end->get(), net_kind::unix_stream, nullptr, fd);
    if (error < 0) {
      ec = to_error_code(error);
      return {};
    }
    end->taken();
    (end == &first ? result.first : result.second) = unix_conn(fd);
  }
  ec.clear();
  return result;
}

std::pair<unix_conn, unix_conn> unix_conn::pair() {
  std::error_code ec;
  auto result = pair(ec);
  throw_if(ec, "pair", std::string("unix"));
  return result;
}

unix_conn unix_conn::adopt(int descriptor, std::error_code& ec) noexcept {
  return unix_conn(io::adopt(descriptor, net_kind::unix_stream, ec));
}
unix_conn unix_conn::adopt(int descriptor) {
  return unix_conn(io::adopt(descriptor, net_kind::unix_stream));
}

unix_conn::credentials unix_conn::peer_credentials(std::error_code& ec) const noexcept {
  ucred who{};
  socklen_t size = sizeof who;
  const int error =
      fd_ == nullptr ? io::error_closed : fd_->get_option(SOL_SOCKET, SO_PEERCRED, &who, &size);
  ec = to_error_code(error);
  if (error < 0) return {};
  return {who.pid, who.uid, who.gid};
}

unix_conn::credentials unix_conn::peer_credentials() const {
  std::error_code ec;
  const credentials who = peer_credentials(ec);
  throw_if(ec, "get", fd_);
  return who;
}

// ----------------------------------------------------------------------------- unix_listener

unix_listener unix_listener::listen(std::string_view path, int backlog,
                                    std::error_code& ec) noexcept {
  const endpoint local = endpoint::unix_path(path, ec);
  if (ec) return {};
  net_fd* fd = nullptr;
  ec = to_error_code(listen_on(local, backlog, fd));
  if (fd != nullptr) fd->set_unlink(true);
  return unix_listener(fd);
}

unix_listener unix_listener::listen(std::string_view path, std::error_code& ec) noexcept {
  return listen(path, 0, ec);
}

unix_listener unix_listener::listen(std::string_view path, int backlog) {
  std::error_code ec;
  unix_listener listener = listen(path, backlog, ec);
  throw_if(ec, "listen", "unix " + std::string(path));
  return listener;
}

unix_listener unix_listener::adopt(int descriptor, std::error_code& ec) noexcept {
  return unix_listener(io::adopt(descriptor, net_kind::unix_listener, ec));
}
unix_listener unix_listener::adopt(int descriptor) {
  return unix_listener(io::adopt(descriptor, net_kind::unix_listener));
}

unix_conn unix_listener::accept(std::error_code& ec) noexcept {
  return unix_conn(io::accept(fd_, net_kind::unix_stream, ec));
}
unix_conn unix_listener::accept() { return unix_conn(io::accept(fd_, net_kind::unix_stream)); }

void unix_listener::set_unlink(bool on) noexcept {
  if (fd_ != nullptr) fd_->set_unlink(on);
}

}  // namespace tuco::inline v1
