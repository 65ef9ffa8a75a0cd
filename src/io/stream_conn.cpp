// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <tuco/io.hpp>
#include <tuco/resolve.hpp>

#include "io/net_error.hpp"
#include "io/net_fd.hpp"
#include "io/time_point.hpp"

namespace tuco::inline v1 {

using io::throw_if;
using io::to_error_code;
using io::to_ns;

std::size_t stream_conn::read_some(mutable_buffer buffer, std::error_code& ec) noexcept {
  const ssize_t n = fd_ == nullptr ? io::error_closed : fd_->read_some(buffer.data, buffer.size);
  ec = to_error_code(n);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

std::size_t stream_conn::read_some(mutable_buffer buffer) {
  std::error_code ec;
  const std::size_t n = read_some(buffer, ec);
  throw_if(ec, "read", fd_);
  return n;
}

bool stream_conn::read_full(mutable_buffer buffer, std::error_code& ec) noexcept {
  std::size_t done = 0;
  ec = to_error_code(fd_ == nullptr ? io::error_closed
                                    : fd_->read_full(buffer.data, buffer.size, done));
  if (ec || done == buffer.size) return !ec;
  if (done != 0) ec = net_errc::unexpected_eof;
  return false;
}

bool stream_conn::read_full(mutable_buffer buffer) {
  std::error_code ec;
  const bool full = read_full(buffer, ec);
  throw_if(ec, "read", fd_);
  return full;
}

std::size_t stream_conn::write(const_buffer buffer, std::error_code& ec) noexcept {
  std::size_t done = 0;
  ec = to_error_code(fd_ == nullptr ? io::error_closed
                                    : fd_->write(buffer.data, buffer.size, done));
  return done;
}

std::size_t stream_conn::write(const_buffer buffer) {
  std::error_code ec;
  const std::size_t n = write(buffer, ec);
  throw_if(ec, "write", fd_);
  return n;
}

std::size_t stream_conn::write(std::span<const const_buffer> buffers,
                               std::error_code& ec) noexcept {
  std::size_t done = 0;
  ec = to_error_code(fd_ == nullptr ? io::error_closed
                                    : fd_->write(buffers.data(), buffers.size(), done));
  return done;
}

std::size_t stream_conn::write(std::span<const const_buffer> buffers) {
  std::error_code ec;
  const std::size_t n = write(buffers, ec);
  throw_if(ec, "write", fd_);
  return n;
}

std::uint64_t stream_conn::send_file(int file, std::uint64_t offset, std::uint64_t count,
                                     std::error_code& ec) noexcept {
  std::uint64_t done = 0;
  ec = to_error_code(fd_ == nullptr ? io::error_closed
                                    : fd_->send_file(file, offset, count, done));
  return done;
}

std::uint64_t stream_conn::send_file(int file, std::uint64_t offset, std::uint64_t count) {
  std::error_code ec;
  const std::uint64_t n = send_file(file, offset, count, ec);
  throw_if(ec, "sendfile", fd_);
  return n;
}

void stream_conn::shutdown_write(std::error_code& ec) noexcept {
  ec = to_error_code(fd_ == nullptr ? io::error_closed : fd_->shut_down(SHUT_WR));
}

void stream_conn::shutdown_write() {
  std::error_code ec;
  shutdown_write(ec);
  throw_if(ec, "shutdown", fd_);
}

void stream_conn::shutdown_read(std::error_code& ec) noexcept {
  ec = to_error_code(fd_ == nullptr ? io::error_closed : fd_->shut_down(SHUT_RD));
}

void stream_conn::shutdown_read() {
  std::error_code ec;
  shutdown_read(ec);
  throw_if(ec, "shutdown", fd_);
}

void stream_conn::set_read_deadline(time_point t, std::error_code& ec) noexcept {
  ec = to_error_code(fd_ == nullptr ? io::error_closed : fd_->set_deadline(true, false, to_ns(t)));
}

void stream_conn::set_read_deadline(time_point t) {
  std::error_code ec;
  set_read_deadline(t, ec);
  throw_if(ec, "set", fd_);
}

void stream_conn::set_write_deadline(time_point t, std::error_code& ec) noexcept {
  ec = to_error_code(fd_ == nullptr ? io::error_closed : fd_->set_deadline(false, true, to_ns(t)));
}

void stream_conn::set_write_deadline(time_point t) {
  std::error_code ec;
  set_write_deadline(t, ec);
  throw_if(ec, "set", fd_);
}

endpoint stream_conn::remote_endpoint() const noexcept {
  return fd_ == nullptr ? endpoint() : fd_->remote();
}

}  // namespace tuco::inline v1
