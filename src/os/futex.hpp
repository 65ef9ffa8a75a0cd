// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Blocking a thread on a 32-bit word. Private futexes: never shared with other processes.

#include <atomic>
#include <cstdint>

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

/// `woken` may be spurious (a signal, or a wake meant for an earlier use of the word): look again.
enum class futex_result : std::uint8_t { woken, timed_out, changed };

inline constexpr std::int64_t no_deadline = INT64_MAX;

/// Sleeps while `word` holds `expected`, until a wake or until the deadline.
/// @param deadline_ns  CLOCK_MONOTONIC; in the past: `timed_out` at once (unless the word changed)
futex_result futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                        std::int64_t deadline_ns = no_deadline) noexcept;

/// Wakes up to `count` threads. The word may be gone already: a wake that hits memory of somebody
/// else is a spurious one there, and unmapped memory is no error.
/// @return How many were woken.
int futex_wake(const std::atomic<std::uint32_t>& word, int count = 1) noexcept;

}  // namespace tuco::inline v1::os
