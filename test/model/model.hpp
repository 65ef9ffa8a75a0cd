// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the model programs of this folder share: the model checker's side of the atomic seam
/// (src/base/atomic.hpp) and the driver.
///
/// A model program explores one protocol with Relacy: it runs a few small threads under many
/// schedules, lets loads return old values where the memory model allows it, and reports data races
/// on `model::var`, failed `MODEL_ASSERT`s, deadlocks and livelocks.
///
///     X_model                     the correct protocol; exit 0 if nothing was found, else 1
///     X_model --mutant NAME       a variant that is broken on purpose; exit 1 when found, 0 when not
///     X_model --mutants           names of the mutants, one per line
///     X_model --iterations N      random schedules for each suite instead of the suite's default
///     X_model --first N           number of the first random schedule: its seed
///     X_model --trace             print the failing schedule also for a mutant
///
/// Exit 2 is wrong use. Every program limits its own address space, and its tree searches their
/// time: a state space that explodes ends as a smaller search, not as a dead machine.
///
/// **What the checker does not know**, so what a green model does not prove: loads never read from
/// the future (a store may not overtake an earlier load), a load goes back two values at most (one
/// in tree searches), full fences synchronise with each other even without an atomic between
/// them, and a failed compare-and-swap reads the newest value. Release sequences are C++20's, not
/// C++11's as in Relacy itself: see atomic::store. harness_model.cpp checks the checker.

// Relacy's headers are opened below; what they include must have been read before that.
#include <limits.h>
#include <memory.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <queue>
#include <set>
#include <sstream>
#include <stack>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "base/atomic.hpp"

// The seam needs two things that Relacy keeps to itself: who wrote a value, and the clocks of other
// threads. Its macros (`new`, `assert`, `memory_order_*`) must not outlive its headers.
#define RL_DO_ASSERT 1
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define private public
#define protected public
#include <relacy/relacy.hpp>
#undef private
#undef protected
#ifdef __clang__
#pragma clang diagnostic pop
#endif
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno
#undef VAR

