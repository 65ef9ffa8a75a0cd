// SPDX-License-Identifier: Apache-2.0
#pragma once
/// aarch64 switch, AAPCS64. Included by arch/context.hpp only.

namespace tuco::inline v1::arch {

/// DWARF number of the register that holds the target while a switch is in its window: x1.
inline constexpr unsigned switch_target_register = 1;

// No predicate register is callee-saved in a function of the base standard, but the compiler must be
// told where it may use them. The upper parts of the vector registers go with v0 to v31.
#if defined(__ARM_FEATURE_SVE)
#define TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS                                                  \
  , "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", "p12", "p13", \
      "p14", "p15"
#else
#define TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS
#endif

/// Stores the control word of the running context to `c`.
[[gnu::always_inline]] inline void save_control(context& c) noexcept {
  std::uint64_t fpcr;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  c.float_control = static_cast<std::uint32_t>(fpcr);
}

/// Saves the running context to `from`, which save_control() was called for, and resumes `to`. Returns when
/// somebody switches back.
///
/// Only for use in a function that is never inlined: its callers then see an ordinary call, and the
/// thread that runs after it may be another one.
///
/// FPCR holds control bits alone (the status is in FPSR), so the whole word is compared. `to` stays in
/// x1 through the whole window, where the signal handler finds it. The jump goes through x16, which
/// BTI lets land on any pad.
[[gnu::always_inline]] inline void switch_saved(context& from, const context& to) noexcept {
  register context* f asm("x0") = &from;
  register const context* t asm("x1") = &to;
  asm volatile(
      "mov x2, sp\n\t"
      "adr x3, 1f\n\t"
      "ldr w4, [%[from], #24]\n\t"
      "stp x2, x29, [%[from]]\n\t"
      "str x3, [%[from], #16]\n\t"
      "ldr w5, [%[to], #24]\n\t"
      "cmp w4, w5\n\t"
      "b.ne 4f\n\t"
      "2:\n\t"
      "ldp x2, x29, [%[to]]\n\t"
      "ldr x16, [%[to], #16]\n\t"
      "mov sp, x2\n\t"
      "br x16\n\t"
      "4:\n\t"
      "msr fpcr, x5\n\t"
      "b 2b\n\t"
      "1:\n\t"
      "hint #36\n\t"  // bti j
      ".pushsection tuco_switch_ranges, \"aR?\"\n\t"
      ".long 2b - ., 4b - .\n\t"
      ".popsection\n\t"
      : [from] "+r"(f), [to] "+r"(t)
      :
      : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
        "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28",
        "x30", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
        "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25",
        "v26", "v27", "v28", "v29", "v30", "v31", "memory",
        "cc" TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS);
}

#undef TUCO_SWITCH_CLOBBERS_OF_EXTENSIONS

}  // namespace tuco::inline v1::arch
