// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <tuco/resolve.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "io/net_error.hpp"
#include "io/split_address.hpp"

namespace tuco::inline v1 {
namespace {

constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);

// Addresses lie in bytes; copying in and out is what the aliasing rules ask for, and free.
template <class A>
A as(const unsigned char* bytes, std::size_t size) noexcept {
  A address{};
  std::memcpy(&address, bytes, std::min(size, sizeof address));
  return address;
}

sa_family_t family_of(const unsigned char* bytes, std::size_t size) noexcept {
  if (size < sizeof(sa_family_t)) return AF_UNSPEC;
  sa_family_t family{};
  std::memcpy(&family, bytes + offsetof(sockaddr, sa_family), sizeof family);
  return family;
}

bool parse_port(std::string_view text, std::uint16_t& port) noexcept {
  if (text.empty()) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

namespace io {

bool split_address(std::string_view text, std::string_view& host,
                   std::string_view& service) noexcept {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  host = text.substr(0, colon);
  service = text.substr(colon + 1);
  if (!host.empty() && host.front() == '[') {
    if (host.back() != ']' || host.size() < 3) return false;
    host = host.substr(1, host.size() - 2);
    return host.find_first_of("[]") == std::string_view::npos;
  }
  // A bare IPv6 address has more colons; which one separates the port cannot be known.
  return host.find_first_of(":[]") == std::string_view::npos;
}

}  // namespace io

endpoint::endpoint(const void* address, std::size_t size) noexcept
    : size_(static_cast<socklen_t>(std::min(size, sizeof bytes_ - 2))) {
  if (size_ != 0) std::memcpy(bytes_, address, size_);
}

endpoint endpoint::ip(std::string_view address, std::uint16_t port, std::error_code& ec) noexcept {
  ec.clear();
  char text[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
  if (address.size() < sizeof text) {
    std::memcpy(text, address.data(), address.size());
    text[address.size()] = 0;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    if (::inet_pton(AF_INET, text, &v4.sin_addr) == 1) return {&v4, sizeof v4};

    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    bool zone_is_known = true;
    if (char* percent = std::strchr(text, '%'); percent != nullptr) {
      *percent = 0;
      std::uint32_t number = 0;
      const char* end = percent + 1 + std::strlen(percent + 1);
      const auto parsed = std::from_chars(percent + 1, end, number);
      v6.sin6_scope_id = parsed.ec == std::errc() && parsed.ptr == end && end != percent + 1
                             ? number
                             : ::if_nametoindex(percent + 1);
      zone_is_known = v6.sin6_scope_id != 0;
    }
    if (zone_is_known && ::inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) return {&v6, sizeof v6};
  }
  ec = net_errc::bad_address;
  return {};
}

endpoint endpoint::ip(std::string_view address, std::uint16_t port) {
  std::error_code ec;
  endpoint result = ip(address, port, ec);
  io::throw_if(ec, "address", std::string(address));
  return result;
}

endpoint endpoint::parse(std::string_view text, std::error_code& ec) noexcept {
  ec.clear();
  std::string_view host;
  std::string_view service;
  std::uint16_t port = 0;
  if (!io::split_address(text, host, service) || !parse_port(service, port)) {
    ec = net_errc::bad_address;
    return {};
  }
  if (host.empty()) return ip("::", port, ec);
  // "[127.0.0.1]:80" is not an address: brackets are for colons.
  const bool brackets = text.front() == '[';
  if (brackets != (host.find(':') != std::string_view::npos)) {
    ec = net_errc::bad_address;
    return {};
  }
  return ip(host, port, ec);
}

endpoint endpoint::parse(std::string_view text) {
  std::error_code ec;
  endpoint result = parse(text, ec);
  io::throw_if(ec, "address", std::string(text));
  return result;
}

endpoint endpoint::unix_path(std::string_view path, std::error_code& ec) noexcept {
  ec.clear();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const bool abstract = !path.empty() && path.front() == '@';
  // One byte is left for the zero that ends a path; an abstract name has its length instead.
  if (path.empty() || path.size() >= sizeof address.sun_path ||
      (!abstract && path.find('\0') != std::string_view::npos)) {
    ec = net_errc::bad_address;
    return {};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (abstract) address.sun_path[0] = 0;
  return {&address, path_offset + path.size() + (abstract ? 0 : 1)};
}

endpoint endpoint::unix_path(std::string_view path) {
  std::error_code ec;
  endpoint result = unix_path(path, ec);
  io::throw_if(ec, "address", std::string(path));
  return result;
}

endpoint::family endpoint::kind() const noexcept {
  switch (family_of(bytes_, size_)) {
    case AF_INET: return family::ipv4;
    case AF_INET6: return family::ipv6;
    case AF_UNIX: return family::unix_path;
    default: return family::none;
  }
}

// The port lies at the same place in both.
static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));

std::uint16_t endpoint::port() const noexcept {
  if (kind() != family::ipv4 && kind() != family::ipv6) return 0;
  return ntohs(as<sockaddr_in>(bytes_, size_).sin_port);
}

void endpoint::set_port(std::uint16_t port) noexcept {
  if (kind() != family::ipv4 && kind() != family::ipv6) return;
  const in_port_t network_order = htons(port);
  std::memcpy(bytes_ + offsetof(sockaddr_in, sin_port), &network_order, sizeof network_order);
}

std::string endpoint::to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  switch (kind()) {
    case family::none: return {};
    case family::ipv4: {
      const auto address = as<sockaddr_in>(bytes_, size_);
      ::inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
      return std::string(text) + ':' + std::to_string(port());
    }
    case family::ipv6: {
      const auto address = as<sockaddr_in6>(bytes_, size_);
      // An IPv4 peer of a listener for both: people know it by its IPv4 address.
      if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
        ::inet_ntop(AF_INET, address.sin6_addr.s6_addr + 12, text, sizeof text);
        return std::string(text) + ':' + std::to_string(port());
      }
      ::inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof text);
      std::string result = std::string("[") + text;
      if (address.sin6_scope_id != 0) {
        char name[IF_NAMESIZE] = {};
        result += '%';
        result += ::if_indextoname(address.sin6_scope_id, name) != nullptr
                      ? std::string(name)
                      : std::to_string(address.sin6_scope_id);
      }
      return result + "]:" + std::to_string(port());
    }
    case family::unix_path: {
      if (size_ <= path_offset) return {};
      const char* path = reinterpret_cast<const char*>(bytes_) + path_offset;
      const std::size_t length = size_ - path_offset;
      if (path[0] != 0) return {path, ::strnlen(path, length)};
      std::string name(path, length);
      name[0] = '@';
      return name;
    }
  }
  return {};
}

bool operator==(const endpoint& a, const endpoint& b) noexcept {
  return a.size_ == b.size_ && std::memcmp(a.bytes_, b.bytes_, a.size_) == 0;
}

}  // namespace tuco::inline v1
