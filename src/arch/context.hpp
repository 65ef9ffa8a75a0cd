// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The machine context of a stack that is not running, and the switch between two of them.
///
/// A context is three words: stack pointer, frame pointer, and the address at which to go on. All
/// other callee-saved registers are declared clobbered at the switch, so that the compiler spills
/// just those that are live there, into the frame where unwinders look for them.
///
/// **Jump, not return.** The switch leaves by an indirect jump. A `ret` to an address that was not
/// pushed by the matching `call` mispredicts every time (9.1 ns against 1.8 ns, bench/switch_bench).
///
/// **Floating point.** The control bits of MXCSR and the x87 word (FPCR on aarch64) are callee-saved
/// by the ABI and belong to the goroutine: rounding mode and traps set in one do not leak into
/// another. They are stored at every switch and loaded only where the two sides differ (docs/adr/).
/// Status flags are caller-saved and not kept.
///
/// **Unwinding.** `context{sp, fp, pc}` is all that an unwinder needs: `pc` lies in a function with
/// ordinary CFI. A new stack begins in `tuco_context_entry`, whose CFI says that there is no caller
/// and whose frame pointer is 0, which ends every walk.
///
/// **Signals.** Between the first register that is replaced and the jump, the machine is in neither
/// context. The addresses of that window are in a table: see `inside_switch()`.

#include <cstddef>
#include <cstdint>

namespace tuco::inline v1::arch {

/// Offsets are known to the assembly and to readers of other processes (tuco_debug_v1).
struct context {
  std::uintptr_t sp = 0;
  std::uintptr_t fp = 0;
  std::uintptr_t pc = 0;
  std::uint32_t float_control = 0;  ///< MXCSR, or FPCR
  std::uint32_t x87_control = 0;    ///< the x87 control word; unused on aarch64
};
static_assert(offsetof(context, sp) == 0 && offsetof(context, fp) == 8 &&
              offsetof(context, pc) == 16 && offsetof(context, float_control) == 24 &&
              offsetof(context, x87_control) == 28 && sizeof(context) == 32);

/// First function of a new stack. It gets no argument: it finds out what to run from its thread.
using entry_function = void (*)() /* noreturn */;

/// Where, inside a switch, `pc` lies between two contexts; the answer is the context that is being
/// resumed, found in the register that holds it. Null outside. Async-signal-safe.
struct switch_range {
  std::int32_t begin;  ///< relative to the address of this member
  std::int32_t end;    ///< relative to the address of this member
};

}  // namespace tuco::inline v1::arch

#if defined(__x86_64__)
#include "arch/x86_64/context.hpp"
#elif defined(__aarch64__)
#include "arch/aarch64/context.hpp"
#else
#error "tuco runs on x86-64 and aarch64"
#endif

namespace tuco::inline v1::arch {

/// Both steps at once. What is said of switch_saved() holds.
[[gnu::always_inline]] inline void switch_context(context& from, const context& to) noexcept {
  save_control(from);
  switch_saved(from, to);
}

/// Prepares `c` so that switching to it calls `entry` on the stack that ends at `top`.
void make_context(context& c, std::uintptr_t top, entry_function entry) noexcept;

/// Runs `entry` from the top of the current stack, whose contents are given up. Used when a
/// goroutine ends and the next one has not begun yet: it inherits the warm stack.
[[noreturn]] void restart_stack(std::uintptr_t top, entry_function entry) noexcept;

/// The context that is being resumed when `pc` (from a signal frame) lies inside a switch.
/// @param target_register  value of the register that holds the target (switch_target_register)
const context* inside_switch(std::uintptr_t pc, std::uintptr_t target_register) noexcept;

}  // namespace tuco::inline v1::arch
