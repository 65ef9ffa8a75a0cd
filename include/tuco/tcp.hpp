// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/tcp.hpp
/// TCP: `tcp_listener` and `tcp_conn`.
///
///     auto listener = tuco::tcp_listener::listen("127.0.0.1:7");
///     for (;;) {
///       tuco::go([conn = listener.accept()]() mutable {
///         char buffer[4096];
///         while (std::size_t n = conn.read_some(buffer)) conn.write({buffer, n});
///       });
///     }
///
/// Thread safety, the two forms of errors, and who owns the descriptor: see tuco/io.hpp.

#include <chrono>
#include <cstdint>
#include <string_view>
#include <system_error>

#include <tuco/config.hpp>
#include <tuco/io.hpp>
#include <tuco/resolve.hpp>

namespace tuco::inline v1 {

/// A TCP connection. Nagle's delay is off and keep-alive is on (first probe after 15 s of silence, 9
/// probes 15 s apart), as in Go.
class TUCO_API tcp_conn : public stream_conn {
 public:
  tcp_conn() noexcept = default;

  /// Connects to "host:port". A name's addresses are tried in turn until one answers, each with its
  /// share of the time that is left. The deadline is not kept for the connection.
  /// @throws net_error: `dial tcp 127.0.0.1:1: connection refused`; of several addresses the last
  ///         one's reason; what resolve() throws
  static tcp_conn dial(std::string_view address, time_point deadline = no_deadline);
  static tcp_conn dial(std::string_view address, std::error_code& ec);
  static tcp_conn dial(std::string_view address, time_point deadline, std::error_code& ec);
  static tcp_conn dial(const endpoint& remote, time_point deadline = no_deadline);
  static tcp_conn dial(const endpoint& remote, std::error_code& ec) noexcept;
  static tcp_conn dial(const endpoint& remote, time_point deadline, std::error_code& ec) noexcept;

  /// Takes over a connected socket, which becomes non-blocking; its options stay as they are. On
  /// failure it stays the caller's.
  static tcp_conn adopt(int descriptor);
  static tcp_conn adopt(int descriptor, std::error_code& ec) noexcept;

  /// True: what is written leaves at once, in small segments if need be. False: Nagle's algorithm.
  void set_no_delay(bool on);
  void set_no_delay(bool on, std::error_code& ec) noexcept;

  /// Probes a silent peer, so that one that vanished is noticed (std::errc::timed_out, of the
  /// system category) after about idle + interval * count.
  void set_keep_alive(bool on, std::chrono::seconds idle = std::chrono::seconds(15),
                      std::chrono::seconds interval = std::chrono::seconds(15), int count = 9);
  void set_keep_alive(bool on, std::chrono::seconds idle, std::chrono::seconds interval, int count,
                      std::error_code& ec) noexcept;

  /// How close() treats data that the peer has not acknowledged: negative (the default) goes on
  /// delivering it in the background; 0 drops it and resets the connection.
  void set_linger(std::chrono::seconds s);
  void set_linger(std::chrono::seconds s, std::error_code& ec) noexcept;

 private:
  friend class tcp_listener;
  using stream_conn::stream_conn;
};

/// Accepts TCP connections.
class TUCO_API tcp_listener : public socket_handle {
 public:
  tcp_listener() noexcept = default;

  /// Listens on "host:port"; port 0 lets the system choose (see local_endpoint()). An empty host is
  /// every address of this machine, IPv4 and IPv6. The address may be taken again right after an
  /// earlier listener (SO_REUSEADDR).
  /// @param backlog  connections that the kernel completes before they are accepted; 0: the
  ///                 system's maximum (net.core.somaxconn)
  /// @throws net_error: `listen tcp 127.0.0.1:80: address already in use`
  static tcp_listener listen(std::string_view address, int backlog = 0);
  static tcp_listener listen(std::string_view address, int backlog, std::error_code& ec);
  static tcp_listener listen(std::string_view address, std::error_code& ec);
  static tcp_listener listen(const endpoint& local, int backlog = 0);
  static tcp_listener listen(const endpoint& local, int backlog, std::error_code& ec) noexcept;

  /// Takes over a listening socket (of systemd, say), which becomes non-blocking. Connections inherit
  /// the options it has.
  static tcp_listener adopt(int descriptor);
  static tcp_listener adopt(int descriptor, std::error_code& ec) noexcept;

  /// Waits for the next connection. When the process or the system has no descriptor left, it waits
  /// and tries again (5 ms, doubling up to 1 s) instead of failing: the connection stays in the
  /// kernel's queue. Connections that ended before they were accepted are passed over.
  /// @throws net_error: std::errc::timed_out, net_errc::closed (after close()), std::errc::not_enough_memory
  tcp_conn accept();
  tcp_conn accept(std::error_code& ec) noexcept;

 private:
  explicit tcp_listener(io::net_fd* fd) noexcept : socket_handle(fd) {}
};

}  // namespace tuco::inline v1
