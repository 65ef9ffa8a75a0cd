// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Sockets, as the io layer needs them. Every descriptor made here is non-blocking and closed on
/// exec; no call here raises SIGPIPE (hazards H28); EINTR is repeated, except for close.
///
/// Addresses are passed as bytes (`sockaddr` of whatever family) with their length.

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

int socket_open(int family, int type, int protocol) noexcept;
int socket_pair(int type, int out[2]) noexcept;
int socket_bind(int descriptor, const void* address, socklen_t size) noexcept;
int socket_listen(int descriptor, int backlog) noexcept;

/// @param address, size  the peer's; `size` is in/out. Null when nobody wants to know.
/// @return The new descriptor; -EAGAIN: none is waiting.
int socket_accept(int descriptor, void* address, socklen_t* size) noexcept;

/// @return 0, or -EINPROGRESS: wait until it is writable, then ask socket_error(). An interrupted
///         connect goes on in the background, so EINTR is answered as EINPROGRESS.
int socket_connect(int descriptor, const void* address, socklen_t size) noexcept;

/// Takes the pending error (SO_ERROR). @return 0 or a negative errno value.
int socket_error(int descriptor) noexcept;

/// @param how  SHUT_RD, SHUT_WR, SHUT_RDWR
int socket_shutdown(int descriptor, int how) noexcept;

int socket_name(int descriptor, void* address, socklen_t* size) noexcept;
int socket_peer(int descriptor, void* address, socklen_t* size) noexcept;

int set_option(int descriptor, int level, int option, int value) noexcept;
int set_option(int descriptor, int level, int option, const void* value, socklen_t size) noexcept;
int get_option(int descriptor, int level, int option, void* value, socklen_t* size) noexcept;
/// @return The option's value (>= 0) or a negative errno value.
int get_option(int descriptor, int level, int option) noexcept;

/// @return Bytes, 0 at the end of the stream, or a negative errno value (-EAGAIN: nothing there).
ssize_t socket_receive(int descriptor, void* data, std::size_t size) noexcept;
/// @return Bytes taken, maybe fewer than offered, or a negative errno value.
ssize_t socket_send(int descriptor, const void* data, std::size_t size) noexcept;
ssize_t socket_send_vector(int descriptor, const iovec* parts, std::size_t count) noexcept;

/// From a file to a socket inside the kernel; `offset` moves on by what was sent. Blocks the thread
/// while the file's pages are read from a disk.
/// @return Bytes, 0 at the end of the file, -EINVAL or -ENOSYS when the file cannot do it.
ssize_t socket_send_file(int descriptor, int file, std::int64_t* offset, std::size_t size) noexcept;

/// pread(2).
ssize_t file_read_at(int file, void* data, std::size_t size, std::int64_t offset) noexcept;

/// Never repeated, whatever it answers: the number is free from here on.
int close_descriptor(int descriptor) noexcept;

int set_nonblocking(int descriptor) noexcept;

/// Removes a name from the file system.
int remove_name(const char* path) noexcept;

/// Blocks the thread until `descriptor` has one of `events` (POLLIN ...), or `wake` (-1: none) is
/// readable, or the time has passed.
/// @param timeout_ns  negative: no limit
/// @return A mask of what happened: 1 for `descriptor` (also an error on it), 2 for `wake`; 0 after the
///         timeout; -EINTR.
int poll_descriptors(int descriptor, short events, int wake, std::int64_t timeout_ns) noexcept;

}  // namespace tuco::inline v1::os