#define MODEL_ASSERT(x) \
  do {                  \
    if (!(x)) ::tuco::model::fail("assertion: " #x); \
  } while (false)

namespace tuco::model {

/// The caller's place, for traces. clang 14 has no std::source_location.
struct where {
  const char* file;
  unsigned line;
  static constexpr where current(const char* file = __builtin_FILE(),
                                 unsigned line = __builtin_LINE()) {
    return {file, line};
  }
};

inline rl::debug_info info(const where& w) { return {"", w.file, w.line}; }

/// Ends the schedule as a failure.
inline void fail(const char* what, where w = where::current()) {
  rl::ctx().fail_test(what, rl::test_result_user_assert_failed, info(w));
}

inline rl::memory_order to_relacy(std::memory_order o) {
  switch (o) {
    case std::memory_order::relaxed: return rl::mo_relaxed;
    case std::memory_order::consume: return rl::mo_consume;
    case std::memory_order::acquire: return rl::mo_acquire;
    case std::memory_order::release: return rl::mo_release;
    case std::memory_order::acq_rel: return rl::mo_acq_rel;
    case std::memory_order::seq_cst: return rl::mo_seq_cst;
  }
  abort();
}

/// What depends on the suite that is running; set by the driver.
struct suite_hooks {
  rl::thread_id_t* (*last_writer)(rl::atomic_data*) = nullptr;
  void (*membarrier)() = nullptr;
};
inline suite_hooks hooks;

/// rl::atomic with the face of std::atomic. T: integer, bool or pointer.
template <class T>
class atomic {
 public:
  atomic() = default;
  atomic(T value) : value_(value) {}  // NOLINT(google-explicit-constructor): as std::atomic
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;

  T load(std::memory_order o, where w = where::current()) const {
    return value_.load(to_relacy(o), info(w));
  }

  void store(T v, std::memory_order o, where w = where::current()) {
    if (o != std::memory_order::relaxed) {
      value_.store(v, to_relacy(o), info(w));
      return;
    }
    // Up to C++17 a relaxed store continued the release sequence of an earlier release store of the
    // same thread, and Relacy still says so. Here the earlier value passes for somebody else's while
    // the store runs, which cuts the sequence (hazards H32). The scheduling point comes first.
    rl::context& c = rl::ctx();
    c.sched();
    c.disable_preemption();
    rl::thread_id_t& writer = *hooks.last_writer(value_.impl_);
    const rl::thread_id_t saved = std::exchange(writer, -1);
    value_.store(v, rl::mo_relaxed, info(w));
    writer = saved;
    c.enable_preemption();
  }

  T exchange(T v, std::memory_order o, where w = where::current()) {
    return value_.exchange(v, to_relacy(o), info(w));
  }
  template <class U>
  T fetch_add(U v, std::memory_order o, where w = where::current()) {
    return value_.fetch_add(static_cast<rl_difference<U>>(v), to_relacy(o), info(w));
  }
  template <class U>
  T fetch_sub(U v, std::memory_order o, where w = where::current()) {
    return value_.fetch_sub(static_cast<rl_difference<U>>(v), to_relacy(o), info(w));
  }
  T fetch_or(T v, std::memory_order o, where w = where::current()) {
    return value_.fetch_or(v, to_relacy(o), info(w));
  }
  T fetch_and(T v, std::memory_order o, where w = where::current()) {
    return value_.fetch_and(v, to_relacy(o), info(w));
  }
  bool compare_exchange_strong(T& expected, T v, std::memory_order success,
                               std::memory_order failure, where w = where::current()) {
    return value_.compare_exchange(rl::bool_t<false>(), expected, v, to_relacy(success),
                                   to_relacy(failure), info(w));
  }
  bool compare_exchange_weak(T& expected, T v, std::memory_order success,
                             std::memory_order failure, where w = where::current()) {
    return value_.compare_exchange(rl::bool_t<true>(), expected, v, to_relacy(success),
                                   to_relacy(failure), info(w));
  }

  /// For invariant() and after(): the newest value, without a scheduling point.
  T peek() const { return value_.debug_value(); }

 private:
  template <class U>
  using rl_difference = typename rl::atomic_add_type<T>::type;

  rl::atomic<T> value_;
};

/// Plain data: a data race on it is an error. A write is a scheduling point (in Relacy it is none):
/// else everything up to the next atomic would happen at one moment, and a fence of another thread
/// that falls into it would order what it does not.
template <class T>
class var {
 public:
  var() = default;
  explicit var(T value) : value_(value) {}
  T get(where w = where::current()) const { return value_.load(info(w)); }
  void set(T v, where w = where::current()) {
    rl::ctx().sched();
    value_.store(v, info(w));
  }
  void add(T v, where w = where::current()) { set(static_cast<T>(get(w) + v), w); }
  T peek() const { return value_.value_; }

 private:
  rl::var<T> value_;
};

/// The seam's policy for models.
struct atomics {
  template <class T>
  using atomic = model::atomic<T>;
  static void full_fence() noexcept {
    rl::atomic_thread_fence(rl::mo_seq_cst, info(where::current()));
  }
  static void compiler_barrier() noexcept {}
};
static_assert(base::atomics_policy<atomics>);

/// The asymmetric pair, two ways. A protocol must hold under both.
///
/// `membarrier` is what the kernel does: the hot side's fence does nothing at all, the cold side
/// fences every other thread at some moment of its own, one after the other. It shows what
/// would rely on two light fences ordering each other.
struct membarrier_fences {
  static void light_fence() noexcept {}
  static void heavy_fence() noexcept { hooks.membarrier(); }
};
/// Both sides a full fence: what a kernel without membarrier gets, and the way to see that the
/// light fence stands in the right place, because here it can be left out.
using full_fences = base::symmetric_fences<atomics>;

static_assert(base::asymmetric_fences<membarrier_fences>);

/// Sleep and wake for models, with the meaning of a binary semaphore: a post before the wait is not
/// lost. Gives acquire and release, as a futex with its word does. A wait that nobody ends is a
/// deadlock, which the checker reports.
class event {
 public:
  void wait(where w = where::current()) { event_.wait(false, false, info(w)); }
  void post(where w = where::current()) { event_.set(info(w)); }

  event() { event_.init(false, false, info(where::current())); }
  ~event() { event_.deinit(info(where::current())); }
  event(const event&) = delete;
  event& operator=(const event&) = delete;

 private:
  rl::generic_event event_;
};

/// A lock for models.
class mutex {
 public:
  void lock(where w = where::current()) { mutex_.lock(info(w)); }
  void unlock(where w = where::current()) { mutex_.unlock(info(w)); }

 private:
  rl::mutex mutex_;
};

/// One turn of a loop that waits for another thread. The checker lets others go first, and no
/// longer offers old values that this thread has had time to see.
inline void spin(where w = where::current()) { rl::yield(1, info(w)); }

/// A choice that the search tries both ways.
inline unsigned choose(unsigned n) { return rl::rand(n); }

/// A suite may name situations that its schedules must get into, as `static constexpr const char*
/// goals[]`; where it gets into number i it calls reached(i). A correct suite whose random schedules
/// miss a goal has proved nothing and fails.
inline std::uint64_t goal_count[8];
inline void reached(unsigned goal) { ++goal_count[goal]; }

struct budget {
  std::uint64_t random = 60'000;   ///< random schedules
  unsigned bound = 2;              ///< preemptions in the tree search; 0: none is made
  double tree_seconds = 0.5;       ///< after which the tree search ends unfinished
};

/// When the running search ends although its scheduler would go on.
struct search_limit {
  std::chrono::steady_clock::time_point until = std::chrono::steady_clock::time_point::max();
  bool cut = false;
};
inline search_limit limit;

class program {
 public:
  program(int argc, char** argv) : name_(argv[0]) {
    if (const auto slash = name_.rfind('/'); slash != std::string::npos) name_.erase(0, slash + 1);
    for (int i = 1; i < argc; ++i) {
      const std::string_view arg = argv[i];
      const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
      if (arg == "--trace") {
        trace_ = true;
      } else if (arg == "--mutants") {
        list_ = true;
      } else if (arg == "--mutant" && value != nullptr) {
        wanted_ = value;
        ++i;
      } else if (arg == "--iterations" && value != nullptr) {
        iterations_ = strtoull(value, nullptr, 0);
        ++i;
      } else if (arg == "--first" && value != nullptr) {
        first_ = strtoull(value, nullptr, 0);
        ++i;
      } else {
        fprintf(stderr,
                "usage: %s [--mutant NAME | --mutants] [--iterations N] [--first N] [--trace]\n",
                name_.c_str());
        exit(2);
      }
    }
    // 2 GiB: the searches of this folder need a tenth of it.
    const rlimit space{std::uint64_t{2} << 30, std::uint64_t{2} << 30};
    setrlimit(RLIMIT_AS, &space);
  }

  /// A suite that must pass.
  template <class Suite>
  void correct(const char* name, budget b = {}) {
    correct_.push_back({name, [this, name, b] { return search<Suite>(name, b); }});
  }

  /// A suite that must fail. Several of one name: each must.
  template <class Suite>
  void mutant(const char* name, budget b = {}) {
    mutants_.push_back({name, [this, name, b] { return search<Suite>(name, b); }});
  }

  int run() {
    if (list_) {
      std::string last;
      for (const auto& m : mutants_) {
        if (m.name != last) puts(m.name);
        last = m.name;
      }
      return 0;
    }
    if (!wanted_.empty()) return run_mutant();
    bool found = false;
    for (const auto& suite : correct_) found = suite.finds_error() || found;
    return found ? 1 : 0;
  }

 private:
  struct entry {
    const char* name;
    std::function<bool()> finds_error;
  };

  int run_mutant() {
    bool known = false;
    bool all_found = true;
    for (const auto& m : mutants_) {
      if (wanted_ != m.name) continue;
      known = true;
      all_found = m.finds_error() && all_found;
    }
    if (!known) {
      fprintf(stderr, "%s: no mutant %s\n", name_.c_str(), wanted_.c_str());
      exit(2);
    }
    if (!all_found) fprintf(stderr, "%s: mutant %s was not found\n", name_.c_str(), wanted_.c_str());
    return all_found ? 1 : 0;
  }

  template <class Scheduler>
  struct limited : Scheduler {
    using Scheduler::Scheduler;
    bool iteration_end() {
      if (Scheduler::iteration_end()) return true;
      if (this->iter_ % 64 == 0 && std::chrono::steady_clock::now() > limit.until) limit.cut = true;
      return limit.cut;
    }
  };

  template <class Suite, class Scheduler>
  static suite_hooks hooks_for() {
    constexpr rl::thread_id_t threads = Suite::params::thread_count;
    using context = rl::context_impl<Suite, Scheduler>;
    return {
        [](rl::atomic_data* data) {
          auto& d = *static_cast<rl::atomic_data_impl<threads>*>(data);
          return &d.history_[d.current_index_ % rl::atomic_history_size].thread_id_;
        },
        [] {
          auto& c = (context&)rl::ctx();  // the base is private: only this cast may
          const auto start = static_cast<rl::thread_id_t>(rl::rand(threads));
          for (rl::thread_id_t i = 0; i != threads; ++i) {
            c.sched();
            auto& me = c.threads_[c.threadx_->index_];
            auto& other = c.threads_[(start + i) % threads];
            if (&me == &other) continue;
            me.atomic_thread_fence_acquire();
            other.atomic_thread_fence_acquire();
            for (rl::thread_id_t j = 0; j != threads; ++j) {
              me.acq_rel_order_[j] = other.acq_rel_order_[j] =
                  std::max(me.acq_rel_order_[j], other.acq_rel_order_[j]);
            }
            me.atomic_thread_fence_release();
            other.atomic_thread_fence_release();
          }
          c.sched();
        }};
  }

  template <class Suite, template <rl::thread_id_t> class Scheduler>
  bool explore(const char* suite, const char* how, rl::scheduler_type_e type, const budget& b) {
    using scheduler = limited<Scheduler<Suite::params::thread_count>>;
    std::ostream silent(nullptr);
    rl::test_params params;
    params.search_type = type;
    params.context_bound = b.bound;
    params.output_stream = &silent;
    params.progress_stream = &silent;
    if (type == rl::random_scheduler_type) {
      params.iteration_count = first_ - 1 + (iterations_ != 0 ? iterations_ : b.random);
      params.initial_state = std::to_string(first_).c_str();
    }
    limit = {};
    const auto start = std::chrono::steady_clock::now();
    if (type != rl::random_scheduler_type) {
      limit.until = start + std::chrono::microseconds(static_cast<long>(b.tree_seconds * 1e6));
    }
    hooks = hooks_for<Suite, scheduler>();
    std::fill(std::begin(goal_count), std::end(goal_count), 0);
    rl::ostringstream state;
    const rl::test_result_e result = rl::run_test<Suite, scheduler>(params, state, false);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    const std::uint64_t count =
        params.stop_iteration - (type == rl::random_scheduler_type ? first_ - 1 : 0);
    if (result == rl::test_result_success) {
      printf("%s: %s: %s: %llu schedules in %.2f s%s, no error\n", name_.c_str(), suite, how,
             static_cast<unsigned long long>(count), took.count(),
             type == rl::random_scheduler_type ? "" : limit.cut ? " (cut off)" : " (all)");
      fflush(stdout);
      return type == rl::random_scheduler_type && wanted_.empty() && misses_goal<Suite>(suite);
    }
    printf("%s: %s: %s: %s at schedule %llu\n", name_.c_str(), suite, how,
           rl::test_result_str(result), static_cast<unsigned long long>(params.stop_iteration));
    fflush(stdout);
    if (trace_ || wanted_.empty()) {
      params.initial_state = state.str();
      params.collect_history = true;
      params.output_stream = &std::cout;
      rl::ostringstream ignored;
      rl::run_test<Suite, scheduler>(params, ignored, true);
      std::cout.flush();
    }
    return true;
  }

  template <class Suite>
  bool misses_goal(const char* suite) {
    bool missed = false;
    if constexpr (requires { Suite::goals[0]; }) {
      for (std::size_t i = 0; i < std::size(Suite::goals); ++i) {
        if (goal_count[i] != 0) continue;
        printf("%s: %s: no schedule reached: %s\n", name_.c_str(), suite, Suite::goals[i]);
        missed = true;
      }
    }
    return missed;
  }

  template <class Suite>
  bool search(const char* suite, const budget& b) {
    if (explore<Suite, rl::random_scheduler>(suite, "random", rl::random_scheduler_type, b)) {
      return true;
    }
    if (b.bound == 0) return false;
    const std::string how = std::to_string(b.bound) + " preemptions";
    return explore<Suite, rl::context_bound_scheduler>(suite, how.c_str(),
                                                       rl::fair_context_bound_scheduler_type, b);
  }

  std::string name_;
  std::string wanted_;
  std::uint64_t iterations_ = 0;
  std::uint64_t first_ = 1;
  bool trace_ = false;
  bool list_ = false;
  std::vector<entry> correct_;
  std::vector<entry> mutants_;
};

}  // namespace tuco::model
