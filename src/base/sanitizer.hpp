// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What AddressSanitizer and ThreadSanitizer have to be told about stacks that change hands.
/// Everything here is nothing in an ordinary build.
///
/// **ThreadSanitizer.** A fiber per goroutine, switched with "no_sync": the switch itself orders
/// nothing, so that two goroutines that race are reported even when they happen to share a worker.
/// What does order them is told where it happens: tsan_release/acquire around spawn -> start and
/// ready -> resume. The layers below `sync` are compiled without instrumentation (CMakeLists.txt):
/// their queues would otherwise order everything with everything and hide the users' races.

#include <cstddef>
#include <cstdint>

#include "base/atomic.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define TUCO_BASE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TUCO_BASE_ASAN 1
#endif
#endif

// The layers themselves are not instrumented, so the build says what the program is.
#if defined(TUCO_BASE_TSAN) || defined(TUCO_TSAN_PROGRAM)
#define TUCO_TSAN_FIBERS 1
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif
#ifdef TUCO_BASE_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack_save, const void** bottom_old,
                                     std::size_t* size_old);
void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
}
#endif

namespace tuco::inline v1::base {

#ifdef TUCO_TSAN_FIBERS
inline void tsan_release(void* address) noexcept { __tsan_release(address); }
inline void tsan_acquire(void* address) noexcept { __tsan_acquire(address); }
#else
inline void tsan_release(void*) noexcept {}
inline void tsan_acquire(void*) noexcept {}
#endif

/// A stack that a sanitizer knows: one per goroutine and one per worker's own stack.
struct sanitizer_fiber {
#ifdef TUCO_TSAN_FIBERS
  void* tsan = nullptr;
#endif
#ifdef TUCO_BASE_ASAN
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  std::size_t size = 0;
#endif
};

}  // namespace tuco::inline v1::base
