// SPDX-License-Identifier: Apache-2.0
// The monitor (Go's sysmon): a thread without a processor that sees to it that no processor is held by
// code that has left the runtime.
//
// C++ code blocks in system calls that know nothing of us, and computes for seconds without a call.
// Go hands the processor over around system calls, because its compiler and library mark them, and
// preempts hogs by a signal that switches stacks. Neither is open to us: nobody marks the calls, and
// switching away from code that may hold malloc's lock or a cached thread-local is unsound in C++.
//
// So one mechanism serves both: *the processor is taken, the thread stays*. The goroutine goes on
// where it is, time-shared by the kernel, without the right to touch its former processor; it notices
// at its next entry into the runtime. No signal, no hook, no EINTR.
//
//   worker, entering the runtime                monitor
//   W1  in_runtime.store(1, relaxed)            T1  attention.cas(none -> asked)
//   W2  light_fence()                           T2  heavy_fence()
//   W3  attention.load(): none, go on           T3  in_runtime.load(acquire)
//       asked: cas(asked -> none), go on        T4  0: cas(asked -> taken); on success it owns P
//       taken: P is gone, get another               1: cas(asked -> none), withdrawn
//   W4  ... touches P ...
//   W5  in_runtime.store(0, release)
//
// Claim      The worker never touches P (W4) while the monitor owns it.
// Proof      A light and a heavy fence order like two full ones. T2 before W2: W3 sees T1 or later. If
//            it reads `asked`, the two exchanges of asked decide: only one succeeds, and it says whose
//            P is. W2 before T2: T3 sees W1 or a later store; 1 withdraws; 0 is a W5, which
//            ends that W4, and the next entry is in the first case.
// Pairs      W5 with T3: what the worker did with P happens before what the next owner does.
// Too weak   Without the fences W1 may wait in the store buffer while W3 loads: both go on.
//            T4 as a plain store: a worker that has answered `none` in between loses a P it is using.
// Test       test/model/take_away_model.cpp.
//
// One heavy fence serves all suspects of a round.
#include <algorithm>
#include <array>
#include <system_error>

#include "base/fatal.hpp"
#include "os/cgroup.hpp"
#include "os/clock.hpp"
#include "os/futex.hpp"
#include "os/membarrier.hpp"
#include "os/sleep.hpp"
#include "os/thread.hpp"
#include "os/write.hpp"
#include "poll/poller.hpp"
#include "sched/lifecycle.hpp"
#include "sched/monitor.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

