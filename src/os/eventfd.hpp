// SPDX-License-Identifier: Apache-2.0
#pragma once
/// eventfd: a counter in the kernel that wakes whoever polls it.

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

/// @return The descriptor, non-blocking and closed on exec, or a negative errno value.
int eventfd_open() noexcept;

/// Makes it readable. Never blocks: a counter that is full is readable already.
/// @return 0 or a negative errno value.
int eventfd_signal(int descriptor) noexcept;

/// Makes it unreadable until the next signal. Harmless when it was not readable.
/// @return 0 or a negative errno value: it may still be readable.
int eventfd_drain(int descriptor) noexcept;

}  // namespace tuco::inline v1::os
