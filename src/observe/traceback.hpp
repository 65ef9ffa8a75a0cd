// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Stacks as text, in Go's format, for dumps and crashes.

#include <cstdint>
#include <span>
#include <string>

#include <tuco/goroutines.hpp>

#include "observe/stack_of.hpp"

namespace tuco::inline v1::observe {

/// `goroutine 18 [chan receive, 3 minutes, locked to thread]:`
std::string goroutine_header(const goroutine_info& info, bool names);

/// The frames of a walk: function, then file, line and offset, two lines each; 50 innermost and 50
/// outermost ones when there are more. Frames of the runtime at the innermost end (park and what
/// led to it) are left out unless `runtime_frames`.
void append_frames(std::string& out, std::span<const std::uintptr_t> pcs, walk_end end,
                   bool first_is_exact, bool runtime_frames);

/// `created by app::start in goroutine 1` with its place; nothing for the main goroutine.
void append_creator(std::string& out, const task::goroutine& g);

/// Header, frames and creator of one goroutine; `status` replaces the words in brackets if not empty.
void append_goroutine(std::string& out, task::goroutine& g, const goroutine_info& info,
                      const dump_options& options);

/// What a dump shows of a goroutine. False if it has ended meanwhile.
bool describe(const task::goroutine& g, goroutine_info& out);

}  // namespace tuco::inline v1::observe