namespace tuco::inline v1::sched {
namespace {

constexpr std::int64_t shortest_round_ns = 20'000;
constexpr std::int64_t longest_round_ns = 10'000'000;
constexpr std::int64_t hog_round_ns = 1'000'000;
constexpr int rounds_before_slowing = 50;   // about a millisecond
constexpr std::int64_t slice_ns = 10'000'000;
constexpr std::int64_t kernel_patience_ns = 20'000;
constexpr int slowing = 4;    ///< how much longer each round is then
constexpr int settling = 32;  ///< how much longer each round without any event is
constexpr std::int64_t tidy_every_ns = 100'000'000;
constexpr std::size_t suspects_per_fence = 64;

struct monitor_thread {
  start_options options;
  pthread_t thread{};
  bool started = false;
};
monitor_thread the_monitor;

struct suspect {
  processor* p;
  worker* w;
};

bool work_waits_at(processor& p, std::int64_t now) noexcept {
  scheduler& s = the_scheduler;
  if (!p.run_queue.empty() || p.timers.next() <= now) return true;
  if (s.global_size.load(std::memory_order_relaxed) != 0) return true;
  // All processors are held and nobody can sit in the poller: the network is work that may wait.
  return s.idle_processor_count.load(std::memory_order_relaxed) == 0 &&
         (poll::the_poller().waiters() != 0 || earliest_timer() != no_deadline);
}

enum class verdict : std::uint8_t { fine, watch_kernel, watch_hog, take };

/// Looks at one processor. Says `take` when its worker has been outside for too long.
verdict judge(processor& p, worker* w, std::int64_t now) noexcept {
  auto& seen = p.observed;
  const std::uint32_t slices = p.slices.load(std::memory_order_relaxed);
  if (seen.owner != w || seen.slices != slices) {
    seen = {slices, now, -1, w, false};
    return verdict::fine;
  }
  const std::int64_t held = now - seen.since;
  const bool waiting = work_waits_at(p, now);
  const bool inside = w->in_runtime.load(std::memory_order_relaxed) != 0;

  if (!inside) {
    const std::int64_t cpu = os::thread_cpu_ns(w->tid);
    const bool moved = cpu != seen.cpu_time;
    seen.cpu_time = cpu;
    if (!moved) {
      // It used no time since the last look: in the kernel, or the kernel runs others in its place.
      const auto what = activity_of(w);
      if (what.what == os::thread_activity::kind::in_syscall ||
          what.what == os::thread_activity::kind::blocked) {
        if (held >= kernel_patience_ns && (waiting || held >= slice_ns)) return verdict::take;
        return verdict::watch_kernel;
      }
    }
  }
  if (!waiting) return verdict::fine;
  if (held < slice_ns) return verdict::watch_hog;
  if (!seen.asked_to_yield) {
    // A goroutine that calls the runtime often gives way by itself, which is cheaper for everybody.
    seen.asked_to_yield = true;
    attention none = attention::none;
    w->attention_word.compare_exchange_strong(none, attention::yield);
    return verdict::watch_hog;
  }
  return inside ? verdict::watch_hog : verdict::take;
}

/// Takes the processors of those suspects that are outside the runtime right now.
int take_away(std::array<suspect, suspects_per_fence>& suspects, std::size_t count) noexcept {
  scheduler& s = the_scheduler;
  for (std::size_t i = 0; i < count; ++i) {
    attention word = attention::none;
    auto& attention_word = suspects[i].w->attention_word;
    if (!attention_word.compare_exchange_strong(word, attention::asked)) {  // T1
      if (word != attention::yield ||
          !attention_word.compare_exchange_strong(word, attention::asked)) {
        suspects[i].w = nullptr;
      }
    }
  }
  os::heavy_fence();  // T2
  int taken = 0;
  for (std::size_t i = 0; i < count; ++i) {
    worker* w = suspects[i].w;
    if (w == nullptr) continue;
    attention asked = attention::asked;
    if (w->in_runtime.load(std::memory_order_acquire) != 0) {  // T3
      w->attention_word.compare_exchange_strong(asked, attention::none);
      s.withdrawn.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    // Before T4: from then on the worker, if it comes in, stores null or its next processor there.
    processor* p = w->p;
    if (!w->attention_word.compare_exchange_strong(asked, attention::taken)) continue;  // T4
    p->owner.store(nullptr, std::memory_order_relaxed);
    p->observed = {};
    s.take_aways.fetch_add(1, std::memory_order_relaxed);
    suspects[i].p = p;
    ++taken;
    hand_over(p);
  }
  return taken;
}

struct round_result {
  int taken = 0;
  bool watch_kernel = false;
  bool watch_hog = false;
};

round_result look_at_processors(std::int64_t now) noexcept {
  scheduler& s = the_scheduler;
  round_result result;
  std::array<suspect, suspects_per_fence> suspects;
  std::size_t count = 0;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) {
    processor& p = *s.processors[i].load(std::memory_order_relaxed);
    worker* w = p.owner.load(std::memory_order_acquire);
    if (w == nullptr || p.status.load(std::memory_order_relaxed) == processor_status::idle) continue;
    switch (judge(p, w, now)) {
      case verdict::fine: break;
      case verdict::watch_kernel: result.watch_kernel = true; break;
      case verdict::watch_hog: result.watch_hog = true; break;
      case verdict::take:
        suspects[count++] = {&p, w};
        if (count == suspects_per_fence) {
          result.taken += take_away(suspects, count);
          count = 0;
        }
        break;
    }
  }
  if (count != 0) result.taken += take_away(suspects, count);
  return result;
}

/// The network and the timers, when no worker has looked after them.
void help_out(std::int64_t now) noexcept {
  scheduler& s = the_scheduler;
  poll::poller& poller = poll::the_poller();
  if (poller.initialized() && poller.waiters() != 0 &&
      !s.poller_taken.load(std::memory_order_relaxed) &&
      now - s.last_poll.load(std::memory_order_relaxed) > longest_round_ns) {
    ready_list found;
    poller.poll(0, found);
    s.last_poll.store(now, std::memory_order_relaxed);
    if (found.head != nullptr) ready_all(found);
  }
  if (s.idle_processor_count.load(std::memory_order_relaxed) != 0 &&
      (earliest_timer() <= now || any_work_visible())) {
    wake_worker();
  }
}

bool all_processors_idle() noexcept {
  scheduler& s = the_scheduler;
  return s.idle_processor_count.load(std::memory_order_seq_cst) ==
         s.processor_count.load(std::memory_order_relaxed);
}

/// Grows whenever a goroutine runs.
std::uint32_t slices_of_all() noexcept {
  scheduler& s = the_scheduler;
  std::uint32_t sum = 0;
  const int slots = s.processor_slots.load(std::memory_order_acquire);
  for (int i = 0; i < slots; ++i) {
    sum += s.processors[i].load(std::memory_order_relaxed)->slices.load(std::memory_order_relaxed);
  }
  return sum;
}

/// Somebody waits for a processor or a timer is due: not a moment to sleep in.
bool work_waits(std::int64_t now) noexcept { return any_work_visible() || earliest_timer() <= now; }

/// A goroutine that runs or may run, or one that something else than a goroutine may wake.
bool anybody_can_go_on() noexcept {
  scheduler& s = the_scheduler;
  if (earliest_timer() != no_deadline || poll::the_poller().waiters() != 0) return true;
  if (s.plain_threads.load(std::memory_order_relaxed) > 1) return true;  // one is the caller of run()
  const std::uint32_t epoch = s.epoch.load(std::memory_order_relaxed);
  bool found = false;
  task::the_registry().for_each([&](goroutine& g) {
    const auto status = g.status.load(std::memory_order_relaxed);
    found = g.epoch == epoch && (status == goroutine_status::running ||
                                 (status == goroutine_status::runnable &&
                                  g.switches.load(std::memory_order_relaxed) != 0));
    return !found;
  });
  return found;
}

/// A program that stands still for want of a thread or a stack says so and ends. A shortage alone is no reason:
/// it is waited out while somebody gets on who may end it (a worker comes back from a blocking call and takes
/// the idle processor, a goroutine ends and its stack is free).
class shortage_watch {
 public:
  void look(std::int64_t now, bool all_idle, bool ran) noexcept {
    scheduler& s = the_scheduler;
    const std::int64_t limit = s.shortage_limit_ns.load(std::memory_order_relaxed);
    const int refused = s.thread_refused.load(std::memory_order_relaxed);
    if (lasts(no_thread_since_, refused != 0 && all_idle && !ran && work_waits(now), now, limit)) {
      os::fd_writer(2).text("runtime: failed to create new OS thread (have ").dec(runtime_threads())
          .text(" already; errno=").dec(refused)
          .text(")\nruntime: may need to increase max user processes (ulimit -u)\n");
      base::fatal("newosproc");
    }
    const std::uint32_t refusals = s.stacks_refused.load(std::memory_order_relaxed);
    const bool again = refusals != stacks_refused_;
    stacks_refused_ = refusals;
    std::uint64_t ended = 0;
    if (again) {
      const int slots = s.processor_slots.load(std::memory_order_acquire);
      for (int i = 0; i < slots; ++i) {
        ended += s.processors[i].load(std::memory_order_relaxed)->counters.ended.load(std::memory_order_relaxed);
      }
    }
    const bool progress = ended != ended_;
    ended_ = ended;
    if (lasts(no_stack_since_, again && !progress && !anybody_can_go_on(), now, limit)) {
      base::fatal("out of memory for goroutine stacks");
    }
  }

