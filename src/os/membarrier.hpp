// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A fence that one side pays for both: membarrier(2), PRIVATE_EXPEDITED.
///
///     light side (every runtime entry)         heavy side (the monitor, a few times per second)
///     L1  a = 1                                H1  b = 1
///     L2  light_fence()                        H2  heavy_fence()
///     L3  read b                               H3  read a
///
/// Claim      Not both L3 misses H1 and H3 misses L1.
/// Proof      The kernel runs a full barrier on every core that runs a thread of this process, and
///            a thread that does not run passes one when it is switched in or out. The barrier falls
///            either before L1 is visible to others, then L3 comes after it in program order and
///            reads b after H1; or after L1, then H3 reads a = 1. It cannot fall between L1 and
///            L3's read with the store still waiting: the barrier drains the store buffer.
/// Pairs      light with heavy only. Two light fences give nothing towards each other.
/// Too weak   A light fence that is only the compiler's while the heavy one is not the kernel's.
///            Hence the flag: refused membarrier makes light fences full ones.
/// Tools      ThreadSanitizer sees neither; data is to be passed by acquire/release besides.
/// Test       membarrier_test.cpp (store buffering on real cores, both modes).
/// Source     membarrier(2); Linux, Documentation/scheduler/membarrier.rst.

#include <atomic>

#include "base/atomic.hpp"

namespace tuco::inline v1::os {

namespace detail {
// True until registration has succeeded: fences are right from the first instruction on.
inline std::atomic<bool> light_fence_is_full{true};
}  // namespace detail

/// Registers this process, once; later calls do nothing. Honours TUCO_DEBUG=nomembarrier=1.
/// Call it before threads exist that rely on the fences.
void start_membarrier() noexcept;

/// True when light fences cost nothing.
[[nodiscard]] bool membarrier_works() noexcept;

/// Relaxed: the flag changes to `true` only, and force_fence_fallback() and the refusal inside
/// heavy_fence() say how that is made safe.
[[gnu::always_inline]] inline void light_fence() noexcept {
  if (detail::light_fence_is_full.load(std::memory_order_relaxed)) [[unlikely]] {
    base::full_fence();
  } else {
    base::compiler_barrier();
  }
}

/// 0.3 µs alone, up to 15 µs while other cores are busy. One call serves any number of light sides.
/// If the kernel starts to refuse while we run (a seccomp filter was installed), light fences become
/// full, and this call takes 20 ms once: see the source.
void heavy_fence() noexcept;

/// For tests: light fences are full from now on. Only while no other thread uses these fences.
void force_fence_fallback() noexcept;
/// For tests: registers again.
void restart_membarrier() noexcept;

/// The policy form of both, for templates (base::asymmetric_fences).
struct membarrier_fences {
  static void light_fence() noexcept { os::light_fence(); }
  static void heavy_fence() noexcept { os::heavy_fence(); }
};
static_assert(base::asymmetric_fences<membarrier_fences>);

}  // namespace tuco::inline v1::os
