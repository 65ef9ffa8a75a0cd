// SPDX-License-Identifier: Apache-2.0
// The next slot of queue/run_queue.hpp, the real text: its occupant leaves once, whoever wants it, and
// the queue never looks empty while an item moves from the slot to the ring.
//
// MUTANTS: set_relaxed pop_by_store steal_by_store empty_looks_once
//
// The argument is at the code. Orders and looks are broken from outside, as in run_queue_model.cpp.
#include "model.hpp"
#include "queue/run_queue.hpp"

namespace tuco::model {
namespace {

using order = std::memory_order;

struct bugs {
  bool set_relaxed = false;
  bool pop_by_store = false;
  bool steal_by_store = false;
  bool empty_looks_once = false;
};

// Weakens operations on pointers only: head and tail keep their orders. The third look of empty() is
// its one relaxed load, and the only one by the watching thread; without it means: as the second said.
template <bugs B>
struct broken_atomics {
  template <class T>
  class atomic : public model::atomic<T> {
    using base = model::atomic<T>;
    static constexpr bool is_pointer = std::is_pointer_v<T>;

   public:
    using base::base;
    T load(order o, where w = where::current()) const {
      if constexpr (B.empty_looks_once) {
        if (!is_pointer && o == order::relaxed && rl::thread_index() == 1) return seen_;
        return seen_ = base::load(o, w);
      }
      return base::load(o, w);
    }
    void store(T v, order o, where w = where::current()) {
      base::store(v, is_pointer && B.set_relaxed ? order::relaxed : o, w);
    }
    T exchange(T v, order o, where w = where::current()) {
      if (!is_pointer || !B.pop_by_store) {
        return base::exchange(v, is_pointer && B.set_relaxed ? order::relaxed : o, w);
      }
      const T old = base::load(order::acquire, w);
      base::store(v, o, w);
      return old;
    }
    bool compare_exchange_strong(T& expected, T v, order success, order failure,
                                 where w = where::current()) {
      if (!is_pointer || !B.steal_by_store) {
        return base::compare_exchange_strong(expected, v, success, failure, w);
      }
      if (base::load(order::acquire, w) != expected) return false;
      base::store(v, order::release, w);
      return true;
    }

   private:
    mutable T seen_{};
  };
  static void full_fence() noexcept { atomics::full_fence(); }
  static void compiler_barrier() noexcept {}
};

struct item {
  var<int> payload{0};
  int taken = 0;
};

template <bugs B>
using queue_of = queue::run_queue<item, broken_atomics<B>, 4>;

// The owner readies items one after the other, each kicks its predecessor into the ring; it pops
// now and then. Thieves take ring and slot.
template <bugs B, int Thieves, int Items>
struct contended : rl::test_suite<contended<B, Thieves, Items>, 1 + Thieves> {
  static constexpr const char* goals[] = {"stolen from the slot", "kicked to the ring",
                                          "popped from the slot", "a thief was faster"};
  queue_of<B> queues[1 + Thieves];
  item items[Items];

  void consume(item* it) {
    MODEL_ASSERT(it->payload.get() == static_cast<int>(it - items) + 1);
    MODEL_ASSERT(++it->taken == 1);
  }

  void thread(unsigned index) {
    auto& q = queues[0];
    if (index == 0) {
      int in_slot = 0;
      for (auto& it : items) {
        it.payload.set(static_cast<int>(&it - items) + 1);
        ++in_slot;
        if (item* kicked = q.set_next(&it)) {
          reached(1);
          MODEL_ASSERT(q.push_back(kicked));
        } else if (in_slot > 1) {
          reached(3);
        }
        if (choose(3) == 0) {
          const auto got = q.pop();
          if (got.item != nullptr) consume(got.item);
          if (got.inherits) reached(2);
          in_slot = 0;
        }
      }
      for (;;) {
        const auto got = q.pop();
        if (got.item == nullptr) break;
        consume(got.item);
      }
    } else {
      for (int i = 0; i < 2; ++i) {
        item* first = nullptr;
        if (q.steal_into(queues[index], true, first) == 0) continue;
        if (first == &items[Items - 1]) reached(0);
        consume(first);
      }
      while (item* it = queues[index].pop_ring()) consume(it);
    }
  }

  void after() {
    for (auto& it : items) MODEL_ASSERT(it.taken == 1);
    for (auto& q : queues) MODEL_ASSERT(q.empty());
  }
};

// empty() against the move from slot to ring. The owner keeps at least one item in the queue from
// the first store to the last, except for the moments that the header allows.
template <bugs B>
struct watched : rl::test_suite<watched<B>, 2> {
  static constexpr const char* goals[] = {"looked in the middle"};
  queue_of<B> q;
  item items[3];
  bool moving = false;

  void before() { MODEL_ASSERT(q.set_next(&items[0]) == nullptr); }

  void thread(unsigned index) {
    if (index == 0) {
      moving = true;
      item* a = q.set_next(&items[1]);
      MODEL_ASSERT(a == &items[0]);
      MODEL_ASSERT(q.push_back(a));
      const auto b = q.pop();
      MODEL_ASSERT(b.item == &items[1] && b.inherits);
      moving = false;
    } else {
      if (moving) reached(0);
      MODEL_ASSERT(!q.empty());
    }
  }
};

}  // namespace
}  // namespace tuco::model

int main(int argc, char** argv) {
  using namespace tuco::model;
  program m(argc, argv);
  m.correct<contended<bugs{}, 2, 4>>("two thieves");
  m.correct<contended<bugs{}, 1, 2>>("one thief, small", {.bound = 4});
  m.correct<watched<bugs{}>>("empty()", {.bound = 6});
  m.mutant<contended<bugs{.set_relaxed = true}, 2, 4>>("set_relaxed");
  m.mutant<contended<bugs{.pop_by_store = true}, 2, 4>>("pop_by_store");
  m.mutant<contended<bugs{.steal_by_store = true}, 2, 4>>("steal_by_store");
  m.mutant<watched<bugs{.empty_looks_once = true}>>("empty_looks_once");
  return m.run();
}
