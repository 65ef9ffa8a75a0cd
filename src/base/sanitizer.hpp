// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What AddressSanitizer and ThreadSanitizer have to be told about stacks that change hands.
/// Everything here is nothing in an ordinary build.
///
/// **ThreadSanitizer.** A fiber per goroutine, switched with "no_sync": the switch itself orders
/// nothing, so that two goroutines that race are reported even when they happen to share a worker.
/// What does order them is told where it happens: tsan_release/acquire around spawn -> start and
/// ready -> resume, and where a record or a stack passes from a goroutine that has ended to a new one.
/// Of the runtime only `sync` is instrumented, where the users' order comes from (cmake/library.cmake):
/// the queues of the others would order everything with everything and hide the users' races.
///
/// **Locks over a switch.** A goroutine parks with a lock that the next context releases. To
/// ThreadSanitizer that is another thread, which knows nothing of what the first one did under the lock,
/// and a release store of its own would overwrite what is known. So the parking side says
/// tsan_release(lock) first, and release_lock_word() adds to it.

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
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
}
#endif
#ifdef TUCO_BASE_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack_save, const void** bottom_old,
                                     std::size_t* size_old);
void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
void __lsan_register_root_region(const void* address, std::size_t size);
void __lsan_unregister_root_region(const void* address, std::size_t size);
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

/// Mapped memory that keeps what it points to: LeakSanitizer, which comes with AddressSanitizer, looks
/// for pointers in the program's own variables, stacks of threads and what they lead to, and nowhere else.
inline void lsan_root([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t size) noexcept {
#ifdef TUCO_BASE_ASAN
  __lsan_register_root_region(address, size);
#endif
}
inline void lsan_no_root([[maybe_unused]] const void* address, [[maybe_unused]] std::size_t size) noexcept {
#ifdef TUCO_BASE_ASAN
  __lsan_unregister_root_region(address, size);
#endif
}

/// While one exists, what libc does in our name (memcpy in code without instrumentation, the descriptors
/// of the poller) is not looked at, and orders nothing.
class unseen_by_tsan {
 public:
  unseen_by_tsan() noexcept {
#ifdef TUCO_TSAN_FIBERS
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
#endif
  }
  ~unseen_by_tsan() {
#ifdef TUCO_TSAN_FIBERS
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
  }
  unseen_by_tsan(const unseen_by_tsan&) = delete;
  unseen_by_tsan& operator=(const unseen_by_tsan&) = delete;
};

/// For code that runs on another goroutine's behalf (commit actions): what it reads there was written
/// before the switch, which orders nothing for ThreadSanitizer.
#ifdef TUCO_TSAN_FIBERS
#define TUCO_UNSEEN_BY_TSAN __attribute__((no_sanitize("thread")))
#else
#define TUCO_UNSEEN_BY_TSAN
#endif

/// The end of a lock's critical section, maybe on another stack than its beginning.
[[gnu::always_inline]] inline void release_lock_word(std::atomic<std::uint32_t>& word) noexcept {
#ifdef TUCO_TSAN_FIBERS
  // Not an atomic operation, which would be an access of this stack's to a lock that it may know
  // nothing of, and a release store would forget what the other stack has said.
  __tsan_release(&word);
  asm volatile("movl $0, %0" : "=m"(word) : : "memory");
#else
  word.store(0, std::memory_order_release);
#endif
}

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

/// While one exists, what this thread does is done by `fiber` to ThreadSanitizer: a worker that makes
/// others runnable while it is still on the stack of a goroutine would order them behind that one. What
/// it writes to that stack is the goroutine's all the same, so it is not looked at. No switch in between.
class as_fiber {
 public:
#ifdef TUCO_TSAN_FIBERS
  explicit as_fiber(const sanitizer_fiber& fiber) noexcept : before_(__tsan_get_current_fiber()) {
    __tsan_switch_to_fiber(fiber.tsan, 1);  // "no_sync"
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~as_fiber() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    __tsan_switch_to_fiber(before_, 1);
  }
#else
  explicit as_fiber(const sanitizer_fiber&) noexcept {}
  ~as_fiber() {}
#endif
  as_fiber(const as_fiber&) = delete;
  as_fiber& operator=(const as_fiber&) = delete;

#ifdef TUCO_TSAN_FIBERS
 private:
  void* before_;
#endif
};

}  // namespace tuco::inline v1::base
