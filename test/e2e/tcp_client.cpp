// SPDX-License-Identifier: Apache-2.0
#include "e2e/tcp_client.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "e2e/process.hpp"

namespace tuco::test {

tcp_client::tcp_client(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(std::string(address.substr(colon + 1)))));
  ::inet_pton(AF_INET, std::string(address.substr(0, colon)).c_str(), &to.sin_addr);
  descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor_ < 0 || ::connect(descriptor_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
    const int error = errno;
    close();
    throw std::system_error(error, std::system_category(), "connect to " + std::string(address));
  }
}

tcp_client::tcp_client(tcp_client&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), buffer_(std::move(other.buffer_)) {}

tcp_client& tcp_client::operator=(tcp_client&& other) noexcept {
  close();
  descriptor_ = std::exchange(other.descriptor_, -1);
  buffer_ = std::move(other.buffer_);
  return *this;
}

tcp_client::~tcp_client() { close(); }

bool tcp_client::send(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool tcp_client::receive() {
  pollfd wanted{descriptor_, POLLIN, 0};
  const int ready = ::poll(&wanted, 1, static_cast<int>(std::chrono::milliseconds(hang_limit).count()));
  if (ready == 0) throw waited_in_vain("waited in vain for the peer; it has sent so far:\n" + buffer_);
  char chunk[65536];
  ssize_t n;
  do {
    n = ::recv(descriptor_, chunk, sizeof chunk, 0);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) return false;
  buffer_.append(chunk, static_cast<std::size_t>(n));
  return true;
}

std::string tcp_client::read_until(std::string_view end) {
  std::size_t at;
  std::size_t seen = 0;
  while ((at = buffer_.find(end, seen)) == std::string::npos) {
    seen = buffer_.size() < end.size() ? 0 : buffer_.size() - end.size();
    if (!receive()) return std::exchange(buffer_, {});
  }
  std::string text = buffer_.substr(0, at + end.size());
  buffer_.erase(0, at + end.size());
  return text;
}

std::string tcp_client::read(std::size_t n) {
  while (buffer_.size() < n && receive()) {
  }
  std::string text = buffer_.substr(0, n);
  buffer_.erase(0, text.size());
  return text;
}

std::string tcp_client::read_all() {
  while (receive()) {
  }
  return std::exchange(buffer_, {});
}

bool tcp_client::at_end() {
  return buffer_.empty() && !receive();
}

void tcp_client::finish() { ::shutdown(descriptor_, SHUT_WR); }

bool tcp_client::has_something() const {
  pollfd wanted{descriptor_, POLLIN, 0};
  return !buffer_.empty() || ::poll(&wanted, 1, 0) > 0;
}

void tcp_client::reset() {
  const linger drop{1, 0};
  ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &drop, sizeof drop);
  close();
}

void tcp_client::set_no_delay() {
  const int on = 1;
  ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void tcp_client::close() {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

}  // namespace tuco::test
