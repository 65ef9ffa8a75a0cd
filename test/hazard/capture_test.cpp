// SPDX-License-Identifier: Apache-2.0
// H25, H26: a profiler's signal meets a goroutine at any moment.
//
// Danger      H25: the handler must not allocate, lock or fault, wherever the program is: in malloc, in
//             the middle of a throw, in a goroutine's first or last instruction. H26: between two
//             contexts the stack pointer is one goroutine's and what the worker says another's; a walk
//             that believes the worker walks the wrong stack, or off it.
// Mitigation  Captures go by the stack pointer (observe/stack_of.hpp), by tables made ahead of time, and
//             inside the switch by the context that is being resumed (arch::inside_switch).
//
// Sampled are goroutines of the runtime, as users have them, at random moments; switch_step_test.cpp has
// every instruction of the switch, unwinder_sampling_test.cpp more kinds of code. TUCO_STRESS=full takes
// 200,000 moments and asks 20,000 times, with each number of processors.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <tuco/tuco.hpp>

#include "arch/context.hpp"
#include "observe/stack_of.hpp"
#include "sched/scheduler.hpp"
#include "task/registry.hpp"

extern "C" {
void tuco_context_entry();
void tuco_restart_stack(std::uintptr_t top, void (*entry)());
}

namespace tuco {
namespace {

using observe::walk_end;

constexpr std::size_t deepest = 256;

bool in_symbol(std::uintptr_t pc, std::uintptr_t begin) { return pc >= begin && pc < begin + 32; }

/// Where every stack of a goroutine ends: nothing else makes a walk whole.
bool is_entry(std::uintptr_t pc) {
  return in_symbol(pc, reinterpret_cast<std::uintptr_t>(&tuco_context_entry)) ||
         in_symbol(pc, reinterpret_cast<std::uintptr_t>(&tuco_restart_stack));
}

bool signals_come_late() {
#ifdef TUCO_TSAN_FIBERS
  return true;  // ThreadSanitizer keeps them for a moment that suits it
#else
  return false;
#endif
}

std::uint64_t wanted(std::uint64_t full, std::uint64_t daily) {
  const char* text = std::getenv("TUCO_STRESS");
  return text != nullptr && std::string_view(text) == "full" ? full : daily;
}

struct captured {
  enum class where { goroutine, own_stack, lost } place = where::lost;
  bool whole = false;
  bool inside_switch = false;
  std::uintptr_t low = 0;  ///< of the goroutine's stack
  std::size_t frames = 0;
  walk_end end{};
  std::array<std::uintptr_t, deepest> pcs{};
};

/// What a sampling handler does.
void take(void* context, captured& out) noexcept {
  const auto interrupted = observe::from_ucontext(context);
#if defined(__x86_64__)
  out.inside_switch = arch::inside_switch(interrupted.pc, interrupted.other[arch::switch_target_register]) != nullptr;
#else
  out.inside_switch = arch::inside_switch(interrupted.pc, interrupted.other[1]) != nullptr;
#endif
  const observe::interrupted_stack at = observe::where_interrupted(context);
  if (at.stack.low == 0) {
    const sched::worker* w = sched::this_worker();
    const bool own = w != nullptr && at.registers.sp > w->own_stack.low && at.registers.sp <= w->own_stack.high;
    out.place = own ? captured::where::own_stack : captured::where::lost;
    return;
  }
  out.place = captured::where::goroutine;
  out.low = at.stack.low;
  const observe::walk_result walk = observe::capture(at.registers, at.stack, out.pcs);
  out.frames = walk.frames;
  out.end = walk.end;
  out.whole = walk.end == walk_end::entry && is_entry(out.pcs[walk.frames - 1]);
}

std::string describe(const captured& c) {
  std::string out = "end " + std::to_string(static_cast<int>(c.end)) + " after " + std::to_string(c.frames) + ":";
  for (std::size_t i = 0; i < std::min<std::size_t>(c.frames, 6); ++i) {
    char text[64];
    std::snprintf(text, sizeof text, " 0x%lx", static_cast<unsigned long>(c.pcs[i]));
    Dl_info info{};
    out.append(text);
    if (::dladdr(reinterpret_cast<void*>(c.pcs[i]), &info) != 0 && info.dli_sname != nullptr) {
      out.append(" ").append(info.dli_sname);
    }
  }
  return out;
}

std::uintptr_t own_stack_low() { return sched::this_worker()->running()->stack.low; }

volatile unsigned sink;

enum kind : std::size_t { in_libc, in_own_leaf, in_switch, in_throw, in_malloc, short_lived, kinds };
constexpr const char* kind_names[kinds] = {"libc", "own leaf", "switch", "throw", "malloc", "short-lived"};

struct tally_of_kind {
  std::atomic<std::uint64_t> taken{0}, whole{0};
};

struct sampled {
  std::array<tally_of_kind, kinds> of;
  std::array<std::atomic<std::uintptr_t>, 8> lows{};  ///< stacks of those that live long
  std::array<kind, 8> kind_of{};
  std::atomic<std::uint64_t> taken{0}, whole{0}, own_stack{0}, lost{0}, inside_switch{0};
  std::atomic<bool> failed{false};
  captured first_failure;
};
sampled* the_samples = nullptr;

void on_sample(int, siginfo_t*, void* context) {
  const int saved_errno = errno;
  if (sampled* const s = the_samples) {
    captured now;
    take(context, now);
    constexpr auto relaxed = std::memory_order_relaxed;
    if (now.place == captured::where::own_stack) {
      s->own_stack.fetch_add(1, relaxed);
    } else if (now.place == captured::where::lost) {
      s->lost.fetch_add(1, relaxed);
    } else {
      const auto at = std::find_if(s->lows.begin(), s->lows.end(),
                                   [&](const auto& low) { return low.load(relaxed) == now.low; });
      const kind k = at == s->lows.end() ? short_lived : s->kind_of[static_cast<std::size_t>(at - s->lows.begin())];
      s->taken.fetch_add(1, relaxed);
      s->of[k].taken.fetch_add(1, relaxed);
      if (now.inside_switch) s->inside_switch.fetch_add(1, relaxed);
      if (now.whole) {
        s->whole.fetch_add(1, relaxed);
        s->of[k].whole.fetch_add(1, relaxed);
      } else if (!s->failed.exchange(true)) {
        s->first_failure = now;
      }
    }
  }
  errno = saved_errno;
}

[[gnu::noinline]] unsigned leaf(unsigned x) {
  for (int i = 0; i < 3000; ++i) x = x * 1664525U + 1013904223U;
  return x;
}

[[gnu::noinline]] void call_libc() {
  static char from[20'000], to[20'000];
  for (std::size_t n = 1; n < sizeof from; n = n * 3 + 1) {
    std::memcpy(to, from, n);
    std::memset(from, static_cast<int>(n), n - 1);
    sink = sink + static_cast<unsigned>(std::memchr(to, 255, n) != nullptr);
  }
  char line[128];
  std::snprintf(line, sizeof line, "%.17g %s %d", sink / 3.0, "x", 7);
  unsigned values[64];
  unsigned x = sink;
  for (unsigned& v : values) v = x = x * 1664525U + 1013904223U;
  sink = x;
  std::qsort(values, 64, sizeof values[0], [](const void* a, const void* b) {
    return std::memcmp(a, b, sizeof(unsigned));
  });
}

[[gnu::noinline]] void throw_from(int depth) {
  const std::string held(40, 'x');
  if (depth == 0) throw std::runtime_error(held);
  throw_from(depth - 1);
  sink = sink + static_cast<unsigned>(held.size());
}

[[gnu::noinline]] void allocate() {
  for (std::size_t n = 1; n < 20'000; n = n * 2 + 1) {
    char* p = static_cast<char*>(std::malloc(n));
    p[n / 2] = 1;
    sink = sink + static_cast<unsigned>(p[n / 2]);
    std::free(p);
  }
}

/// Signals the threads that run goroutines, at random moments, until `enough()`.
template <class F>
void interrupt_workers_until(F enough) {
  std::uint64_t random = 88172645463325252ULL;
  while (!enough()) {
    const sched::worker* w = sched::the_scheduler.all_workers.load(std::memory_order_acquire);
    for (; w != nullptr; w = w->all_next) {
      if (w->running() != nullptr) {
        ::syscall(SYS_tgkill, ::getpid(), w->tid, SIGRTMIN + 4);
      }
    }
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const timespec pause{0, 20'000 + static_cast<long>(random % 60'000)};
    ::nanosleep(&pause, nullptr);
  }
}

void do_once(kind k) {
  switch (k) {
    case in_libc: call_libc(); break;
    case in_own_leaf: sink = leaf(sink); break;
    case in_switch: break;
    case in_throw:
      try {
        throw_from(3);
      } catch (const std::exception& e) {
        sink = sink + static_cast<unsigned>(std::strlen(e.what()));
      }
      break;
    case in_malloc: allocate(); break;
    case short_lived: {
      wait_group some;
      some.add(8);
      for (int i = 0; i < 8; ++i) go([&some] { some.done(); });
      some.wait();
      break;
    }
    case kinds: break;
  }
}

/// Goroutines of these kinds, interrupted until so many captures were taken, some of each.
void storm(sampled& samples, const std::vector<kind>& wanted_kinds, std::uint64_t enough) {
  enough += samples.taken.load();
  std::atomic<bool> over{false};
  wait_group all;
  for (auto& low : samples.lows) low.store(0);
  for (std::size_t i = 0; i < wanted_kinds.size(); ++i) {
    samples.kind_of[i] = wanted_kinds[i];
    all.add();
    go([&, i] {
      samples.lows[i].store(own_stack_low());
      while (!over.load(std::memory_order_relaxed)) {
        do_once(wanted_kinds[i]);
        yield();
      }
      samples.lows[i].store(0);
      all.done();
    });
  }
  std::thread interrupter([&] {
    interrupt_workers_until([&] {
      const auto has_some = [&](kind k) { return samples.of[k].taken.load() >= 5; };
      return samples.taken.load() >= enough && std::all_of(wanted_kinds.begin(), wanted_kinds.end(), has_some);
    });
    over.store(true);
  });
  all.wait();
  interrupter.join();
}

class CaptureStorm : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Procs, CaptureStorm, ::testing::Values(1, 2, 8), ::testing::PrintToStringParamName());

