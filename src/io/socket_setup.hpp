// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Making sockets: what TCP and unix sockets have in common.

#include <chrono>
#include <cstdint>
#include <system_error>

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

/// Makes a bound socket listen and takes it over. @param backlog  not above 0: all the system allows
int start_listening(scoped_descriptor& socket, int backlog, net_kind kind, net_fd*& out) noexcept;

/// Takes over a stream socket that must be what `kind` says.
/// @param ec  not_a_socket; EPROTOTYPE (not a stream, or of another family); invalid_argument
///            (listening or not)
/// @return Null on failure: then it stays the caller's.
net_fd* adopt(int descriptor, net_kind kind, std::error_code& ec) noexcept;
/// @throws net_error
net_fd* adopt(int descriptor, net_kind kind);

/// accept() and registration. @param listener  null: closed. @return Null on failure.
net_fd* accept(net_fd* listener, net_kind kind, std::error_code& ec) noexcept;
/// @throws net_error
net_fd* accept(net_fd* listener, net_kind kind);

/// Lets `ns` pass on a goroutine or a thread, until `deadline_ns` at most.
/// @return False when the deadline came first.
bool pause_for(std::int64_t ns, std::int64_t deadline_ns) noexcept;

}  // namespace tuco::inline v1::io
