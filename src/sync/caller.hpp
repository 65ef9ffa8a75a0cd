// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a primitive wants to know about its caller without entering the runtime. Reads the thread's
/// own record: a goroutine changes its thread only inside a call of the runtime, never between two
/// lines of these.

#include <cstdint>

namespace tuco::inline v1::sync {

/// Id of the calling goroutine; 0 on a plain thread.
[[nodiscard]] std::uint64_t caller_id() noexcept;

/// Whether a holder of a lock may be running elsewhere at this moment, and nothing better is to be
/// done here than to wait some microseconds for it.
[[nodiscard]] bool spinning_pays() noexcept;

}  // namespace tuco::inline v1::sync
