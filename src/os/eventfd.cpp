// SPDX-License-Identifier: Apache-2.0
#include "os/eventfd.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "base/sanitizer.hpp"

namespace tuco::inline v1::os {

int eventfd_open() noexcept {
  const base::unseen_by_tsan unseen;  // as epoll_open()
  return system_call(call::eventfd, [] { return ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); });
}

int eventfd_signal(int descriptor) noexcept {
  const base::unseen_by_tsan unseen;
  const std::uint64_t one = 1;
  const ssize_t result = retry_eintr([&] {
    return system_call(call::write, [&] { return ::write(descriptor, &one, sizeof one); });
  });
  return result < 0 && result != -EAGAIN ? static_cast<int>(result) : 0;
}

int eventfd_drain(int descriptor) noexcept {
  const base::unseen_by_tsan unseen;
  std::uint64_t count = 0;
  const ssize_t result = retry_eintr([&] {
    return system_call(call::read, [&] { return ::read(descriptor, &count, sizeof count); });
  });
  return result < 0 && result != -EAGAIN ? static_cast<int>(result) : 0;
}

}  // namespace tuco::inline v1::os
