// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a parked goroutine waits for, in words: the line that dump_options::waits adds.
///
///     waiting 12.034567890 s for mutex 0x404080, held by goroutine 7
///     waiting 200.000000000 s for chan 0x55d0c0, 0 of 4 buffered, 3 wait to receive, 0 to send
///     waiting 0.000012345 s for descriptor 9 to be readable, peer 127.0.0.1:4242

#include <string>

#include <tuco/goroutines.hpp>

#include "task/goroutine.hpp"

namespace tuco::inline v1::observe {

/// Appends the line, if `g` still is in the wait that `info` describes. The object is looked at while
/// `g` is pinned: it belongs to the wait, so it is there. Takes no lock for longer than a few attempts.
/// Inside a registry::reading section.
void append_wait(std::string& out, task::goroutine& g, const goroutine_info& info);

}  // namespace tuco::inline v1::observe
