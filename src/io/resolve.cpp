// SPDX-License-Identifier: Apache-2.0
#include "os/resolve.hpp"

#include <tuco/resolve.hpp>

#include <algorithm>
#include <charconv>

#include "io/net_error.hpp"

namespace tuco::inline v1 {
namespace {

std::error_code code_of(int result) noexcept {
  if (result <= -1000) return {-1000 - result, std::system_category()};
  switch (result) {
    case EAI_NONAME:
    case EAI_NODATA: return net_errc::no_such_host;
    case EAI_SERVICE: return net_errc::bad_address;
    case EAI_MEMORY: return std::make_error_code(std::errc::not_enough_memory);
    default: return net_errc::lookup_failed;
  }
}

bool parse_port(std::string_view service, std::uint16_t& port) noexcept {
  const char* end = service.data() + service.size();
  const auto parsed = std::from_chars(service.data(), end, port);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

// What has no letter is no service's name. glibc takes numbers that have a sign or do not fit, and cuts
// them down to 16 bits.
bool may_be_name(std::string_view service) noexcept {
  return std::any_of(service.begin(), service.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  });
}

// Numbers need no resolver, which would read files for them and block the thread meanwhile.
bool numeric(std::string_view host, std::string_view service, std::vector<endpoint>& out) {
  std::uint16_t port = 0;
  if (!parse_port(service, port)) return false;
  if (host.empty()) {
    out = {endpoint::ip("127.0.0.1", port), endpoint::ip("::1", port)};
    return true;
  }
  std::error_code ec;
  const endpoint address = endpoint::ip(host, port, ec);
  if (ec) return false;
  out = {address};
  return true;
}

std::vector<endpoint> look_up(std::string_view host, std::string_view service,
                              std::error_code& ec, std::string* words) {
  ec.clear();
  std::vector<endpoint> found;
  if (numeric(host, service, found)) return found;
  std::uint16_t port = 0;
  // A zero inside would end the name early: another host than the one that was asked for.
  if (host.find('\0') != std::string_view::npos || service.find('\0') != std::string_view::npos ||
      (!may_be_name(service) && !parse_port(service, port))) {
    ec = net_errc::bad_address;
    return found;
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const std::string host_text(host);
  const std::string service_text(service);
  const int result =
      os::look_up(host.empty() ? nullptr : host_text.c_str(), service_text.c_str(), hints, &list);
  if (result != 0) {
    ec = code_of(result);
    if (ec == net_errc::lookup_failed && words != nullptr) *words = os::look_up_error(result);
    return found;
  }
  struct owner {
    addrinfo* list;
    ~owner() { os::free_addresses(list); }
  } owned{list};
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    if (a->ai_family == AF_INET || a->ai_family == AF_INET6) {
      found.emplace_back(a->ai_addr, a->ai_addrlen);
    }
  }
  if (found.empty()) ec = net_errc::no_such_host;
  return found;
}

}  // namespace

std::vector<endpoint> resolve(std::string_view host, std::string_view service,
                              std::error_code& ec) {
  return look_up(host, service, ec, nullptr);
}

std::vector<endpoint> resolve(std::string_view host, std::string_view service) {
  std::error_code ec;
  std::string words;
  std::vector<endpoint> found = look_up(host, service, ec, &words);
  std::string subject(ec == net_errc::bad_address ? service : host);
  if (!words.empty()) subject += " (" + words + ")";
  io::throw_if(ec, "lookup", subject);
  return found;
}

}  // namespace tuco::inline v1
