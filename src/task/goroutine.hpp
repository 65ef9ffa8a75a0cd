// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The record of a goroutine (Go's G).
///
/// Records live in the registry's slabs: their memory is never unmapped and always a goroutine or
/// zero, so that another thread, another process or the reader of a core may look at any time. What
/// lies in a record may change under such a reader; it reads `id`, the fields, and `id` again.
///
/// Who may write, by status:
///
///     field group       idle/dead     runnable        running           waiting
///     identity          registry      nobody          nobody            nobody
///     status            registry      the worker      its worker        who dequeued or claimed it
///                                     that dequeued it
///     context, stack    registry      nobody          its worker        nobody
///     wait_*            -             nobody          its worker        nobody
///     queue link        free list     holder of the   nobody            nobody
///                                     queue
///     pins              any reader, any time
///
/// **Pinning** (Go's scan bit). A reader raises `pins`, passes a heavy fence and looks at the status:
/// runnable or waiting means that nobody runs the stack until `pins` falls to 0 again, because a
/// worker that is about to run it stores `running` first and looks at `pins` then
/// (test/model/pin_model.cpp). It is a word of its own and not a bit of the status: then status
/// changes are plain stores, and the switch has no read-modify-write for the sake of readers.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <tuco/detail/closure.hpp>
#include <tuco/wait_reason.hpp>

#include "arch/context.hpp"
#include "base/sanitizer.hpp"
#include "task/stack.hpp"

namespace tuco::inline v1::sched {
struct worker;
}

namespace tuco::inline v1::task {

/// Where `go` was called: the source location's strings have static storage.
struct creation_site {
  const char* file = nullptr;
  const char* function = nullptr;
  std::uintptr_t pc = 0;  ///< return address into the creator
  std::uint32_t line = 0;
};

/// A thread's exception state: what __cxa_get_globals() points to.
struct exception_globals {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

struct alignas(64) goroutine {
  // -- first line: all that a switch and ready() touch. A thousand goroutines that take turns cost as
  //    many cache misses for each line more.
  arch::context context;                ///< `context.sp` is 0 until it has a stack
  std::atomic<goroutine_status> status{goroutine_status::idle};
  std::atomic<wait_reason> reason{wait_reason::none};
  std::uint8_t flags = 0;               ///< goroutine_flag bits; written by its own worker only
  std::uint8_t size_class = 0;          ///< of the stack
  std::atomic<std::uint32_t> pins{0};   ///< readers that hold the stack still
  /// Runs it, or was the last to; if flag_locked, the only one that may.
  std::atomic<sched::worker*> worker{nullptr};
  std::atomic<std::uint32_t> switches{0};
  std::uint32_t epoch = 0;              ///< which run() it belongs to
  goroutine* next = nullptr;            ///< link of the queue or free list that holds it

  // -- second line: waiting, and what is rare
  std::atomic<const void*> wait_object{nullptr};
  std::atomic<std::uint64_t> wait_since{0};  ///< ticks (base/tick_clock.hpp), from the moment of parking
  std::atomic<std::uint32_t> claim{0};       ///< see sched/park.hpp: who ends this wait
  std::atomic<std::uint32_t> thread_word{0}; ///< plain threads: the futex they wait on
  std::atomic<std::uint64_t> id{0};          ///< never reused; 0: no goroutine here
  std::uint32_t lock_depth = 0;              ///< not 0: flag_locked is set
  std::uint32_t slab_index = 0;          ///< place in the registry
  std::uint64_t parent = 0;              ///< id of the creator
  task::stack stack;                     ///< null until it first runs

  // -- third line: identity
  creation_site created;
  char name[32] = {};              ///< in the record: readers must not follow a pointer that is freed

  // -- fourth line
  detail::closure start;

  [[no_unique_address]] base::sanitizer_fiber fiber;
  [[nodiscard]] bool has_stack() const noexcept { return context.sp != 0; }
  [[nodiscard]] bool has_flag(std::uint8_t f) const noexcept { return (flags & f) != 0; }
  void set_flag(std::uint8_t f) noexcept { flags = static_cast<std::uint8_t>(flags | f); }
  void clear_flag(std::uint8_t f) noexcept { flags = static_cast<std::uint8_t>(flags & ~f); }
};
#if !defined(TUCO_TSAN_FIBERS) && !defined(TUCO_BASE_ASAN)
// Of the memory that a parked goroutine costs, this is what is not pages.
static_assert(sizeof(goroutine) == 256 && offsetof(goroutine, wait_object) == 64 &&
              offsetof(goroutine, created) == 128 && offsetof(goroutine, start) == 192);
#endif

enum goroutine_flag : std::uint8_t {
  flag_plain_thread = 1,  ///< stands in for a thread that is not a worker
  flag_system = 2,        ///< the runtime's own: hidden from dumps below the level `system`
  flag_no_stack_reuse = 4,
  flag_main = 8,
  flag_locked = 16,      ///< lock_thread(): only `worker` runs it
};

}  // namespace tuco::inline v1::task