 private:
  /// Whether `condition` has held at each look for longer than `limit`.
  static bool lasts(std::int64_t& since, bool condition, std::int64_t now, std::int64_t limit) noexcept {
    if (!condition) since = 0;
    else if (since == 0) since = now;
    return since != 0 && now - since > limit;
  }

  std::int64_t no_thread_since_ = 0;
  std::int64_t no_stack_since_ = 0;
  std::uint32_t stacks_refused_ = 0;
  std::uint64_t ended_ = 0;
};

/// Sleeps until a processor is taken into use. False: did not sleep.
bool sleep_while_all_idle() noexcept {
  scheduler& s = the_scheduler;
  const std::uint32_t word = s.monitor_word.load(std::memory_order_acquire);
  // Store, then look, and so does take_idle(): all four are seq_cst, so one of us sees the other.
  s.monitor_asleep.store(true, std::memory_order_seq_cst);
  // Work beside idle processors: there was no thread for it, and we are the one who tries again.
  const bool all_idle = all_processors_idle() && !work_waits(os::steady_now_ns());
  if (all_idle && s.state.load(std::memory_order_relaxed) == phase::running) {
    // Without timers and descriptors only a plain thread can end this silence; when the last one
    // leaves, nobody would notice that the silence is a deadlock.
    const bool suspicious = earliest_timer() == no_deadline && poll::the_poller().waiters() == 0;
    const std::int64_t limit =
        suspicious ? os::steady_now_ns() + 1'000'000'000 : os::no_deadline;
    if (os::futex_wait(s.monitor_word, word, limit) == os::futex_result::timed_out) {
      // Who sleeps there waits for a timer that was stopped since. Awake, it joins the idle ones, and is
      // the last of them to ask.
      if (s.poller_deadline.load(std::memory_order_relaxed) != 0) poll::the_poller().interrupt();
      s.lock.lock();
      check_deadlock();
      s.lock.unlock();
    }
  }
  s.monitor_asleep.store(false, std::memory_order_relaxed);
  return all_idle;
}

void follow_quota(os::cpu_quota_reader& reader) noexcept {
  const int wanted = std::min(os::default_processors(reader), max_processors);
  if (wanted != the_scheduler.processor_count.load(std::memory_order_relaxed) &&
      the_scheduler.follow_quota.load(std::memory_order_relaxed)) {
    change_processors(wanted);
  }
}

void* monitor_main(void*) {
  scheduler& s = the_scheduler;
  const start_options options = the_monitor.options;
  os::set_timer_slack(1);
  for (;;) {
    const std::uint32_t word = s.monitor_word.load(std::memory_order_acquire);
    if (s.state.load(std::memory_order_acquire) != phase::starting) break;
    os::futex_wait(s.monitor_word, word);
  }
  os::cpu_quota_reader quota;
  shortage_watch shortages;
  std::int64_t round_ns = shortest_round_ns;
  std::int64_t next_quota = os::steady_now_ns() + 1'000'000'000;
  std::int64_t next_tidy = 0;
  std::int64_t next_trace = os::steady_now_ns() + options.schedtrace_ns;
  int quiet_rounds = 0;
  std::uint32_t slices = 0;
  while (s.state.load(std::memory_order_acquire) == phase::running) {
    // A futex and not a plain sleep, so that the end of the runtime does not wait for it.
    const std::uint32_t word = s.monitor_word.load(std::memory_order_acquire);
    std::int64_t now = os::steady_now_ns();
    os::futex_wait(s.monitor_word, word, now + round_ns);
    if (s.state.load(std::memory_order_acquire) != phase::running) break;
    now = os::steady_now_ns();

    // An event that takes microseconds, once in a while, must not cost rounds by the dozen; nor must a
    // server that is idle between two requests pay for waking us each time. So we settle quickly, but only
    // while nothing runs at all, and sleep after a whole round in which nothing did.
    const std::uint32_t slices_now = slices_of_all();
    const bool ran = slices_now != slices;
    slices = slices_now;
    const bool all_idle = all_processors_idle();
    const bool settled = all_idle && !ran;
    if (settled && round_ns == longest_round_ns && options.schedtrace_ns == 0) {
      task::the_registry().tidy();
      task::the_registry().tidy();  // while all are idle nobody needs more than is kept
      if (sleep_while_all_idle()) {
        quiet_rounds = rounds_before_slowing;  // what blocks a while after this is noticed after another such while
        round_ns = shortest_round_ns;
        continue;
      }
    }

    shortages.look(now, all_idle, ran);
    help_out(now);
    const round_result seen = look_at_processors(now);
    if (seen.taken != 0) {
      quiet_rounds = 0;
      round_ns = shortest_round_ns;
    } else if (settled) {
      round_ns = std::min(settling * round_ns, longest_round_ns);
    } else if (++quiet_rounds > rounds_before_slowing) {
      round_ns = std::min(slowing * round_ns, longest_round_ns);
    }
    if (seen.watch_kernel) round_ns = std::min(round_ns, 4 * shortest_round_ns);
    if (seen.watch_hog) round_ns = std::min(round_ns, hog_round_ns);

    if (now >= next_tidy) {
      next_tidy = now + tidy_every_ns;
      task::the_registry().tidy();
    }
    if (now >= next_quota) {
      next_quota = now + 1'000'000'000;
      follow_quota(quota);
      close_probes();
    }
    if (options.schedtrace_ns != 0) {
      round_ns = std::min(round_ns, options.schedtrace_ns);
      if (now >= next_trace) {
        next_trace = now + options.schedtrace_ns;
        print_schedtrace(options.scheddetail);
      }
    }
  }
  return nullptr;
}

}  // namespace

os::thread_activity activity_of(worker* w) noexcept {
  if (w->probe_tid != w->tid) {
    w->probe.close();
    if (w->probe.open(w->tid) >= 0) w->probe_tid = w->tid;
  }
  return w->probe.activity();
}

void close_probes() noexcept {
  for (worker* w = the_scheduler.all_workers.load(std::memory_order_acquire); w != nullptr; w = w->all_next) {
    if (w->probe_tid == 0 || (the_monitor.started && w->in_use.load(std::memory_order_acquire))) continue;
    w->probe.close();
    w->probe_tid = 0;
  }
}

void start_monitor(const start_options& options) {
  the_monitor.options = options;
  const int error = os::create_thread(&monitor_main, nullptr, 64 * 1024, the_monitor.thread);
  the_monitor.started = error >= 0;
  if (!the_monitor.started) {
    throw std::system_error(-error, std::system_category(), "tuco::run: no thread for the monitor");
  }
}

void stop_monitor() noexcept {
  if (!the_monitor.started) return;
  wake_monitor();
  os::join_thread(the_monitor.thread);
  the_monitor.started = false;
}

void wake_monitor() noexcept {
  scheduler& s = the_scheduler;
  s.monitor_word.fetch_add(1, std::memory_order_acq_rel);
  os::futex_wake(s.monitor_word);
}

bool take_from_outside(worker* w) noexcept {
  std::array<suspect, suspects_per_fence> one{};
  one[0] = {nullptr, w};
  return take_away(one, 1) == 1;
}

}  // namespace tuco::inline v1::sched
