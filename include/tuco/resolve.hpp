// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file tuco/resolve.hpp
/// `endpoint`, a socket address, and `resolve`, from names to addresses.
///
///     text                     parse() gives                  listen()             dial()
///     127.0.0.1:80             IPv4                           that address         that address
///     [::1]:80                 IPv6                           that address         that address
///     [fe80::1%eth0]:80        IPv6 with a zone               that address         that address
///     :80                      IPv6, unspecified              all addresses,       this machine
///                                                             IPv4 and IPv6
///     localhost:http           bad_address                    what resolve() says  what resolve() says
///     /run/app.sock            (unix_path() makes these)
///     @name                    (abstract: in no file system)
///
/// **Thread safety.** Values; resolve() may be called by any number of goroutines.
/// **Blocking.** parse() never. resolve() asks the system's own resolver (getaddrinfo, so /etc/hosts,
/// nsswitch.conf and the like hold) and blocks the *thread* meanwhile; its processor is taken for
/// others. It cannot be cancelled: the resolver's own time-outs apply. Numbers are not looked up.

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <tuco/config.hpp>
#include <tuco/io.hpp>

namespace tuco::inline v1 {

class TUCO_API endpoint {
 public:
  enum class family : std::uint8_t { none, ipv4, ipv6, unix_path };

  /// No address.
  endpoint() noexcept = default;
  /// From what a system call filled in. Cut off after 110 bytes.
  endpoint(const void* address, std::size_t size) noexcept;

  /// From the numeric forms of the table.
  /// @throws net_error, net_errc::bad_address
  static endpoint parse(std::string_view text);
  static endpoint parse(std::string_view text, std::error_code& ec) noexcept;

  /// A numeric IPv4 or IPv6 address, without brackets, and a port.
  /// @throws net_error, net_errc::bad_address
  static endpoint ip(std::string_view address, std::uint16_t port);
  static endpoint ip(std::string_view address, std::uint16_t port, std::error_code& ec) noexcept;

  /// The path of a unix socket, at most 107 bytes. A leading '@' makes it abstract.
  /// @throws net_error, net_errc::bad_address when it is empty or too long
  static endpoint unix_path(std::string_view path);
  static endpoint unix_path(std::string_view path, std::error_code& ec) noexcept;

  [[nodiscard]] family kind() const noexcept;
  /// Of IPv4 and IPv6, else 0.
  [[nodiscard]] std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;

  /// "127.0.0.1:80", "[::1]:80", "/run/app.sock", "@name"; empty for no address and for an unnamed
  /// unix socket. parse() and unix_path() take it back.
  [[nodiscard]] std::string to_string() const;

  /// For system calls.
  [[nodiscard]] const sockaddr* data() const noexcept {
    return reinterpret_cast<const sockaddr*>(bytes_);
  }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }

  friend TUCO_API bool operator==(const endpoint& a, const endpoint& b) noexcept;

 private:
  socklen_t size_ = 0;
  alignas(4) unsigned char bytes_[112] = {};
};

/// The TCP addresses of a host and a service, in the order in which the system prefers them.
/// @param host     a name or a numeric address; empty: this machine
/// @param service  a number or a name ("http")
/// @return At least one.
/// @throws net_error: net_errc::no_such_host, net_errc::lookup_failed (what() has the resolver's
///         words), net_errc::bad_address for a service that does not exist
std::vector<endpoint> TUCO_API resolve(std::string_view host, std::string_view service);
std::vector<endpoint> TUCO_API resolve(std::string_view host, std::string_view service,
                                       std::error_code& ec);

}  // namespace tuco::inline v1
