// SPDX-License-Identifier: Apache-2.0
#include "os/epoll.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>

#include "base/sanitizer.hpp"
#include "os/clock.hpp"

// glibc 2.35 has the wrapper; through syscall() the library also builds and runs with older ones.
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

namespace tuco::inline v1::os {
namespace {

// Changes from true to false at most once outside tests; whoever reads the old value makes the call
// and learns the same thing.
std::atomic<bool> has_pwait2{true};

int milliseconds_up(std::int64_t ns) noexcept {
  const std::int64_t ms = ns / 1'000'000 + (ns % 1'000'000 != 0 ? 1 : 0);
  return ms > INT_MAX ? INT_MAX : static_cast<int>(ms);
}

}  // namespace

int epoll_open() noexcept {
  const base::unseen_by_tsan unseen;  // made by one thread, known to all by the scheduler's own order
  return system_call(call::epoll_create, [] { return ::epoll_create1(EPOLL_CLOEXEC); });
}

int epoll_add(int epoll, int descriptor, std::uint32_t events, std::uint64_t data) noexcept {
  const base::unseen_by_tsan unseen;
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return system_call(call::epoll_ctl,
                     [&] { return ::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event); });
}

int epoll_delete(int epoll, int descriptor) noexcept {
  const base::unseen_by_tsan unseen;
  epoll_event ignored{};  // kernels before 2.6.9 want it
  return system_call(call::epoll_ctl,
                     [&] { return ::epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, &ignored); });
}

int epoll_wait(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept {
  const base::unseen_by_tsan unseen;
  // Without a timeout, and for a mere look, the plain call is as good, and tracers know it.
  if (timeout_ns > 0 && has_pwait2.load(std::memory_order_relaxed)) {
    const timespec timeout = to_timespec(timeout_ns);
    const long result = system_call(call::epoll_wait, [&] {
      return ::syscall(SYS_epoll_pwait2, epoll, events, capacity, &timeout, nullptr, std::size_t{0});
    });
    // EPERM: seccomp filters that know the older calls only.
    if (result != -ENOSYS && result != -EPERM) return static_cast<int>(result);
    has_pwait2.store(false, std::memory_order_relaxed);
  }
  const int ms = timeout_ns < 0 ? -1 : milliseconds_up(timeout_ns);
  return system_call(call::epoll_wait, [&] { return ::epoll_wait(epoll, events, capacity, ms); });
}

bool epoll_has_nanoseconds() noexcept { return has_pwait2.load(std::memory_order_relaxed); }
void allow_pwait2(bool allow) noexcept { has_pwait2.store(allow, std::memory_order_relaxed); }

}  // namespace tuco::inline v1::os
