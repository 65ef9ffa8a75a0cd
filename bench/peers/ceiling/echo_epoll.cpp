// SPDX-License-Identifier: Apache-2.0
// The ceiling of the echo benchmark: one thread, one epoll, no goroutines, no timers, no fairness. What a
// runtime loses against this is what it does besides the system calls.
//
//   echo_epoll     prints `listening PORT`, serves until it is killed
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

int listen_somewhere() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0) fail("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, generic, size) != 0 || ::listen(listener, 4096) != 0 ||
      ::getsockname(listener, generic, &size) != 0) {
    fail("listen");
  }
  std::printf("listening %d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  return listener;
}

void watch(int poller, int fd) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.fd = fd;
  if (::epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl");
}

/// Answers what is there. A short read has emptied the socket: no second call to hear so.
void serve(int fd) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n < 0) return;  // nothing there, or the peer is gone: the next event tells
    if (n == 0 || ::send(fd, buffer.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL) != n) {
      ::close(fd);
      return;
    }
    if (static_cast<std::size_t>(n) < buffer.size()) return;
  }
}

}  // namespace

int main() {
  const int listener = listen_somewhere();
  const int poller = ::epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) fail("epoll_create1");
  watch(poller, listener);
  std::array<epoll_event, 128> events;
  for (;;) {
    const int count = ::epoll_wait(poller, events.data(), events.size(), -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd != listener) {
        serve(fd);
        continue;
      }
      for (;;) {
        const int connection = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (connection < 0) break;
        const int on = 1;
        ::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(poller, connection);
      }
    }
  }
}
