// SPDX-License-Identifier: Apache-2.0
#pragma once
/// @file arch/test_coroutine.hpp
/// For tests: a stack of its own and a function that runs on it, by the switch alone.

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <utility>

#include "arch/context.hpp"
#include "base/sanitizer.hpp"

// As in sched/switch.cpp: neither inlined nor looked through, and no entry on the sanitizer's record of
// calls, which belongs to one stack.
#if defined(TUCO_TSAN_FIBERS) && defined(__clang__)
#define TUCO_TEST_SWITCHES_STACK __attribute__((noinline, disable_sanitizer_instrumentation))
#elif defined(__clang__)
#define TUCO_TEST_SWITCHES_STACK __attribute__((noinline))
#else
#define TUCO_TEST_SWITCHES_STACK __attribute__((noinline, noipa))
#endif

namespace tuco::inline v1::arch {

class coroutine {
 public:
  static constexpr std::size_t stack_bytes = 256 * 1024;

  explicit coroutine(std::function<void()> body) : body_(std::move(body)) {
    memory_ = ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    make_context(inside_, high(), &begin);
#ifdef TUCO_TSAN_FIBERS
    fiber_inside_.tsan = __tsan_create_fiber(0);
#endif
#ifdef TUCO_BASE_ASAN
    fiber_inside_.bottom = memory_;
    fiber_inside_.size = stack_bytes;
#endif
  }
  coroutine(const coroutine&) = delete;
  coroutine& operator=(const coroutine&) = delete;
  ~coroutine() {
#ifdef TUCO_TSAN_FIBERS
    __tsan_destroy_fiber(fiber_inside_.tsan);
#endif
    ::munmap(memory_, stack_bytes);
  }

  [[nodiscard]] std::uintptr_t low() const { return reinterpret_cast<std::uintptr_t>(memory_); }
  [[nodiscard]] std::uintptr_t high() const { return low() + stack_bytes; }
  [[nodiscard]] bool contains(std::uintptr_t a) const { return a >= low() && a < high(); }
  [[nodiscard]] bool done() const { return done_; }
  /// The context it was left in; before its first resume(), the one it begins with.
  [[nodiscard]] context& saved() { return inside_; }

  /// Runs it, on any thread, until it calls suspend() or ends.
  void resume() {
    starting_ = this;
#ifdef TUCO_TSAN_FIBERS
    fiber_outside_.tsan = __tsan_get_current_fiber();
#endif
    exchange(outside_, inside_, &fiber_outside_, &fiber_inside_);
  }
  /// Back to whoever called resume().
  void suspend() {
    exchange(inside_, outside_, &fiber_inside_, &fiber_outside_);
    note_outside();
  }

 private:
  TUCO_TEST_SWITCHES_STACK static void exchange(context& from, const context& to,
                                                [[maybe_unused]] base::sanitizer_fiber* leaving,
                                                [[maybe_unused]] base::sanitizer_fiber* entering) {
#ifdef TUCO_TSAN_FIBERS
    __tsan_switch_to_fiber(entering->tsan, 0);
#endif
#ifdef TUCO_BASE_ASAN
    __sanitizer_start_switch_fiber(&leaving->fake_stack, entering->bottom, entering->size);
#endif
    switch_context(from, to);
#ifdef TUCO_BASE_ASAN
    __sanitizer_finish_switch_fiber(leaving->fake_stack, &left_bottom_, &left_size_);
#endif
  }
  /// AddressSanitizer says which stack was left; each thread that resumes has another one.
  void note_outside() {
#ifdef TUCO_BASE_ASAN
    fiber_outside_.bottom = left_bottom_;
    fiber_outside_.size = left_size_;
#endif
  }
  static void begin() {
    coroutine* self = starting_;
#ifdef TUCO_BASE_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &left_bottom_, &left_size_);
#endif
    self->note_outside();
    self->body_();
    self->done_ = true;
    for (;;) self->suspend();
  }

  std::function<void()> body_;
  void* memory_;
  bool done_ = false;
  context inside_;
  context outside_;
  base::sanitizer_fiber fiber_inside_;
  base::sanitizer_fiber fiber_outside_;
  // A new context gets no argument.
  static inline coroutine* starting_ = nullptr;
#ifdef TUCO_BASE_ASAN
  static inline const void* left_bottom_ = nullptr;
  static inline std::size_t left_size_ = 0;
#endif
};

}  // namespace tuco::inline v1::arch