TEST_P(CaptureStorm, RandomMomentsReachTheEntry) {
  if (signals_come_late()) GTEST_SKIP() << "ThreadSanitizer delivers signals late";
  auto samples = std::make_unique<sampled>();
  the_samples = samples.get();
  struct sigaction action {};
  action.sa_sigaction = &on_sample;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigaction(SIGRTMIN + 4, &action, nullptr);
  const std::uint64_t enough = wanted(100'000, 2'000);
  run(
      [&] {
        // By themselves, for a switch takes a hundredth of the time of anything else.
        storm(*samples, std::vector<kind>(4, in_switch), enough);
        storm(*samples, {in_libc, in_own_leaf, in_throw, in_malloc, short_lived}, enough);
      },
      {.procs = GetParam()});
  ::signal(SIGRTMIN + 4, SIG_IGN);
  the_samples = nullptr;
  const auto taken = samples->taken.load();
  const auto whole = samples->whole.load();
  std::printf("captures %lu, to the entry %lu (%.4f %%), between two contexts %lu; worker's own stack %lu\n", taken,
              whole, 100.0 * static_cast<double>(whole) / static_cast<double>(taken),
              samples->inside_switch.load(), samples->own_stack.load());
  for (std::size_t k = 0; k < kinds; ++k) {
    std::printf("  %-12s %8lu, to the entry %8lu\n", kind_names[k], samples->of[k].taken.load(),
                samples->of[k].whole.load());
    EXPECT_GT(samples->of[k].taken.load(), 0U) << kind_names[k];
  }
  EXPECT_EQ(samples->lost.load(), 0U);
  // libgcc's unwinder has a switch of its own, of which we know nothing: docs/design/unwinding.md.
  const auto in_throws = samples->of[in_throw].taken.load();
  const auto whole_in_throws = samples->of[in_throw].whole.load();
  EXPECT_LE(in_throws - whole_in_throws, 5 + in_throws / 50) << describe(samples->first_failure);
  EXPECT_GE(static_cast<double>(whole - whole_in_throws), 0.999 * static_cast<double>(taken - in_throws))
      << describe(samples->first_failure);
}

