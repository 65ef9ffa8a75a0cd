// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file observe/unwinder.hpp
/// The one stack walk that every dump, profile and trace uses.
///
/// Each frame is unwound by the CFI rule of its pc, from the tables of observe/cfi_table.hpp;
/// where there is none (a module without .eh_frame, generated code) by the frame pointer. That is
/// exact at any instruction, which frame pointers are not: gcc 12 gives leaf functions none, and
/// prologues and epilogues lose the caller. Why not frame pointers first: docs/design/unwinding.md.
///
/// **Async-signal-safe.** No allocation, no lock, no thread-local, no call into libc.
/// **Bounded.** Every load lies in the given stack, every step moves up it: whatever the words
/// there are, the walk ends, and faults only if [low, high) is not readable.
/// **Needs** refresh_unwind_tables() to have been called since the code in question was loaded.
/// Before that, frame pointers are all there is.

#include <cstddef>
#include <cstdint>
#include <span>

#include "observe/registers.hpp"

namespace tuco::inline v1::observe {

struct stack_bounds {
  std::uintptr_t low = 0;
  std::uintptr_t high = 0;
};

enum class walk_end : std::uint8_t {
  entry,      ///< the outermost frame: its return address is undefined, or fp or it is 0
  truncated,  ///< pcs is full
  no_rule,    ///< code without CFI, and the frame pointer leads nowhere
  bad_frame,  ///< a rule led out of the stack, down it, or to a register nobody knows
};

struct walk_result {
  std::size_t frames = 0;  ///< how many of pcs were written
  walk_end end = walk_end::no_rule;
};

/// Walks the stack from `from` outwards. pcs[0] is `from.pc`, the others are return addresses
/// (or, below a signal frame, the interrupted pc).
/// @param first_is_exact  from.pc is the next instruction to run (a signal or saved context), not
///                        a return address.
/// @param sps  if not empty, as long as `pcs`: gets the stack pointer in each frame
[[nodiscard]] walk_result capture(const register_state& from, stack_bounds stack,
                                  std::span<std::uintptr_t> pcs, bool first_is_exact = true,
                                  std::span<std::uintptr_t> sps = {}) noexcept;

}  // namespace tuco::inline v1::observe
