// SPDX-License-Identifier: Apache-2.0
#include "os/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

#include "os/clock.hpp"

namespace tuco::inline v1::os {

static_assert(sizeof(std::atomic<std::uint32_t>) == 4);

futex_result futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                        std::int64_t deadline_ns) noexcept {
  timespec deadline{};
  timespec* timeout = nullptr;
  if (deadline_ns != no_deadline) {
    deadline = to_timespec(deadline_ns);
    timeout = &deadline;
  }
  // The BITSET form takes an absolute time: a wait that is interrupted and repeated does not stretch.
  const long result = system_call(call::futex, [&] {
    return ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, timeout, nullptr,
                     FUTEX_BITSET_MATCH_ANY);
  });
  if (result == -ETIMEDOUT) return futex_result::timed_out;
  if (result == -EAGAIN) return futex_result::changed;
  return futex_result::woken;  // 0, EINTR, and whatever else: the caller looks at the word again
}

int futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept {
  // No fault is injected here: the kernel cannot refuse a wake, and callers could do nothing about it.
  int& error = thread_errno();
  const int before = error;
  const long result =
      ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
  error = before;
  return result < 0 ? 0 : static_cast<int>(result);
}

}  // namespace tuco::inline v1::os