// The way of dumps: another thread asks for a goroutine's stack.
TEST_P(CaptureStorm, AskedForByAnotherThread) {
  if (signals_come_late()) GTEST_SKIP() << "ThreadSanitizer delivers signals late";
  const std::uint64_t enough = wanted(20'000, 300);
  std::atomic<bool> over{false};
  std::uint64_t parked = 0, running = 0, whole = 0, gone = 0;
  run(
      [&] {
        observe::install_sampling_signal();
        wait_group all;
        std::vector<task::goroutine*> subjects;
        const auto start = [&](auto step) {
          all.add();
          chan<task::goroutine*> self(1);
          go([&all, &over, self, step] {
            self.send(sched::this_worker()->current);
            while (!over.load(std::memory_order_relaxed)) step();
            all.done();
          });
          subjects.push_back(*self.recv());
        };
        start([] { call_libc(), yield(); });
        start([] { sink = leaf(sink), yield(); });
        start([] { yield(); });
        start([] { allocate(), yield(); });
        std::thread asker([&] {
          const task::registry::reading section(task::the_registry());
          std::array<std::uintptr_t, deepest> pcs{};
          for (std::uint64_t i = 0; i < enough; ++i) {
            const auto c = observe::capture_goroutine(subjects[i % subjects.size()], pcs, {}, 30'000'000'000);
            if (c.source == observe::stack_source::parked) ++parked;
            else if (c.source == observe::stack_source::signal) ++running;
            else ++gone;
            whole += c.walk.end == walk_end::entry && is_entry(pcs[c.walk.frames - 1]);
          }
          over.store(true);
        });
        all.wait();
        asker.join();
      },
      {.procs = GetParam()});
  std::printf("asked %lu times: parked or runnable %lu, running %lu, to the entry %lu\n", enough, parked, running, whole);
  EXPECT_EQ(gone, 0U);
  EXPECT_GE(static_cast<double>(whole), 0.999 * static_cast<double>(enough));
  EXPECT_GT(running, 0U);
}

}  // namespace
}  // namespace tuco
