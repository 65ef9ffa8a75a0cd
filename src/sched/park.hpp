// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The two calls on which all blocking stands: park() and ready(), and the section around them.
///
/// A blocking operation looks like this:
///
///     sched::runtime_section section;              // from here the processor cannot be taken away
///     lock_.lock();
///     if (can proceed) { ...; lock_.unlock(); return; }
///     waiter w{section.self()};                     // on the parked stack itself: no allocation
///     queue_.push_back(w);
///     sched::park(unlock, &lock_, wait_reason::chan_receive, this);
///     // woken: whoever took w out of the queue has filled it in
///
/// and the other side:
///
///     runtime_section section; lock_.lock(); waiter* w = queue_.pop_front(); fill in *w;
///     goroutine* g = w->g; lock_.unlock(); sched::ready(g);       // *w may be gone after ready()
///
/// **The commit action** (`unlock` above) runs on the *next* context after this one was saved:
/// nobody can ready the goroutine before its registers are in memory, because the waiter is only
/// reachable under the lock that the commit action releases. It must not park, allocate or throw.
/// It returns true to stay parked; false means "what I waited for is already there": the goroutine
/// goes on at once.
///
/// **Claims.** A wait that more than one party may end (select, or any wait with a deadline) is ended
/// by the one that moves `g->claim` from `unclaimed` to its own value with try_claim(). Arm it
/// with arm_claim() before the first waiter is published. Parties that lose must leave the
/// goroutine alone. A wait with one queue and no deadline needs no claim: taking the waiter out of
/// the queue under its lock is the claim.
///
/// **Plain threads** may do all of this: they get a stand-in goroutine, park() blocks the thread.
/// The commit action runs on their own stack then, before they sleep.

#include <cstdint>

#include "base/sanitizer.hpp"
#include "os/membarrier.hpp"
#include "sched/worker.hpp"
#include "task/claim.hpp"
#include "task/goroutine.hpp"
#include "task/ready_list.hpp"

namespace tuco::inline v1::sched {

using task::arm_claim;
using task::claimed_by_commit;
using task::claimed_by_deadline;
using task::goroutine;
using task::ready_list;
using task::try_claim;
using task::unclaimed;

worker* this_worker_or_attach();  ///< makes the record of a plain thread
/// Sees to what the attention word says. In the outermost section (depth 0) it returns when the worker
/// has a processor that nobody can take.
void answer_monitor(worker* w, std::uint32_t depth) noexcept;

/// The steps of a runtime_section, for code that cannot nest them in a scope.
///
// Inline, with the thread's record read by volatile assembly: these loads and stores are the price of every
// call of the runtime (sched/monitor.cpp has the argument, W1 to W5).
[[gnu::always_inline]] inline worker* enter_runtime() noexcept {
  worker* w = this_worker();
  if (w == nullptr) [[unlikely]] w = this_worker_or_attach();
  const std::uint32_t depth = w->in_runtime.load(std::memory_order_relaxed);
  w->in_runtime.store(depth + 1, std::memory_order_relaxed);
  os::light_fence();
  if (w->attention_word.load(std::memory_order_relaxed) != attention::none) [[unlikely]] {
    answer_monitor(w, depth);
    return this_worker();
  }
  return w;
}
[[gnu::always_inline]] inline void exit_runtime() noexcept {
  worker* w = this_worker();
  // Release: whoever then takes the processor sees what we did with it.
  w->in_runtime.store(w->in_runtime.load(std::memory_order_relaxed) - 1, std::memory_order_release);
}

/// Whether enter_runtime() would do more than enter: the thread is not known yet, or somebody wants an answer.
#ifdef TUCO_TSAN_FIBERS
[[nodiscard]] bool entry_has_a_question() noexcept;  // see runtime_section
#else
[[nodiscard, gnu::always_inline]] inline bool entry_has_a_question() noexcept {
  const worker* w = this_worker();
  return w == nullptr || w->attention_word.load(std::memory_order_relaxed) != attention::none;
}
#endif

/// While one exists on this stack, the monitor does not take the processor from this worker.
/// Entering may switch: if the processor was taken before, the goroutine waits here for another one.
/// So enter before you take a lock, never with one held (nested sections are free of this: only the
/// outermost one looks). After a park the section belongs to the worker that resumed us.
class runtime_section {
 public:
#ifdef TUCO_TSAN_FIBERS
  // src/sync is instrumented and this layer is not (ADR 5): inlined there, these words, whose order
  // ThreadSanitizer is not told, would be reported.
  runtime_section() noexcept;
  ~runtime_section();
#else
  [[gnu::always_inline]] runtime_section() noexcept : self_(enter_runtime()->running()) {}
  [[gnu::always_inline]] ~runtime_section() { exit_runtime(); }
#endif
  runtime_section(const runtime_section&) = delete;
  runtime_section& operator=(const runtime_section&) = delete;
  /// The calling goroutine, or the plain thread's stand-in. Constant for the section.
  [[nodiscard]] goroutine* self() const noexcept { return self_; }

 private:
  goroutine* self_;
};

/// Parks the caller until somebody calls ready() for it. Call inside a runtime_section.
void park(commit_action commit, void* argument, wait_reason reason, const void* object) noexcept;

/// Makes a parked goroutine runnable. Exactly one call for each park; never before the commit
/// action released the goroutine. Call inside a runtime_section.
void ready(goroutine* g) noexcept;

/// Like park(), but the deadline is one of the parties: when it passes first, it claims with
/// `claimed_by_deadline`. The claim must be armed. A deadline in the past still parks and times out.
/// `commit` returns false when a party has claimed the wait and will not ready `self`, or when no party but the
/// deadline knows of it: then the claim becomes `claimed_by_commit`, unless the deadline was faster.
/// When it returns, the deadline can no longer touch the goroutine; waiters that are still queued
/// are the caller's to remove.
/// @param deadline_ns  steady clock, nanoseconds; `no_deadline` never passes
/// @return The value of the claim.
inline constexpr std::int64_t no_deadline = INT64_MAX;
std::uint32_t park_until(std::int64_t deadline_ns, commit_action commit, void* argument,
                         wait_reason reason, const void* object) noexcept;

/// Lets others run: the caller goes to the end of its processor's queue. Call inside a section.
void yield_in_section() noexcept;

/// ready() for each; empties the list.
void ready_all(ready_list& list) noexcept;

}  // namespace tuco::inline v1::sched
