// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the server does instead of serving a file: load of every kind that a runtime has to bear.
///
///     /fanout?n=N     starts N goroutines, receives a value from each over a channel, answers
///     /sleep?ms=MS    sleeps: the goroutine waits, its thread goes on with others
///     /burn?ms=MS     computes, without a call of the runtime
///     /block?ms=MS    blocks its thread in the kernel, in a call that knows nothing of the runtime

#include "reply.hpp"
#include "target.hpp"

namespace httpd {

inline constexpr int most_goroutines = 100'000;
inline constexpr int longest_ms = 60'000;

/// @return False: no such route.
bool serve_route(const target& what, reply& answer);

}  // namespace httpd
