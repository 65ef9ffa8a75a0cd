// SPDX-License-Identifier: Apache-2.0
// How a net_fd reads and writes.
#include <algorithm>
#include <memory>
#include <new>

#include "io/net_fd_scope.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::io {
namespace {

// How much one sendfile() moves: bounds the time between two looks at the deadline.
constexpr std::size_t file_chunk = 4 << 20;
// Vectors handed to one sendmsg(), on the stack; the kernel's limit is 1024.
constexpr std::size_t vector_chunk = 64;

}  // namespace

ssize_t net_fd::read_locked(void* data, std::size_t size) noexcept {
  if (const int error = check(direction::read)) return error;
  for (;;) {
    // The socket was emptied by the last read, and whatever came since has brought an edge, which
    // wait() finds. So the call that could only say EAGAIN is left out: one system call less for each
    // request of an echo server. Not when the stream has ended: the end itself may have been
    // announced before that read, together with the data, and there is no second edge.
    if (!drained_) {
      const ssize_t n = os::socket_receive(descriptor_, data, size);
      if (n >= 0) {
        drained_ = short_read_drains_ && n > 0 && static_cast<std::size_t>(n) < size &&
                   !record_->ended.load(std::memory_order_seq_cst);  // III of poll_word.hpp
        return n;
      }
      if (n != -EAGAIN) return n;
    }
    const int error = wait(direction::read);
    drained_ = false;
    if (error < 0) return error;
  }
}

ssize_t net_fd::read_some(void* data, std::size_t size) noexcept {
  holder held(*this, direction::read);
  if (!held) return error_closed;
  if (size == 0) return check(direction::read);
  return read_locked(data, size);
}

int net_fd::read_full(void* data, std::size_t size, std::size_t& done) noexcept {
  done = 0;
  holder held(*this, direction::read);
  if (!held) return error_closed;
  while (done < size) {
    const ssize_t n = read_locked(static_cast<char*>(data) + done, size - done);
    if (n < 0) return static_cast<int>(n);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return 0;
}

int net_fd::write_locked(const void* data, std::size_t size, std::size_t& done) noexcept {
  const char* from = static_cast<const char*>(data);
  for (std::size_t sent = 0;;) {
    const ssize_t n = os::socket_send(descriptor_, from + sent, size - sent);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
      done += static_cast<std::size_t>(n);
      if (sent == size) return 0;
      continue;  // a short write is followed by the call that says EAGAIN: rare, and no doubt is left
    }
    if (n != -EAGAIN) return static_cast<int>(n);
    if (const int error = wait(direction::write)) return error;
    if (const int error = check(direction::write)) return error;
  }
}

int net_fd::write(const void* data, std::size_t size, std::size_t& done) noexcept {
  done = 0;
  holder held(*this, direction::write);
  if (!held) return error_closed;
  if (const int error = check(direction::write)) return error;
  return size == 0 ? 0 : write_locked(data, size, done);
}

int net_fd::write(const const_buffer* parts, std::size_t count, std::size_t& done) noexcept {
  done = 0;
  holder held(*this, direction::write);
  if (!held) return error_closed;
  if (const int error = check(direction::write)) return error;

  std::size_t skip = 0;  // bytes of parts[0] that were sent
  for (;;) {
    iovec vector[vector_chunk];
    std::size_t used = 0;
    for (std::size_t i = 0; i < count && used < vector_chunk; ++i) {
      const std::size_t from = i == 0 ? skip : 0;
      if (parts[i].size == from) continue;
      // sendmsg does not write to it; iovec has no const form.
      vector[used++] = {const_cast<char*>(static_cast<const char*>(parts[i].data)) + from,
                        parts[i].size - from};
    }
    if (used == 0) return 0;
    const ssize_t n = os::socket_send_vector(descriptor_, vector, used);
    if (n < 0) {
      if (n != -EAGAIN) return static_cast<int>(n);
      if (const int error = wait(direction::write)) return error;
      if (const int error = check(direction::write)) return error;
      continue;
    }
    std::size_t sent = static_cast<std::size_t>(n);
    done += sent;
    while (count > 0 && sent >= parts->size - skip) {
      sent -= parts->size - skip;
      skip = 0;
      ++parts;
      --count;
    }
    skip += sent;
  }
}

int net_fd::send_file(int file, std::uint64_t offset, std::uint64_t count,
                      std::uint64_t& done) noexcept {
  done = 0;
  holder held(*this, direction::write);
  if (!held) return error_closed;
  if (offset > INT64_MAX || count > INT64_MAX - offset) return -EINVAL;

  auto at = static_cast<std::int64_t>(offset);
  std::unique_ptr<char[]> copy;  // once the kernel has refused this kind of file
  constexpr std::size_t copy_size = 64 << 10;
  while (done < count) {
    if (const int error = check(direction::write)) return error;
    const std::uint64_t left = count - done;
    if (copy == nullptr) {
      const ssize_t n = os::socket_send_file(descriptor_, file, &at,
                                             std::min<std::uint64_t>(left, file_chunk));
      if (n == 0) return 0;  // the file ends here
      if (n > 0) {
        done += static_cast<std::uint64_t>(n);
        continue;
      }
      if (n == -EAGAIN) {
        if (const int error = wait(direction::write)) return error;
        continue;
      }
      if (n != -EINVAL && n != -ENOSYS) return static_cast<int>(n);
      copy.reset(new (std::nothrow) char[copy_size]);
      if (copy == nullptr) return -ENOMEM;
    }
    const ssize_t got =
        os::file_read_at(file, copy.get(), std::min<std::uint64_t>(left, copy_size), at);
    if (got <= 0) return static_cast<int>(got);
    at += got;
    std::size_t sent = 0;
    const int error = write_locked(copy.get(), static_cast<std::size_t>(got), sent);
    done += sent;
    if (error < 0) return error;
  }
  return 0;
}

}  // namespace tuco::inline v1::io
