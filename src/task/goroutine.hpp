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
  std::uint32_t line = 0;
  std::uintptr_t pc = 0;  ///< return address into the creator
};

/// The exception state of a goroutine that is not running: what __cxa_get_globals() points to.
struct exception_globals {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

struct alignas(64) goroutine {
  // -- first line: what the switch touches
  arch::context context;
  std::atomic<goroutine_status> status{goroutine_status::idle};
  std::atomic<wait_reason> reason{wait_reason::none};
  std::uint8_t flags = 0;               ///< goroutine_flag bits; written by its own worker only
  std::uint8_t size_class = 0;          ///< of the stack
  std::atomic<std::uint32_t> pins{0};   ///< readers that hold the stack still
  goroutine* next = nullptr;            ///< link of the queue or free list that holds it
  std::atomic<std::uint64_t> id{0};     ///< never reused; 0: no goroutine here

  // -- second line: waiting
  std::atomic<const void*> wait_object{nullptr};
  std::atomic<std::uint64_t> wait_since{0};  ///< ticks (base/tick_clock.hpp), from the moment of parking
  std::atomic<std::uint32_t> claim{0};       ///< see sched/park.hpp: who ends this wait
  std::atomic<std::uint32_t> thread_word{0}; ///< plain threads: the futex they wait on
  std::atomic<sched::worker*> worker{nullptr};        ///< runs it now
  std::atomic<sched::worker*> locked_worker{nullptr};  ///< lock_thread(): the only one that may
  std::uint32_t lock_depth = 0;
  std::uint32_t slab_index = 0;          ///< place in the registry
  exception_globals exceptions;

  // -- identity
  std::uint64_t parent = 0;
  creation_site created;
  char name[32] = {};              ///< in the record: readers must not follow a pointer that is freed
  task::stack stack;               ///< null until it first runs
  std::uint32_t epoch = 0;         ///< which run() it belongs to
  std::uint32_t stack_request = 0; ///< KiB; 0: default
  std::atomic<std::uint64_t> cpu_ticks{0};
  std::atomic<std::uint32_t> switches{0};
  std::uint32_t stack_high_water = 0;  ///< bytes, known at the end or when asked

  [[no_unique_address]] base::sanitizer_fiber fiber;
  detail::closure start;
};

enum goroutine_flag : std::uint8_t {
  flag_plain_thread = 1,  ///< stands in for a thread that is not a worker
  flag_system = 2,        ///< the runtime's own: hidden from dumps below the level `system`
  flag_no_stack_reuse = 4,
  flag_main = 8,
};

}  // namespace tuco::inline v1::task
