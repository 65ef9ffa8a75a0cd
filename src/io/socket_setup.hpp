// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Making sockets: what TCP and unix sockets have in common.

#include <chrono>
#include <cstdint>

#include <tuco/resolve.hpp>

#include "io/net_fd.hpp"
#include "os/socket.hpp"

namespace tuco::inline v1::io {

/// A descriptor that is closed unless somebody takes it.
class scoped_descriptor {
 public:
  explicit scoped_descriptor(int descriptor) noexcept : descriptor_(descriptor) {}
  ~scoped_descriptor() {
    if (descriptor_ >= 0) os::close_descriptor(descriptor_);
  }
  scoped_descriptor(const scoped_descriptor&) = delete;
  scoped_descriptor& operator=(const scoped_descriptor&) = delete;
  [[nodiscard]] int get() const noexcept { return descriptor_; }
  void taken() noexcept { descriptor_ = -1; }

 private:
  int descriptor_;
};

/// Takes over a stream socket of `family` (AF_UNSPEC: IPv4 or IPv6).
/// @param listening  what it must be
/// @return 0, -ENOTSOCK, -EPROTOTYPE (not a stream, or not of the family), -EINVAL (listening or not)
int adopt(int descriptor, int family, bool listening, net_kind kind, net_fd*& out) noexcept;

/// accept() and registration.
net_fd* accept(net_fd* listener, net_kind kind, int& error) noexcept;

/// Lets `ns` pass on a goroutine or a thread, until `deadline_ns` at most.
/// @return False when the deadline came first.
bool pause_for(std::int64_t ns, std::int64_t deadline_ns) noexcept;

}  // namespace tuco::inline v1::io
