// SPDX-License-Identifier: Apache-2.0
#include <tuco/io.hpp>
#include <tuco/resolve.hpp>

#include "io/net_error.hpp"
#include "io/net_fd.hpp"
#include "io/time_point.hpp"

namespace tuco::inline v1 {

socket_handle& socket_handle::operator=(socket_handle&& other) noexcept {
  if (this != &other) {
    if (fd_ != nullptr) io::net_fd::destroy(fd_);
    fd_ = other.fd_;
    other.fd_ = nullptr;
  }
  return *this;
}

socket_handle::~socket_handle() {
  if (fd_ != nullptr) io::net_fd::destroy(fd_);
}

void socket_handle::set_deadline(time_point t, std::error_code& ec) noexcept {
  ec = io::to_error_code(fd_ == nullptr ? io::error_closed
                                        : fd_->set_deadline(true, true, io::to_ns(t)));
}

void socket_handle::set_deadline(time_point t) {
  std::error_code ec;
  set_deadline(t, ec);
  io::throw_if(ec, "set", fd_);
}

endpoint socket_handle::local_endpoint() const noexcept {
  return fd_ == nullptr ? endpoint() : fd_->local();
}

bool socket_handle::is_open() const noexcept { return fd_ != nullptr && fd_->is_open(); }
int socket_handle::native_handle() const noexcept {
  return fd_ == nullptr ? -1 : fd_->descriptor();
}
bool socket_handle::close() noexcept { return fd_ != nullptr && fd_->close(); }
int socket_handle::release() noexcept { return fd_ == nullptr ? -1 : fd_->release(); }

}  // namespace tuco::inline v1
