// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tuco::inline v1::base {

/// Tells the core that this is a spin-wait loop.
inline void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace tuco::inline v1::base
