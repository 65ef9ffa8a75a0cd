// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the environment asks of the runtime.

#include <tuco/run.hpp>

#include "sched/lifecycle.hpp"

namespace tuco::inline v1::runtime {

/// Options of the program over TUCO_PROCS over GOMAXPROCS over the machine. A value that makes no
/// sense is named on stderr and ignored: a typo in a deployment must not stop a server.
sched::start_options resolve_settings(const run_options& options) noexcept;

}  // namespace tuco::inline v1::runtime
