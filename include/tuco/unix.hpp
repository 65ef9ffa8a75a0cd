// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/unix.hpp
/// Stream sockets between processes of one machine: `unix_listener` and `unix_conn`.
///
/// An address is a path of at most 107 bytes, or `@name` for the abstract name space, which lives in
/// no file system and vanishes with its last socket.
///
/// Thread safety, the two forms of errors, and who owns the descriptor: see tuco/io.hpp.

#include <chrono>
#include <string_view>
#include <system_error>
#include <utility>

#include <tuco/config.hpp>
#include <tuco/io.hpp>
#include <tuco/resolve.hpp>

namespace tuco::inline v1 {

class TUCO_API unix_conn : public stream_conn {
 public:
  unix_conn() noexcept = default;

  /// Connects to a listener. While its backlog is full, waits and tries again until the deadline.
  /// @throws net_error: `dial unix /run/app.sock: no such file or directory`
  static unix_conn dial(std::string_view path, time_point deadline = no_deadline);
  static unix_conn dial(std::string_view path, std::error_code& ec) noexcept;
  static unix_conn dial(std::string_view path, time_point deadline, std::error_code& ec) noexcept;

  /// Two ends that are connected to each other (socketpair).
  static std::pair<unix_conn, unix_conn> pair();
  static std::pair<unix_conn, unix_conn> pair(std::error_code& ec) noexcept;

  /// Takes over a connected stream socket, which becomes non-blocking. On failure it stays the
  /// caller's.
  static unix_conn adopt(int descriptor);
  static unix_conn adopt(int descriptor, std::error_code& ec) noexcept;

  /// Who is at the other end, as the kernel saw it when the connection was made.
  struct credentials {
    int pid = 0;
    unsigned uid = 0;
    unsigned gid = 0;
  };
  [[nodiscard]] credentials peer_credentials() const;
  [[nodiscard]] credentials peer_credentials(std::error_code& ec) const noexcept;

 private:
  friend class unix_listener;
  using stream_conn::stream_conn;
};

class TUCO_API unix_listener : public socket_handle {
 public:
  unix_listener() noexcept = default;

  /// Listens on a path that must not exist yet. The path is removed again by close(), see
  /// set_unlink().
  /// @throws net_error: `listen unix /run/app.sock: address already in use`
  static unix_listener listen(std::string_view path, int backlog = 0);
  static unix_listener listen(std::string_view path, int backlog, std::error_code& ec) noexcept;
  static unix_listener listen(std::string_view path, std::error_code& ec) noexcept;

  /// Takes over a listening socket; its path is left alone by close().
  static unix_listener adopt(int descriptor);
  static unix_listener adopt(int descriptor, std::error_code& ec) noexcept;

  /// As tcp_listener's.
  unix_conn accept();
  unix_conn accept(std::error_code& ec) noexcept;

  /// Whether close() removes the path. On after listen(), off after adopt().
  void set_unlink(bool on) noexcept;

 private:
  explicit unix_listener(io::net_fd* fd) noexcept : socket_handle(fd) {}
};

}  // namespace tuco::inline v1
