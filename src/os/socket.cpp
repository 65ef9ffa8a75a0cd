// SPDX-License-Identifier: Apache-2.0
#include "os/socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "os/clock.hpp"

namespace tuco::inline v1::os {

int socket_open(int family, int type, int protocol) noexcept {
  return system_call(call::socket, [&] {
    return ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  });
}

int socket_pair(int type, int out[2]) noexcept {
  return system_call(call::socket, [&] {
    return ::socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, out);
  });
}

int socket_bind(int descriptor, const void* address, socklen_t size) noexcept {
  return system_call(call::bind, [&] {
    return ::bind(descriptor, static_cast<const sockaddr*>(address), size);
  });
}

int socket_listen(int descriptor, int backlog) noexcept {
  return system_call(call::listen, [&] { return ::listen(descriptor, backlog); });
}

int socket_accept(int descriptor, void* address, socklen_t* size) noexcept {
  return retry_eintr([&] {
    return system_call(call::accept, [&] {
      return ::accept4(descriptor, static_cast<sockaddr*>(address), size,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    });
  });
}

int socket_connect(int descriptor, const void* address, socklen_t size) noexcept {
  int& error = thread_errno();
  const int before = error;
  // These two say that the call was made and goes on, so a fault with them comes after the fact.
  const int fault = injected_fault(call::connect);
  if (fault != 0 && fault != EINTR && fault != EINPROGRESS) return -fault;
  int result = ::connect(descriptor, static_cast<const sockaddr*>(address), size) < 0 ? -error : 0;
  error = before;
  if (fault != 0) result = -fault;
  return result == -EINTR ? -EINPROGRESS : result;
}

int socket_error(int descriptor) noexcept {
  const int result = get_option(descriptor, SOL_SOCKET, SO_ERROR);
  return result > 0 ? -result : result;
}

int socket_shutdown(int descriptor, int how) noexcept {
  return system_call(call::shutdown, [&] { return ::shutdown(descriptor, how); });
}

int socket_name(int descriptor, void* address, socklen_t* size) noexcept {
  return system_call(call::sockname, [&] {
    return ::getsockname(descriptor, static_cast<sockaddr*>(address), size);
  });
}

int socket_peer(int descriptor, void* address, socklen_t* size) noexcept {
  return system_call(call::sockname, [&] {
    return ::getpeername(descriptor, static_cast<sockaddr*>(address), size);
  });
}

int set_option(int descriptor, int level, int option, int value) noexcept {
  return set_option(descriptor, level, option, &value, sizeof value);
}

int set_option(int descriptor, int level, int option, const void* value, socklen_t size) noexcept {
  return system_call(call::sockopt,
                     [&] { return ::setsockopt(descriptor, level, option, value, size); });
}

int get_option(int descriptor, int level, int option, void* value, socklen_t* size) noexcept {
  return system_call(call::sockopt,
                     [&] { return ::getsockopt(descriptor, level, option, value, size); });
}

int get_option(int descriptor, int level, int option) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  const int result = get_option(descriptor, level, option, &value, &size);
  return result < 0 ? result : value;
}

ssize_t socket_receive(int descriptor, void* data, std::size_t size) noexcept {
  return retry_eintr([&] {
    return system_call(call::recv, [&] { return ::recv(descriptor, data, size, 0); });
  });
}

ssize_t socket_send(int descriptor, const void* data, std::size_t size) noexcept {
  return retry_eintr([&] {
    return system_call(call::send, [&] { return ::send(descriptor, data, size, MSG_NOSIGNAL); });
  });
}

ssize_t socket_send_vector(int descriptor, const iovec* parts, std::size_t count) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);  // the kernel only reads it
  message.msg_iovlen = count;
  return retry_eintr([&] {
    return system_call(call::send, [&] { return ::sendmsg(descriptor, &message, MSG_NOSIGNAL); });
  });
}

ssize_t socket_send_file(int descriptor, int file, std::int64_t* offset,
                         std::size_t size) noexcept {
  // sendfile has no MSG_NOSIGNAL, and the program's disposition of SIGPIPE is not ours to change. The
  // signal is directed at this thread: blocked around the call, and taken out of the queue if the
  // call raised it and none was pending before. It may raise it and still answer with the bytes it
  // had sent until then: any answer but the full size is suspicious.
  sigset_t pipe_only;
  sigset_t before;
  sigset_t pending;
  ::sigemptyset(&pipe_only);
  ::sigaddset(&pipe_only, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
  const bool had_one = ::sigpending(&pending) == 0 && ::sigismember(&pending, SIGPIPE) == 1;
  const ssize_t result = retry_eintr([&] {
    return system_call(call::sendfile, [&] {
      off_t at = *offset;
      const ssize_t n = ::sendfile(descriptor, file, &at, size);
      if (n > 0) *offset = at;
      return n;
    });
  });
  if (result != static_cast<ssize_t>(size) && !had_one) {
    int& error = thread_errno();
    const int kept = error;
    const timespec now{};
    while (::sigtimedwait(&pipe_only, nullptr, &now) < 0 && error == EINTR) {
    }
    error = kept;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

ssize_t file_read_at(int file, void* data, std::size_t size, std::int64_t offset) noexcept {
  return retry_eintr([&] {
    return system_call(call::read, [&] { return ::pread(file, data, size, offset); });
  });
}

int close_descriptor(int descriptor) noexcept {
  // A fault is injected after the fact: an error of close() never means that it is still open.
  const int result = [&] {
    int& error = thread_errno();
    const int before = error;
    const int answer = ::close(descriptor) < 0 ? -error : 0;
    error = before;
    return answer;
  }();
  if (const int fault = injected_fault(call::close); fault != 0) return -fault;
  return result;
}

int set_nonblocking(int descriptor) noexcept {
  const int flags = system_call(call::fcntl, [&] { return ::fcntl(descriptor, F_GETFL); });
  if (flags < 0) return flags;
  if ((flags & O_NONBLOCK) != 0) return 0;
  return system_call(call::fcntl, [&] { return ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK); });
}

int remove_name(const char* path) noexcept {
  int& error = thread_errno();
  const int before = error;
  const int result = ::unlink(path) < 0 ? -error : 0;
  error = before;
  return result;
}

int poll_descriptors(int descriptor, short events, int wake, std::int64_t timeout_ns) noexcept {
  pollfd both[2] = {{descriptor, events, 0}, {wake, POLLIN, 0}};  // negative numbers are skipped
  const timespec timeout = to_timespec(timeout_ns);
  const int result = system_call(call::epoll_wait, [&] {
    return ::ppoll(both, 2, timeout_ns < 0 ? nullptr : &timeout, nullptr);
  });
  if (result <= 0) return result;
  return (both[0].revents != 0 ? 1 : 0) | (both[1].revents != 0 ? 2 : 0);
}

}  // namespace tuco::inline v1::os
