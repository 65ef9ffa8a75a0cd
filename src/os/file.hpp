// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Opening files that are read with file_read_at() (os/socket.hpp).

#include "os/syscall.hpp"

namespace tuco::inline v1::os {

/// @return A descriptor closed on exec, or a negative errno value.
int open_for_reading(const char* path) noexcept;

}  // namespace tuco::inline v1::os
