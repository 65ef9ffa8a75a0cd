// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tuco::inline v1::os {

/// Blocks the thread until the steady clock reads at least `deadline_ns`; signals do not shorten it.
/// @return 0 or a negative errno value (injected faults only).
int sleep_until(std::int64_t deadline_ns) noexcept;

/// Like sleep_until(now + ns).
int sleep_for(std::int64_t ns) noexcept;

}  // namespace tuco::inline v1::os
