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
  int error = os::socket_listen(socket.get(), backlog <= 0 ? INT_MAX : backlog);
  if (error == 0) error = net_fd::open(socket.get(), net_kind::unix_listener, nullptr, out);
  if (error == 0) {
    socket.taken();
  } else {
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
  net_fd* fd = nullptr;
  ec = to_error_code(io::adopt(descriptor, AF_UNIX, false, net_kind::unix_stream, fd));
  return unix_conn(fd);
}

unix_conn unix_conn::adopt(int descriptor) {
  std::error_code ec;
  unix_conn conn = adopt(descriptor, ec);
  throw_if(ec, "adopt", "unix descriptor " + std::to_string(descriptor));
  return conn;
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

unix_listener& unix_listener::operator=(unix_listener&& other) noexcept {
  if (this != &other) {
    if (fd_ != nullptr) net_fd::destroy(fd_);
    fd_ = other.fd_;
    other.fd_ = nullptr;
  }
  return *this;
}

unix_listener::~unix_listener() {
  if (fd_ != nullptr) net_fd::destroy(fd_);
}

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
  net_fd* fd = nullptr;
  ec = to_error_code(io::adopt(descriptor, AF_UNIX, true, net_kind::unix_listener, fd));
  return unix_listener(fd);
}

unix_listener unix_listener::adopt(int descriptor) {
  std::error_code ec;
  unix_listener listener = adopt(descriptor, ec);
  throw_if(ec, "adopt", "unix descriptor " + std::to_string(descriptor));
  return listener;
}

unix_conn unix_listener::accept(std::error_code& ec) noexcept {
  int error = 0;
  net_fd* fd = io::accept(fd_, net_kind::unix_stream, error);
  ec = to_error_code(error);
  return unix_conn(fd);
}

unix_conn unix_listener::accept() {
  std::error_code ec;
  unix_conn conn = accept(ec);
  throw_if(ec, "accept", fd_);
  return conn;
}

void unix_listener::set_deadline(time_point t, std::error_code& ec) noexcept {
  ec = to_error_code(fd_ == nullptr ? io::error_closed : fd_->set_deadline(true, false, to_ns(t)));
}

void unix_listener::set_deadline(time_point t) {
  std::error_code ec;
  set_deadline(t, ec);
  throw_if(ec, "set", fd_);
}

endpoint unix_listener::local_endpoint() const noexcept {
  return fd_ == nullptr ? endpoint() : fd_->local();
}

bool unix_listener::is_open() const noexcept { return fd_ != nullptr && fd_->is_open(); }
int unix_listener::native_handle() const noexcept {
  return fd_ == nullptr ? -1 : fd_->descriptor();
}

void unix_listener::set_unlink(bool on) noexcept {
  if (fd_ != nullptr) fd_->set_unlink(on);
}

bool unix_listener::close() noexcept { return fd_ != nullptr && fd_->close(); }
int unix_listener::release() noexcept { return fd_ == nullptr ? -1 : fd_->release(); }

}  // namespace tuco::inline v1
