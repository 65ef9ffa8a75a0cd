// SPDX-License-Identifier: Apache-2.0
// queue/run_queue.hpp, the real text, with rings of 2 and 4: each item comes out exactly once, and
// with everything that was written into it.
//
// MUTANTS: push_relaxed look_relaxed take_by_store take_relaxed
//
// The orders are broken from outside, by a policy whose atomics weaken what they are told; so the
// text under test is the one that ships. The argument is at the code.
#include "model.hpp"
#include "queue/run_queue.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool stores_relaxed = false;       // O4: publishing without release
  bool loads_relaxed = false;        // T1, T2: looking without acquire
  bool swaps_by_store = false;       // T4: compare, then store
  bool swaps_relaxed = false;        // T4: taking without release
};

template <bugs B>
struct broken_atomics {
  template <class T>
  class atomic : public model::atomic<T> {
    using base = model::atomic<T>;

   public:
    using base::base;
    T load(order o, where w = where::current()) const {
      return base::load(B.loads_relaxed ? order::relaxed : o, w);
    }
    void store(T v, order o, where w = where::current()) {
      base::store(v, B.stores_relaxed ? order::relaxed : o, w);
    }
    bool compare_exchange_weak(T& expected, T v, order success, order failure,
                               where w = where::current()) {
      return swap(expected, v, success, failure, w);
    }
    bool compare_exchange_strong(T& expected, T v, order success, order failure,
                                 where w = where::current()) {
      return swap(expected, v, success, failure, w);
    }

   private:
    bool swap(T& expected, T v, order success, order failure, where w) {
      if (B.swaps_by_store) {
        const T seen = base::load(order::acquire, w);
        if (seen != expected) {
          expected = seen;
          return false;
        }
        base::store(v, order::release, w);
        return true;
      }
      return base::compare_exchange_weak(expected, v, B.swaps_relaxed ? order::relaxed : success,
                                         failure, w);
    }
  };
  static void full_fence() noexcept { atomics::full_fence(); }
  static void compiler_barrier() noexcept {}
};

struct item {
  var<int> payload{0};
  int taken = 0;  // counted by whoever got it; the checker runs one thread at a time
};

// One owner and its thieves. A thief keeps what it steals in a queue of its own, which the other
// thieves rob as well, so that items travel.
template <bugs B, std::size_t Capacity, int Thieves, int Items>
struct suite : rl::test_suite<suite<B, Capacity, Thieves, Items>, 1 + Thieves> {
  static constexpr const char* goals[] = {"stolen", "the ring was full", "stolen more than one",
                                          "stolen twice over"};
  using queue_type = queue::run_queue<item, broken_atomics<B>, Capacity>;
  queue_type queues[1 + Thieves];
  item items[Items];

  void before() {
    if (Capacity > 2) return;
    reached(2);  // half of two is one
    reached(3);
  }

  void consume(item* it) {
    MODEL_ASSERT(it != nullptr);
    MODEL_ASSERT(it->payload.get() == static_cast<int>(it - items) + 1);
    MODEL_ASSERT(++it->taken == 1);
  }

  void thread(unsigned index) {
    if (index == 0) {
      own();
    } else {
      steal(index);
    }
  }

  void own() {
    queue_type& q = queues[0];
    item* spill[Capacity];
    for (auto& it : items) {
      it.payload.set(static_cast<int>(&it - items) + 1);
      while (!q.push_back(&it)) {
        reached(1);
        const std::size_t n = q.take_half(spill, Capacity);
        for (std::size_t i = 0; i < n; ++i) consume(spill[i]);
      }
      if (choose(3) == 0) {
        if (item* got = q.pop_ring()) consume(got);
      }
    }
    while (item* it = q.pop_ring()) consume(it);
  }

  void steal(unsigned me) {
    for (int i = 0; i < 2; ++i) {
      for (int k = 0; k <= Thieves; ++k) {
        const unsigned victim = (me + static_cast<unsigned>(k) + 1) % (1 + Thieves);
        if (victim == me) continue;
        item* first = nullptr;
        const std::size_t n = queues[victim].steal_into(queues[me], false, first);
        if (n == 0) continue;
        reached(0);
        if (n > 1) reached(2);
        if (victim != 0) reached(3);
        consume(first);
      }
      if (choose(2) == 0) {
        if (item* it = queues[me].pop_ring()) consume(it);
      }
    }
    while (item* it = queues[me].pop_ring()) consume(it);
  }

  void after() {
    for (auto& it : items) MODEL_ASSERT(it.taken == 1);
    for (auto& q : queues) MODEL_ASSERT(q.size() == 0 && q.empty());
  }
};

// The owner laps a thief that has seen an old head or an old tail. A new head beside an old tail would
// make a negative size, and the thief would take what is not there.
template <bugs B>
struct overtaken : rl::test_suite<overtaken<B>, 3> {
  static constexpr const char* goals[] = {"stolen"};
  using queue_type = queue::run_queue<item, broken_atomics<B>, 2>;
  queue_type q;
  queue_type own[2];
  item items[3];

  void thread(unsigned index) {
    if (index == 0) {
      for (auto& it : items) {
        it.payload.set(1);
        while (!q.push_back(&it)) {
          if (item* got = q.pop_ring()) ++got->taken;
        }
      }
      while (item* got = q.pop_ring()) ++got->taken;
    } else {
      item* first = nullptr;
      if (q.steal_into(own[index - 1], false, first) != 0) {
        reached(0);
        MODEL_ASSERT(first->payload.get() == 1);
        ++first->taken;
      }
      MODEL_ASSERT(own[index - 1].size() <= 2);
      while (item* got = own[index - 1].pop_ring()) ++got->taken;
    }
  }

  void after() {
    for (auto& it : items) MODEL_ASSERT(it.taken == 1);
  }
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<suite<bugs{}, 4, 2, 6>>("ring of 4, two thieves");
  m.correct<suite<bugs{}, 2, 2, 4>>("ring of 2, two thieves");
  m.correct<overtaken<bugs{}>>("ring of 2, head overtakes");
  m.mutant<suite<bugs{.stores_relaxed = true}, 4, 2, 6>>("push_relaxed");
  m.mutant<suite<bugs{.loads_relaxed = true}, 4, 2, 6>>("look_relaxed");
  m.mutant<suite<bugs{.swaps_by_store = true}, 4, 2, 6>>("take_by_store");
  m.mutant<overtaken<bugs{.swaps_by_store = true}>>("take_by_store");
  m.mutant<overtaken<bugs{.swaps_relaxed = true}>>("take_relaxed");
  return m.run();
}
