// SPDX-License-Identifier: Apache-2.0
#pragma once
/// epoll: the kernel's list of descriptors whose state has changed.

#include <sys/epoll.h>

#include <cstdint>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

/// @return The descriptor, closed on exec, or a negative errno value.
int epoll_open() noexcept;

/// @param events  EPOLLIN and the like
/// @param data    what epoll_wait() gives back with an event
int epoll_add(int epoll, int descriptor, std::uint32_t events, std::uint64_t data) noexcept;
int epoll_delete(int epoll, int descriptor) noexcept;

/// Waits for events.
/// @param timeout_ns  0 only looks; negative waits without limit. Nanoseconds are honoured where the
///                    kernel has epoll_pwait2 (Linux 5.11); elsewhere milliseconds, rounded up.
/// @return How many events, 0 after the timeout, -EINTR when a signal came (SA_RESTART does not
///         cover this call, hazards H27): not repeated here, since the caller's time has passed.
int epoll_wait(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept;

/// Whether epoll_wait() has nanoseconds. For tests: `allow_pwait2(false)` takes the fallback.
bool epoll_has_nanoseconds() noexcept;
void allow_pwait2(bool allow) noexcept;

}  // namespace tuco::inline v1::os
