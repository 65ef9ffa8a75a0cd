// SPDX-License-Identifier: Apache-2.0
// The checker is checked: the textbook shapes, right and wrong. If one of the wrong ones passed, a
// green model in this folder would mean nothing.
//
// MUTANTS: store_buffering_bare store_buffering_acq_rel store_buffering_light message_relaxed message_no_acquire release_sequence lost_wake_up
#include "model.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct no_fence {
  static void here() {}
};
struct full {
  static void here() { atomics::full_fence(); }
};
struct light {
  static void here() { membarrier_fences::light_fence(); }
};
struct heavy {
  static void here() { membarrier_fences::heavy_fence(); }
};

// Each thread stores its word and loads the other's. With fences one of them sees.
template <class Left, class Right, order Store, order Load>
struct store_buffering : rl::test_suite<store_buffering<Left, Right, Store, Load>, 2> {
  static constexpr const char* goals[] = {"left misses", "right misses"};
  atomic<int> word[2] = {0, 0};
  int seen[2] = {};

  void thread(unsigned me) {
    word[me].store(1, Store);
    if (me == 0) {
      Left::here();
    } else {
      Right::here();
    }
    seen[me] = word[1 - me].load(Load);
  }

  void after() {
    if (seen[0] == 0) reached(0);
    if (seen[1] == 0) reached(1);
    MODEL_ASSERT(seen[0] == 1 || seen[1] == 1);
  }
};

// Data, then a flag.
template <order Store, order Load>
struct message : rl::test_suite<message<Store, Load>, 2> {
  static constexpr const char* goals[] = {"received"};
  var<int> data{0};
  atomic<int> flag{0};

  void thread(unsigned me) {
    if (me == 0) {
      data.set(7);
      flag.store(1, Store);
    } else if (flag.load(Load) == 1) {
      MODEL_ASSERT(data.get() == 7);
      reached(0);
    }
  }
};

// A release store, then a second store by the same thread. Since C++20 who reads the second one has
// not synchronised with the first, unless it is a release store or a read-modify-write.
enum class second { relaxed_store, release_store, relaxed_rmw };
template <second How>
struct release_sequence : rl::test_suite<release_sequence<How>, 2> {
  static constexpr const char* goals[] = {"saw the second value"};
  var<int> data{0};
  atomic<int> flag{0};

  void thread(unsigned me) {
    if (me == 0) {
      data.set(7);
      flag.store(1, order::release);
      if (How == second::relaxed_store) flag.store(2, order::relaxed);
      if (How == second::release_store) flag.store(2, order::release);
      if (How == second::relaxed_rmw) flag.fetch_add(1, order::relaxed);
    } else if (flag.load(order::acquire) == 2) {
      MODEL_ASSERT(data.get() == 7);
      reached(0);
    }
  }
};

// Sleeping without looking again.
template <bool LookAgain>
struct sleeper : rl::test_suite<sleeper<LookAgain>, 2> {
  static constexpr const char* goals[] = {"slept"};
  atomic<int> work{0};
  atomic<int> asleep{0};
  event wake;

  void thread(unsigned me) {
    if (me == 0) {
      work.store(1, order::relaxed);
      atomics::full_fence();
      if (asleep.load(order::relaxed) == 1) wake.post();
    } else {
      if (work.load(order::relaxed) == 1) return;
      asleep.store(1, order::relaxed);
      atomics::full_fence();
      if (LookAgain && work.load(order::relaxed) == 1) return;
      reached(0);
      wake.wait();
    }
  }
};

constexpr auto relaxed = order::relaxed;
constexpr auto acquire = order::acquire;
constexpr auto release = order::release;

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  constexpr budget b{.random = 20'000, .bound = 8};  // all of these are small
  m.correct<store_buffering<full, full, relaxed, relaxed>>("store buffering, full fences", b);
  m.correct<store_buffering<light, heavy, relaxed, relaxed>>("store buffering, membarrier", b);
  m.correct<message<release, acquire>>("message", b);
  m.correct<release_sequence<second::release_store>>("release sequence, release store", b);
  m.correct<release_sequence<second::relaxed_rmw>>("release sequence, relaxed rmw", b);
  m.correct<sleeper<true>>("sleeper", b);
  m.mutant<store_buffering<no_fence, full, relaxed, relaxed>>("store_buffering_bare", b);
  m.mutant<store_buffering<full, no_fence, relaxed, relaxed>>("store_buffering_bare", b);
  m.mutant<store_buffering<no_fence, no_fence, release, acquire>>("store_buffering_acq_rel", b);
  m.mutant<store_buffering<light, light, relaxed, relaxed>>("store_buffering_light", b);
  m.mutant<message<relaxed, acquire>>("message_relaxed", b);
  m.mutant<message<release, relaxed>>("message_no_acquire", b);
  m.mutant<release_sequence<second::relaxed_store>>("release_sequence", b);
  m.mutant<sleeper<false>>("lost_wake_up", b);
  return m.run();
}
