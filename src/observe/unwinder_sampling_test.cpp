// SPDX-License-Identifier: Apache-2.0
// unwinder_sampling_test.cpp - a capture at any instruction reaches the outermost frame: in leaf
// functions, prologues and epilogues, libc, libstdc++, the unwinder of exceptions, the dynamic
// linker, and while the tables themselves are being replaced.
//
// TUCO_TEST_CAPTURES sets how many random moments are sampled: 20,000 unless set, about 2 s, and 200,000
// with TUCO_STRESS=full.
#include <dlfcn.h>
#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "observe/cfi_table.hpp"
#include "observe/test_stack.hpp"
#include "observe/unwinder.hpp"

namespace tuco::inline v1::observe {
namespace {

constexpr std::size_t max_frames = 256;

struct failure {
  walk_result result;
  std::array<std::uintptr_t, 4> pcs;
};

struct sampler {
  stack_bounds stack;
  std::atomic<std::uint64_t> taken{0};
  std::atomic<std::uint64_t> complete{0};
  std::atomic<std::uint64_t> elsewhere{0};
  std::array<failure, 64> failures{};
  std::atomic<std::size_t> failed{0};
  timer_t timer{};
  std::uint64_t random = 88172645463325252ULL;
  std::array<std::atomic<std::uintptr_t>, 16384> leaves{};
};

// One sampler at a time; handlers find it here.
std::atomic<sampler*> active{nullptr};

void arm(sampler& s) {
  s.random ^= s.random << 13;
  s.random ^= s.random >> 7;
  s.random ^= s.random << 17;
  itimerspec next{};
  next.it_value.tv_nsec = 30'000 + static_cast<long>(s.random % 60'000);
  ::timer_settime(s.timer, 0, &next, nullptr);
}

void on_sample(int, siginfo_t*, void* context) {
  const int saved_errno = errno;
  sampler* const s = active.load(std::memory_order_acquire);
  if (s != nullptr) {
    const register_state from = from_ucontext(context);
    if (from.sp >= s->stack.low && from.sp < s->stack.high) {
      std::array<std::uintptr_t, max_frames> pcs;
      const walk_result r = capture(from, s->stack, pcs, true);
      const auto n = s->taken.fetch_add(1, std::memory_order_relaxed);
      s->leaves[n % s->leaves.size()].store(from.pc, std::memory_order_relaxed);
      // Complete means: ended at the base, and the base is the one that this stack has.
      if (r.end == walk_end::entry && (pcs[r.frames - 1] == base_pc() || r.frames == 1)) {
        s->complete.fetch_add(1, std::memory_order_relaxed);
      } else {
        const auto slot = s->failed.fetch_add(1, std::memory_order_relaxed);
        if (slot < s->failures.size()) {
          failure& f = s->failures[slot];
          f.result = r;
          for (std::size_t i = 0; i < f.pcs.size(); ++i) f.pcs[i] = i < r.frames ? pcs[i] : 0;
        }
      }
    } else {
      s->elsewhere.fetch_add(1, std::memory_order_relaxed);
    }
    arm(*s);
  }
  errno = saved_errno;
}

/// Interrupts the calling thread every 30 to 90 us while alive.
class sampling {
 public:
  explicit sampling(sampler& s) : sampler_(s) {
    signal_stack_.resize(64 * 1024);
    stack_t alternate{};
    alternate.ss_sp = signal_stack_.data();
    alternate.ss_size = signal_stack_.size();
    ::sigaltstack(&alternate, nullptr);
    struct sigaction action {};
    action.sa_sigaction = on_sample;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    ::sigaction(SIGRTMIN + 3, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGRTMIN + 3;
    event._sigev_un._tid = static_cast<pid_t>(::syscall(SYS_gettid));
    EXPECT_EQ(::timer_create(CLOCK_MONOTONIC, &event, &s.timer), 0);
    active.store(&s, std::memory_order_release);
    arm(s);
  }
  sampling(const sampling&) = delete;
  ~sampling() {
    active.store(nullptr, std::memory_order_release);
    ::timer_delete(sampler_.timer);
    ::signal(SIGRTMIN + 3, SIG_IGN);
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    ::sigaltstack(&none, nullptr);
  }

 private:
  sampler& sampler_;
  std::vector<char> signal_stack_;
};

std::uint64_t captures_wanted(std::uint64_t fallback) {
  const char* stress = std::getenv("TUCO_STRESS");
  if (stress != nullptr && std::strcmp(stress, "full") == 0) fallback *= 10;
  const char* text = std::getenv("TUCO_TEST_CAPTURES");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : fallback;
}

std::string describe(const sampler& s) {
  std::ostringstream out;
  const std::size_t n = std::min(s.failed.load(), s.failures.size());
  for (std::size_t i = 0; i < n && i < 10; ++i) {
    const failure& f = s.failures[i];
    out << "\n  end " << static_cast<int>(f.result.end) << " after " << f.result.frames << ":";
    for (const std::uintptr_t pc : f.pcs) {
      void* address = reinterpret_cast<void*>(pc);
      char** name = backtrace_symbols(&address, 1);
      out << ' ' << (name != nullptr ? name[0] : "?");
      std::free(static_cast<void*>(name));
    }
  }
  return out.str();
}

// --- what runs while it is being sampled ------------------------------------------------------

volatile unsigned sink;

[[gnu::noinline]] unsigned leaf_without_frame(unsigned x) {
  for (int i = 0; i < 300; ++i) x = x * 1664525U + 1013904223U;
  return x;
}

// Mostly prologue and epilogue.
[[gnu::noinline]] unsigned many_calls(unsigned depth, unsigned a, unsigned b) {
  if (depth == 0) return a ^ b;
  return many_calls(depth - 1, b, a + 1) + many_calls(depth - 1, a * 3, b) + depth;
}

struct alignas(64) wide {
  unsigned v[16];
};
[[gnu::noinline]] unsigned realigned_frame(unsigned x) {
  volatile wide w{};
  for (unsigned i = 0; i < 16; ++i) w.v[i] = x + i;
  return w.v[x % 16] + leaf_without_frame(x);
}

[[gnu::noinline]] unsigned dynamic_frame(unsigned x) {
  auto* p = static_cast<unsigned char*>(__builtin_alloca(64 + x % 512));
  std::memset(p, static_cast<int>(x), 64);
  return p[x % 64] + leaf_without_frame(x);
}

[[gnu::noinline]] void throwing(int depth) {
  const std::string held(40, 'x');
  if (depth == 0) throw std::runtime_error(held);
  throwing(depth - 1);
  sink = sink + static_cast<unsigned>(held.size());
}

int by_value(const void* a, const void* b) {
  const auto x = *static_cast<const unsigned*>(a);
  const auto y = *static_cast<const unsigned*>(b);
  return x < y ? -1 : x > y;
}

class workload {
 public:
  void round() {
    sink = leaf_without_frame(sink);
    sink = many_calls(9, sink, 1);
    sink = realigned_frame(sink) + dynamic_frame(sink);
    fill();
    std::sort(values_.begin(), values_.end());
    fill();
    std::qsort(values_.data(), values_.size(), sizeof(values_[0]), by_value);
    for (std::size_t n = 1; n < bytes_.size(); n = n * 3 + 1) {
      std::memcpy(bytes_.data(), other_.data(), n);
      std::memmove(bytes_.data() + 1, bytes_.data(), n - 1);
      sink = sink + static_cast<unsigned>(std::strlen(text_.c_str()));
    }
    std::ostringstream out;
    for (int i = 0; i < 20; ++i) out << i << ' ' << i * 0.37 << '\n';
    char line[128];
    for (int i = 0; i < 10; ++i) std::snprintf(line, sizeof(line), "%.17g %s %d", i / 3.0, "x", i);
    for (int depth = 0; depth < 4; ++depth) {
      try {
        throwing(depth);
      } catch (const std::exception& e) {
        sink = sink + static_cast<unsigned>(std::strlen(e.what()));
      }
    }
    for (std::size_t n = 1; n < 20'000; n = n * 2 + 1) {
      void* p = std::malloc(n);
      sink = sink + (p != nullptr);
      std::free(p);
    }
    sink = sink + static_cast<unsigned>(std::pow(1.0 + sink % 7, 0.3) + std::sin(sink));
    const timespec moment{0, 20'000};
    ::nanosleep(&moment, nullptr);
  }

 private:
  void fill() {
    for (auto& v : values_) v = static_cast<unsigned>(random_() % 1000);
  }
  std::minstd_rand random_;
  std::vector<unsigned> values_ = std::vector<unsigned>(300);
  std::vector<char> bytes_ = std::vector<char>(100'000);
  std::vector<char> other_ = std::vector<char>(100'000);
  std::string text_ = std::string(500, 'x');
};

class UnwinderSampling : public ::testing::Test {
 protected:
  void SetUp() override { refresh_unwind_tables(); }
};

/// Samples `run` on a goroutine's stack until enough was seen; most of it must be whole.
template <class F>
void expect_complete(F run, std::uint64_t wanted, double share, std::size_t distinct_leaves) {
  test_stack stack;
  auto s = std::make_unique<sampler>();
  s->stack = stack.bounds();
  {
    const sampling on(*s);
    stack.call([&] {
      while (s->taken.load(std::memory_order_relaxed) < wanted) run();
    });
  }
  std::set<std::uintptr_t> distinct;
  for (const auto& leaf : s->leaves) distinct.insert(leaf.load());
  std::printf("captures %llu, complete %llu, distinct leaf pcs %zu%s\n",
              static_cast<unsigned long long>(s->taken.load()),
              static_cast<unsigned long long>(s->complete.load()), distinct.size(),
              describe(*s).c_str());
  EXPECT_GE(static_cast<double>(s->complete), share * static_cast<double>(s->taken));
  // A sampler stuck at one place would prove nothing.
  EXPECT_GT(distinct.size(), distinct_leaves);
}

TEST_F(UnwinderSampling, RandomMomentsReachTheBaseFrame) {
  workload w;
  expect_complete([&] { w.round(); }, captures_wanted(20'000), 0.999, 500);
}

// The sampled code is the refresh and the dynamic linker itself: a handler that took a lock or
// allocated would hang here, and one that read a retired table would fault. The share is lower: a
// library's own initializer runs before any refresh can have seen the library.
TEST_F(UnwinderSampling, RandomMomentsWhileLibrariesComeAndGo) {
  std::uint64_t loads = 0;
  expect_complete(
      [&] {
        void* const handle = ::dlopen("libthread_db.so.1", RTLD_LAZY | RTLD_LOCAL);
        if (handle != nullptr) ++loads;
        refresh_unwind_tables();
        if (handle != nullptr) ::dlclose(handle);
        refresh_unwind_tables();
      },
      captures_wanted(20'000) / 4, 0.99, 100);
  EXPECT_GT(loads, 100U);
  EXPECT_EQ(unwind_stats().retired_sets, 0U);
}

}  // namespace
}  // namespace tuco::inline v1::observe
